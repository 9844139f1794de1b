#include "waited_descriptors.h"

#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/runtime/allowed_calls.h"
#include "agent/runtime/foreign_text.h"
#include "agent/runtime/task_files.h"

enum { LISTED_MAX = 8 /* descriptors of one set */, PATH_SIZE = 64 };

struct line {
  char *text;
  size_t size, used;
  unsigned listed;
};

__attribute__((format(printf, 2, 3))) static void add(struct line *line, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(line->text + line->used, line->size - line->used, format, arguments);
  va_end(arguments);
  if (length > 0)
    line->used +=
        (size_t)length < line->size - line->used ? (size_t)length : line->size - line->used - 1;
}

/* What it is: the link in the thread's own table, which is nearly always the host's. A long path
 * keeps its end. */
static void add_descriptor(struct line *line, int32_t tid, int32_t descriptor) {
  enum { TARGET_MAX = 4096, SHOWN_MAX = 64 };
  char path[PATH_SIZE], target[TARGET_MAX];
  add(line, "fd %d", (int)descriptor);
  snprintf(path, sizeof path, "fd/%d", (int)descriptor);
  int task = descriptor < 0 || allowed_calls_lack(CALLS_PATHS) ? -1 : task_open(tid);
  ssize_t length = task < 0 ? -1 : readlinkat(task, path, target, sizeof target - 1);
  if (task >= 0) close(task);
  if (length <= 0) return;
  target[length] = 0;
  foreign_text_clean(target);
  length = (ssize_t)strlen(target);
  const char *shown = target;
  if (length > SHOWN_MAX) {
    shown = target + length - SHOWN_MAX;
    while (((unsigned char)*shown & 0xc0) == 0x80) shown++; /* not into the midst of a character */
  }
  add(line, " (%s%s)", shown == target ? "" : "...", shown);
}

/* False: enough. */
static bool add_listed(struct line *line, int32_t descriptor) {
  if (line->listed++ == LISTED_MAX) {
    add(line, " ...");
    return false;
  }
  add(line, " %d", (int)descriptor);
  return true;
}

void waited_descriptor_describe(int32_t tid, int32_t descriptor, char *text, size_t size) {
  struct line line = {text, size, 0, 0};
  text[0] = 0;
  add_descriptor(&line, tid, descriptor);
}

void waited_epoll_describe(int32_t tid, int32_t descriptor, char *text, size_t size) {
  enum { INFO_MAX = 1024 }; /* more than LISTED_MAX lines; a set may have a hundred thousand */
  struct line line = {text, size, 0, 0};
  char path[PATH_SIZE];
  text[0] = 0;
  add_descriptor(&line, tid, descriptor);
  snprintf(path, sizeof path, "fdinfo/%d", (int)descriptor);
  char info[INFO_MAX];
  int task = task_open(tid);
  ssize_t got = task >= 0 ? task_file_read(task, path, info, sizeof info) : -1;
  if (task >= 0) close(task);
  if (got <= 0) return;
  for (const char *at = strstr(info, "tfd:"); at; at = strstr(at, "tfd:")) {
    at += sizeof "tfd:" - 1;
    if (!strchr(at, '\n')) break; /* cut */
    if (line.listed == 0) add(&line, " watching");
    if (!add_listed(&line, (int32_t)strtol(at, NULL, 10))) return;
  }
}

void waited_poll_describe(int32_t tid, struct memory_reader *memory, uint64_t array, uint64_t count,
                          char *text, size_t size) {
  struct line line = {text, size, 0, 0};
  struct pollfd entry;
  text[0] = 0;
  if (count == 1) { /* as most are */
    if (memory_reader_read(memory, array, &entry, sizeof entry))
      add_descriptor(&line, tid, entry.fd);
    return;
  }
  for (uint64_t i = 0;
       i < count && memory_reader_read(memory, array + i * sizeof entry, &entry, sizeof entry);
       i++) {
    if (entry.fd < 0) continue;
    if (line.listed == 0) add(&line, "fds");
    if (!add_listed(&line, entry.fd)) return;
  }
}

void waited_select_describe(struct memory_reader *memory, uint64_t highest, const uint64_t sets[3],
                            char *text, size_t size) {
  enum { BITS = 64, DESCRIPTORS_MAX = 1024 };
  struct line line = {text, size, 0, 0};
  text[0] = 0;
  for (uint64_t first = 0; first < highest && first < DESCRIPTORS_MAX; first += BITS) {
    uint64_t any = 0;
    for (int i = 0; i < 3; i++) {
      uintptr_t word;
      if (sets[i] && memory_reader_word(memory, sets[i] + first / 8, &word)) any |= word;
    }
    for (unsigned bit = 0; bit < BITS && first + bit < highest; bit++) {
      if (!(any >> bit & 1)) continue;
      if (line.listed == 0) add(&line, "fds");
      if (!add_listed(&line, (int32_t)(first + bit))) return;
    }
  }
}

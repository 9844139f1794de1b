/* What deadlocks.h found, in words. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "deadlocks.h"

enum { SHOWN_MAX = 12 };

struct line {
  char *text;
  size_t used;
};

__attribute__((format(printf, 2, 3))) static void add(struct line *line, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  size_t left = DEADLOCK_LINE_MAX - line->used;
  int length = vsnprintf(line->text + line->used, left, format, arguments);
  va_end(arguments);
  line->used += length > 0 ? (size_t)length : 0;
  if (line->used >= DEADLOCK_LINE_MAX) line->used = DEADLOCK_LINE_MAX - 1;
}

void deadlock_describe_need(const struct dumped_thread *thread, char out[DEADLOCK_NEED_MAX]) {
  enum { size = DEADLOCK_NEED_MAX };
  const struct thread_need *need = &thread->need;
  bool itself = need->holder == thread->tid, ended = thread->stuck == STUCK_AT_END;
  char holder[32];
  snprintf(holder, sizeof holder, "%" PRId32, need->holder);
  if (need->kind == NEED_END)
    snprintf(out, size, "the end of thread %s%s", itself ? "itself" : holder,
             ended ? ", which this process does not have" : "");
  else if (need->kind == NEED_REFUSED)
    snprintf(out, size,
             "a mutex that inherits priority, refused by the kernel: that would be a "
             "deadlock, or its holder has ended");
  else
    snprintf(out, size, "%s 0x%" PRIx64 " held by %s%s",
             need->kind == NEED_RWLOCK ? "read-write lock" : "mutex", need->object,
             itself ? "itself" : holder, ended ? ", which has ended" : "");
}

static void describe_wait(struct line *line, const struct dumped_thread *thread) {
  char wait[DEADLOCK_NEED_MAX];
  deadlock_describe_need(thread, wait);
  add(line, "%" PRId32 " (", thread->tid);
  for (const char *c = thread->name; *c; c++) add(line, "%c", *c >= ' ' && *c < 0x7f ? *c : '?');
  add(line, ") waits for %s", wait);
}

static const struct dumped_thread *find(const struct thread_dump *dump, int32_t tid) {
  for (size_t i = 0; i < dump->count; i++)
    if (dump->threads[i].tid == tid) return &dump->threads[i];
  return NULL;
}

static const struct dumped_thread *first_of(const struct thread_dump *dump, uint32_t deadlock) {
  for (size_t i = 0; i < dump->count; i++)
    if (dump->threads[i].deadlock == deadlock && dump->threads[i].stuck != STUCK_BEHIND)
      return &dump->threads[i];
  return NULL;
}

void deadlock_describe(const struct thread_dump *dump, uint32_t deadlock,
                       char text[DEADLOCK_LINE_MAX]) {
  struct line line = {text, 0};
  text[0] = 0;
  const struct dumped_thread *first = first_of(dump, deadlock), *thread = first;
  unsigned shown = 0, left = 0;
  while (thread) {
    if (shown < SHOWN_MAX) {
      if (shown++) add(&line, "; ");
      describe_wait(&line, thread);
    } else {
      left++;
    }
    if (thread->stuck != STUCK_IN_CYCLE) break;
    thread = find(dump, thread->need.holder);
    if (thread == first) break;
  }
  if (left) add(&line, "; and %u more", left);
}

bool deadlock_describe_behind(const struct thread_dump *dump, uint32_t deadlock,
                              char text[DEADLOCK_LINE_MAX]) {
  struct line line = {text, 0};
  unsigned shown = 0, left = 0;
  text[0] = 0;
  for (size_t i = 0; i < dump->count; i++) {
    const struct dumped_thread *thread = &dump->threads[i];
    if (thread->deadlock != deadlock || thread->stuck != STUCK_BEHIND) continue;
    if (shown == SHOWN_MAX) left++;
    else add(&line, "%s%" PRId32, shown++ ? ", " : "behind it: ", thread->tid);
  }
  if (left) add(&line, " and %u more", left);
  return shown > 0;
}

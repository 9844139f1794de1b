#include "maps_lines.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/runtime/agent_memory.h"

enum { MAPS_STEP = 1 << 16 };
static const size_t MAPS_LIMIT = 64 << 20;

/* In large steps: each is consistent in itself. */
char *maps_read(void) {
  int descriptor = open("/proc/thread-self/maps", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (descriptor < 0) return NULL;
  size_t capacity = MAPS_STEP, length = 0;
  char *text = agent_malloc(capacity + 1);
  while (text != NULL) {
    ssize_t got = read(descriptor, text + length, capacity - length);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) length = 0;
    if (got <= 0) break;
    length += (size_t)got;
    if (capacity - length >= MAPS_STEP / 2 || capacity >= MAPS_LIMIT) continue;
    char *grown = agent_realloc(text, 2 * capacity + 1);
    if (grown == NULL) {
      agent_free(text);
      text = NULL;
    } else {
      text = grown;
      capacity *= 2;
    }
  }
  close(descriptor);
  if (text != NULL && length == 0) {
    agent_free(text);
    text = NULL;
  }
  if (text != NULL) text[length] = '\0';
  return text;
}

static bool read_hex(char **at, char end, uint64_t *value) {
  char *p = *at;
  for (*value = 0;; p++) {
    if (*p >= '0' && *p <= '9') *value = *value << 4 | (uint64_t)(*p - '0');
    else if (*p >= 'a' && *p <= 'f') *value = *value << 4 | (uint64_t)(*p - 'a' + 10);
    else break;
  }
  if (*p != end) return false;
  *at = p + 1;
  return true;
}

bool maps_line_parse(char *at, struct maps_line *line) {
  uint64_t major, minor;
  if (!read_hex(&at, '-', &line->start) || !read_hex(&at, ' ', &line->limit) || strlen(at) < 5)
    return false;
  line->executable = at[2] == 'x';
  at += 5;
  if (!read_hex(&at, ' ', &line->offset) || !read_hex(&at, ':', &major) ||
      !read_hex(&at, ' ', &minor))
    return false;
  line->device = makedev((unsigned)major, (unsigned)minor);
  for (line->inode = 0; *at >= '0' && *at <= '9'; at++)
    line->inode = line->inode * 10 + (ino_t)(*at - '0');
  while (*at == ' ') at++;
  line->path = at;
  return line->limit > line->start;
}

bool maps_strip_deleted(char *path) {
  static const char mark[] = " (deleted)";
  size_t length = strlen(path);
  if (path[0] != '/' || length < sizeof mark ||
      strcmp(path + length - (sizeof mark - 1), mark) != 0)
    return false;
  path[length - (sizeof mark - 1)] = '\0';
  return true;
}

bool maps_is_no_file(const char *path) {
  static const char *const prefixes[] = {"/memfd:",        "/dev/zero", "/SYSV", "//anon",
                                         "/anon_hugepage", "/i915",     "/drm"};
  if (path[0] != '/') return true;
  for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
    if (strncmp(path, prefixes[i], strlen(prefixes[i])) == 0) return true;
  return false;
}

#include "request_process.h"

#include <string.h>

#include "connection_inbox.h"

int http_path_process(const char *path, const char **rest) {
  enum { PID_MAX_LIMIT = 4 * 1024 * 1024 };
  static const char start[] = "/pid/";
  int pid = 0;
  if (strncmp(path, start, sizeof(start) - 1) != 0) return 0;
  const char *at = path + sizeof(start) - 1;
  if (*at == '0') return 0;
  for (; *at >= '0' && *at <= '9'; at++)
    if ((pid = pid * 10 + (*at - '0')) > PID_MAX_LIMIT) return 0;
  if (*at && *at != '/') return 0;
  *rest = *at ? at : "/";
  return pid;
}

bool request_process_find(const char *bytes, size_t size, int *pid) {
  char target[INBOX_PREFIX_MAX + 1];
  const char *end = memchr(bytes, ' ', size), *rest;
  *pid = 0;
  if (!end) return memchr(bytes, '\n', size) != NULL;
  size_t length = size - (size_t)(++end - bytes), used;
  if (length > INBOX_PREFIX_MAX) length = INBOX_PREFIX_MAX;
  memcpy(target, end, length);
  target[length] = 0;
  used = strcspn(target, " ?\r\n");
  if (strncmp(target, "/pid/", used < 5 ? used : 5) != 0) return true;
  if (used == length && (used < 5 || !strchr(target + 5, '/'))) return false;
  target[used] = 0;
  *pid = http_path_process(target, &rest);
  return true;
}

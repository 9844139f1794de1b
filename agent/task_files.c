#include "task_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int task_open(int32_t tid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%d", (int)tid);
  return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

int task_file_open(int task, const char *name) { return openat(task, name, O_RDONLY | O_CLOEXEC); }

ssize_t task_file_read_again(int fd, char *text, size_t size) {
  ssize_t got;
  do {
    got = pread(fd, text, size - 1, 0);
  } while (got < 0 && errno == EINTR);
  text[got > 0 ? got : 0] = 0;
  return got;
}

ssize_t task_file_read(int task, const char *name, char *text, size_t size) {
  text[0] = 0;
  int fd = task_file_open(task, name);
  if (fd < 0) return -1;
  ssize_t got = task_file_read_again(fd, text, size);
  int error = errno;
  close(fd);
  errno = error;
  return got;
}

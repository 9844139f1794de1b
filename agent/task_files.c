#include "task_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "process_info.h"

bool task_is_alive(int32_t tid) {
  if (syscall(SYS_tgkill, getpid(), tid, 0) != 0 && errno == ESRCH) return false;
  char here = 0, copy; /* a first thread that has ended keeps its number, but has no memory */
  struct iovec to = {&copy, 1}, from = {&here, 1};
  return process_vm_readv(tid, &to, 1, &from, 1, 0) == 1 || errno != ESRCH;
}

int task_open(int32_t tid) {
  char path[64] = "/proc/thread-self";
  if (tid) {
    if (proc_fault()) return -1;
    snprintf(path, sizeof path, "/proc/self/task/%d", (int)tid);
  }
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

#include "task_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "agent_lock.h"
#include "agent_memory.h"
#include "allowed_calls.h"
#include "process_info.h"

bool task_is_alive(int32_t tid) {
  if (syscall(SYS_tgkill, getpid(), tid, 0) != 0 && errno == ESRCH) return false;
  if (allowed_calls_lack(CALLS_READING)) return true; /* for all that is known */
  char here = 0, copy; /* a first thread that has ended keeps its number, but has no memory */
  struct iovec to = {&copy, 1}, from = {&here, 1};
  return process_vm_readv(tid, &to, 1, &from, 1, 0) == 1 || errno != ESRCH;
}

/* ---- numbers ---- */

static struct agent_lock numbers_lock;
static struct task_number *numbers; /* this and the next: under the lock */
static size_t number_count;

void task_numbers_keep(struct task_number *next, size_t count) {
  agent_lock_take(&numbers_lock);
  struct task_number *before = numbers;
  numbers = next;
  number_count = count;
  agent_lock_release(&numbers_lock);
  agent_free(before);
}

static int32_t number_in_proc(int32_t here) {
  int32_t found = 0;
  agent_lock_take(&numbers_lock);
  for (size_t i = 0; i < number_count && !found; i++)
    if (numbers[i].here == here) found = numbers[i].in_proc;
  agent_lock_release(&numbers_lock);
  return found;
}

static int open_numbered(int32_t in_proc) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%d", (int)in_proc);
  return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* NSpid: its numbers from the namespace of /proc inwards; its own is the last. */
int32_t task_number_here(int32_t in_proc) {
  enum { STATUS_MAX = 4096 };
  static const char name[] = "\nNSpid:";
  char status[STATUS_MAX];
  int task = open_numbered(in_proc);
  if (task < 0) return 0;
  const char *at =
      task_file_read(task, "status", status, sizeof status) > 0 ? strstr(status, name) : NULL;
  close(task);
  if (!at) return 0;
  at += sizeof name - 1;
  long here = 0;
  for (char *end; *at == '\t'; at = end) here = strtol(at + 1, &end, 10);
  return (int32_t)here;
}

/* ---- files ---- */

int task_open(int32_t tid) {
  if (tid == 0) return open("/proc/thread-self", O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (!proc_numbers_differ()) return open_numbered(tid);
  int32_t in_proc = number_in_proc(tid);
  int task = in_proc ? open_numbered(in_proc) : -1;
  if (task < 0 || task_number_here(in_proc) == tid) return task;
  close(task); /* that number is another thread's by now */
  return -1;
}

int task_file_open(int task, const char *name) {
  return openat(task, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
}

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

void task_read_name(int task, char *name, size_t size) {
  ssize_t got = task_file_read(task, "comm", name, size);
  while (got > 0 && name[got - 1] == '\n') got--;
  name[got > 0 ? got : 0] = 0;
}

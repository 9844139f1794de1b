#include "process_info.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>
#include <unistd.h>

#include "agent_memory.h"
#include "own_memory.h"
#include "shim/base/at_fork.h"

#define SECOND INT64_C(1000000000)
enum { COMMAND_LINE_LIMIT = 4 * 1024 * 1024, STAT_LIMIT = 8192 };

char *process_read_file(const char *path, size_t limit, size_t *size) {
  /* After a chroot anybody may have made what is at that path: a fifo must not make it wait. */
  int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return NULL;
  size_t capacity = 4096, used = 0;
  char *text = agent_malloc(capacity + 1);
  while (text && used < limit) {
    if (used == capacity) {
      char *larger = agent_realloc(text, capacity * 2 + 1);
      if (!larger) break;
      text = larger;
      capacity *= 2;
    }
    ssize_t got = read(fd, text + used, capacity - used);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    used += (size_t)got;
  }
  close(fd);
  if (!text) return NULL;
  if (used > limit) used = limit;
  text[used] = 0;
  *size = used;
  return text;
}

/* The nth field of /proc/self/stat, counted from 1 as in proc(5), for n > 2; 0 when it cannot be
 * read. */
static unsigned long long stat_field(const char *stat, int n) {
  const char *at = stat ? strrchr(stat, ')')
                        : NULL; /* comm may contain anything but is the only field in parentheses */
  for (int field = 2; at && field < n; field++) {
    at = strchr(at, ' ');
    if (at) at++;
  }
  return at ? strtoull(at, NULL, 10) : 0;
}

enum { START_FIELD = 22 };

/* Since the process was created; -1: not known. */
static int64_t age_nanos(const char *stat) {
  unsigned long long start_ticks = stat_field(stat, START_FIELD);
  long ticks = sysconf(_SC_CLK_TCK);
  struct timespec now;
  if (!start_ticks || ticks <= 0 || clock_gettime(CLOCK_BOOTTIME, &now) != 0) return -1;
  int64_t start = (int64_t)(start_ticks / (unsigned long)ticks) * SECOND +
                  (int64_t)(start_ticks % (unsigned long)ticks) * (SECOND / ticks);
  int64_t age = now.tv_sec * SECOND + now.tv_nsec - start;
  return age > 0 ? age : 0;
}

/* ---- what is known without /proc ---- */

/* This process's number in /proc, 0: there is none. */
static long number_in_proc(void) {
  char self[32];
  ssize_t length = readlink("/proc/self", self, sizeof self - 1);
  self[length > 0 ? length : 0] = 0;
  return strtol(self, NULL, 10);
}

const char *proc_fault(void) {
  if (!number_in_proc()) return "/proc cannot be read here, as after a chroot without one";
  int file = open("/proc/self/stat", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (file < 0) return "/proc cannot be opened: no descriptors or no memory left, or not permitted";
  close(file);
  return NULL;
}

bool proc_numbers_differ(void) {
  long number = number_in_proc();
  return number != 0 && number != getpid();
}

extern void
    *__libc_stack_end; /* exported by the loader: the stack pointer at entry, where argc lies */

/* Where the kernel has put the arguments, one after the other; the environment follows. Written at
 * load, so that no thread reads it meanwhile; a forked child has them at the same place. */
static struct {
  uintptr_t start, end;
  long count;
} arguments;

AT_START void process_arguments_remember(void) {
  const uintptr_t *stack = __libc_stack_end; /* argc, the arguments, 0, the environment */
  if (!stack || (long)stack[0] <= 0) return;
  arguments.count = (long)stack[0];
  arguments.start = stack[1];
  uintptr_t last = stack[arguments.count], environment = stack[arguments.count + 2];
  arguments.end = environment ? environment : last + strlen((const char *)last) + 1;
}

/* As /proc/self/cmdline has them, in agent_malloc'ed memory. */
static char *read_arguments(size_t limit, size_t *size) {
  if (arguments.end <= arguments.start) return NULL;
  *size = arguments.end - arguments.start;
  if (*size > limit) *size = limit;
  char *text = agent_malloc(*size + 1);
  if (text && own_memory_read(arguments.start, text, *size) == (ssize_t)*size) {
    text[*size] = 0;
    return text;
  }
  agent_free(text);
  return NULL;
}

const char *process_program_path(void) {
  const char *path = (const char *)getauxval(AT_EXECFN);
  return path ? path : "";
}

/* ---- who it is ---- */

static void read_comm(char comm[PROCESS_COMM_MAX]) {
  size_t size;
  char *text = process_read_file("/proc/self/comm", PROCESS_COMM_MAX - 1, &size);
  if (text) {
    while (size > 0 && text[size - 1] == '\n') size--;
    memcpy(comm, text, size);
    agent_free(text);
    return;
  }
  enum { COMM_AT_EXEC = 15 };
  const char *path = process_program_path(), *slash = strrchr(path, '/');
  strncpy(comm, slash ? slash + 1 : path, COMM_AT_EXEC);
}

static _Atomic int64_t earliest_start; /* 0: not known yet; of any thread, which all find the same
                                          but for the clock's steps */

/* Since the process was created; below 0: not known. */
static double uptime_seconds(const char *stat) {
  int64_t age = age_nanos(stat);
  int64_t start = atomic_load_explicit(&earliest_start, memory_order_relaxed);
  struct timespec now;
  if (age < 0 && start != 0 && clock_gettime(CLOCK_REALTIME, &now) == 0)
    age = now.tv_sec * SECOND + now.tv_nsec - start;
  return age < 0 ? -1 : (double)age / 1e9;
}

void process_identity_read(struct process_identity *out) {
  memset(out, 0, sizeof *out);
  out->pid = getpid();
  int parent = getppid(); /* a filter may answer with an error, for which libc has no place */
  out->parent = parent > 0 ? parent : 0;
  read_comm(out->comm);
  size_t size;
  char *stat = process_read_file("/proc/self/stat", STAT_LIMIT, &size);
  out->threads = (unsigned)stat_field(stat, 20);
  out->uptime_seconds = uptime_seconds(stat);
  agent_free(stat);
}

uint64_t process_start_ticks(void) {
  size_t size;
  char *stat = process_read_file("/proc/self/stat", STAT_LIMIT, &size);
  uint64_t ticks = stat_field(stat, START_FIELD);
  agent_free(stat);
  return ticks;
}

int64_t process_start_nanos(void) {
  size_t size;
  struct timespec now;
  char *stat = process_read_file("/proc/self/stat", STAT_LIMIT, &size);
  int64_t age = age_nanos(stat);
  int64_t known = atomic_load_explicit(&earliest_start, memory_order_relaxed);
  agent_free(stat);
  if (age < 0 || clock_gettime(CLOCK_REALTIME, &now) != 0) return known;
  int64_t start = now.tv_sec * SECOND + now.tv_nsec - age;
  if (known != 0 && known <= start) return known;
  atomic_store_explicit(&earliest_start, start, memory_order_relaxed);
  return start;
}

/* The number after "Name:" in /proc/self/status, in KiB, as bytes; -1: not there. */
static int64_t status_bytes(const char *status, const char *name) {
  const char *at = status ? strstr(status, name) : NULL;
  return at ? (int64_t)strtoull(at + strlen(name), NULL, 10) * 1024 : -1;
}

void process_memory_read(struct process_memory *out) {
  size_t size;
  char *status = process_read_file("/proc/thread-self/status", STAT_LIMIT, &size);
  out->rss_bytes = status_bytes(status, "\nVmRSS:");
  out->max_rss_bytes = status_bytes(status, "\nVmHWM:"); /* ru_maxrss is also of before an exec */
  int64_t data = status_bytes(status, "\nVmData:"), stack = status_bytes(status, "\nVmStk:");
  out->data_bytes = data < 0 || stack < 0 ? -1 : data + stack;
  agent_free(status);
}

char *process_command_line(size_t *size) {
  char *text = process_read_file("/proc/thread-self/cmdline", COMMAND_LINE_LIMIT, size);
  if (!text) text = read_arguments(COMMAND_LINE_LIMIT, size);
  if (!text) return NULL; /* an empty one would look like a program without arguments */
  long ends = 0;
  for (size_t i = 0; i < *size; i++) ends += text[i] == 0;
  /* Untouched, every argument ends in its own NUL, and the last may be empty. A rewritten title is
   * padded with NULs instead. */
  if (ends > 0 && ends == arguments.count && text[*size - 1] == 0) (*size)--;
  else
    while (*size > 0 && text[*size - 1] == 0) (*size)--;
  text[*size] = 0;
  return text;
}

#include "process_info.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "agent_memory.h"

#define SECOND INT64_C(1000000000)
enum { COMMAND_LINE_LIMIT = 4 * 1024 * 1024, STAT_LIMIT = 8192 };

char *process_read_file(const char *path, size_t limit, size_t *size) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
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

/* The nth field of /proc/self/stat, counted from 1 as in proc(5), for n > 2; 0 when it cannot be read. */
static unsigned long long stat_field(const char *stat, int n) {
  const char *at = stat ? strrchr(stat, ')') : NULL; /* comm may contain anything but is the only field in parentheses */
  for (int field = 2; at && field < n; field++) {
    at = strchr(at, ' ');
    if (at) at++;
  }
  return at ? strtoull(at, NULL, 10) : 0;
}

/* Since the process was created; -1: not known. */
static int64_t age_nanos(const char *stat) {
  unsigned long long start_ticks = stat_field(stat, 22);
  long ticks = sysconf(_SC_CLK_TCK);
  struct timespec now;
  if (!start_ticks || ticks <= 0 || clock_gettime(CLOCK_BOOTTIME, &now) != 0) return -1;
  int64_t start = (int64_t)(start_ticks / (unsigned long)ticks) * SECOND +
                  (int64_t)(start_ticks % (unsigned long)ticks) * (SECOND / ticks);
  int64_t age = now.tv_sec * SECOND + now.tv_nsec - start;
  return age > 0 ? age : 0;
}

void process_identity_read(struct process_identity *out) {
  memset(out, 0, sizeof *out);
  out->pid = getpid();
  size_t size;
  char *comm = process_read_file("/proc/self/comm", PROCESS_COMM_MAX - 1, &size);
  if (comm) {
    while (size > 0 && comm[size - 1] == '\n') size--;
    memcpy(out->comm, comm, size);
    agent_free(comm);
  }
  char *stat = process_read_file("/proc/self/stat", STAT_LIMIT, &size);
  int64_t age = age_nanos(stat);
  out->threads = (unsigned)stat_field(stat, 20);
  agent_free(stat);
  out->uptime_seconds = age < 0 ? 0 : (double)age / 1e9;
}

int64_t process_start_nanos(void) {
  static _Atomic int64_t earliest; /* 0: not known yet; of any thread, which all find the same but
                                      for the clock's steps */
  size_t size;
  struct timespec now;
  char *stat = process_read_file("/proc/self/stat", STAT_LIMIT, &size);
  int64_t age = age_nanos(stat), known = atomic_load_explicit(&earliest, memory_order_relaxed);
  agent_free(stat);
  if (age < 0 || clock_gettime(CLOCK_REALTIME, &now) != 0) return known;
  int64_t start = now.tv_sec * SECOND + now.tv_nsec - age;
  if (known != 0 && known <= start) return known;
  atomic_store_explicit(&earliest, start, memory_order_relaxed);
  return start;
}

/* The number after "Name:" in /proc/self/status, in KiB, as bytes. */
static uint64_t status_bytes(const char *status, const char *name) {
  const char *at = status ? strstr(status, name) : NULL;
  return at ? strtoull(at + strlen(name), NULL, 10) * 1024 : 0;
}

void process_memory_read(struct process_memory *out) {
  size_t size;
  char *status = process_read_file("/proc/thread-self/status", STAT_LIMIT, &size);
  out->rss_bytes = status_bytes(status, "\nVmRSS:");
  out->max_rss_bytes = status_bytes(status, "\nVmHWM:"); /* unlike ru_maxrss, not inherited from before exec */
  out->data_bytes = status_bytes(status, "\nVmData:") + status_bytes(status, "\nVmStk:");
  agent_free(status);
  if (out->max_rss_bytes == 0) {
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) == 0) out->max_rss_bytes = (uint64_t)usage.ru_maxrss * 1024;
  }
}

/* argc as the kernel left it at the foot of the main stack, or -1. */
static long initial_argc(void) {
  size_t size;
  char *stat = process_read_file("/proc/self/stat", STAT_LIMIT, &size);
  unsigned long long start_stack = stat_field(stat, 28);
  agent_free(stat);
  if (!start_stack) return -1;
  int fd = open("/proc/thread-self/mem", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  long argc = -1;
  if (pread(fd, &argc, sizeof argc, (off_t)start_stack) != sizeof argc) argc = -1;
  close(fd);
  return argc;
}

char *process_command_line(size_t *size) {
  char *text = process_read_file("/proc/thread-self/cmdline", COMMAND_LINE_LIMIT, size);
  if (!text) return NULL; /* an empty one would look like a program without arguments */
  long ends = 0;
  for (size_t i = 0; i < *size; i++) ends += text[i] == 0;
  /* Untouched, every argument ends in its own NUL, and the last may be empty. A rewritten title is padded with NULs instead. */
  if (ends > 0 && ends == initial_argc() && text[*size - 1] == 0) (*size)--;
  else
    while (*size > 0 && text[*size - 1] == 0) (*size)--;
  text[*size] = 0;
  return text;
}

/* How long threads have been blocked: see blocked_thread.h. */
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/runtime/agent_memory.h"
#include "agent/runtime/growing_array.h"
#include "agent/runtime/agent_thread.h"
#include "blocked_thread.h"
#include "agent/runtime/task_files.h"

/* ---- the scheduler's word: when it last accounted for the thread, on its own clock ---- */

static const char EXEC_START[] = "\nse.exec_start";

/* "se.exec_start   :   12182015.691224" is in milliseconds with six decimals. -1: not there. */
static int64_t parse_exec_start(const char *sched) {
  const char *at = strstr(sched, EXEC_START);
  at = at ? strchr(at, ':') : NULL;
  if (!at) return -1;
  char *end;
  int64_t milliseconds = strtoll(at + 1, &end, 10), fraction = 0;
  if (*end == '.') {
    const char *digits = end + 1;
    for (int i = 0; i < 6; i++)
      fraction = fraction * 10 + (*digits >= '0' && *digits <= '9' ? *digits++ - '0' : 0);
  }
  return milliseconds * 1000000 + fraction;
}

static int64_t read_exec_start(int task) {
  enum { SCHED_HEAD = 512 }; /* its third line */
  char text[SCHED_HEAD];
  return task_file_read(task, "sched", text, sizeof text) > 0 ? parse_exec_start(text) : -1;
}

/* The scheduler's clock at a moment of CLOCK_MONOTONIC: this thread runs, so its own entry is at
 * most a tick old. Processors differ a little. */
static int64_t scheduler_now, scheduler_now_at;

/* ---- where the kernel does not say: what earlier dumps saw ---- */

struct seen_thread {
  int32_t tid;
  uint64_t runs;
  int64_t since; /* CLOCK_MONOTONIC of the first dump that saw it so */
};

struct seen_threads {
  size_t count;
  uint32_t capacity;
  struct seen_thread *threads; /* in order of tid, as dumps go */
};

static struct seen_threads earlier, current;

static void remember(const struct seen_thread *thread) {
  if (!growing_array_reserve(&current.threads, current.count, &current.capacity,
                             sizeof *current.threads))
    return;
  current.threads[current.count++] = *thread;
}

static const struct seen_thread *seen_earlier(int32_t tid) {
  static size_t cursor; /* the next one is mostly the next */
  for (size_t i = 0; i < earlier.count; i++, cursor++) {
    if (cursor >= earlier.count) cursor = 0;
    if (earlier.threads[cursor].tid == tid) return &earlier.threads[cursor++];
  }
  return NULL;
}

/* ---- both ---- */

void blocked_times_begin(void) {
  int self = open("/proc/thread-self", O_PATH | O_DIRECTORY | O_CLOEXEC);
  scheduler_now = self >= 0 ? read_exec_start(self) : -1;
  scheduler_now_at = agent_monotonic_nanoseconds();
  if (self >= 0) close(self);
  current.count = 0;
}

void blocked_times_end(void) {
  struct seen_threads before = earlier;
  earlier = current;
  current = before;
}

int64_t blocked_thread_time(const struct blocked_thread *thread, int32_t tid) {
  int64_t last = scheduler_now >= 0 ? read_exec_start(thread->task) : -1,
          now = agent_monotonic_nanoseconds();
  if (last >= 0) {
    int64_t time = scheduler_now + (now - scheduler_now_at) - last;
    return time > 0 ? time : 0;
  }
  const struct seen_thread *before = seen_earlier(tid);
  bool same = before && before->runs == thread->runs;
  remember(&(struct seen_thread){tid, thread->runs, same ? before->since : now});
  return same ? now - before->since : -1;
}

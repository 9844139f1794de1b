/* One recording, whole: what the recorders found, in order of time, and what the encoders write.
 * Times: CLOCK_MONOTONIC, nanoseconds. Owner: one HTTP worker; no locks; agent memory.
 * Context: agent. */
#ifndef AGENT_TRACE_LOG_H
#define AGENT_TRACE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum trace_kind {
  TRACE_THREAD_FOUND, /* there when the recording began; a state follows at the same time */
  TRACE_THREAD_BORN, /* other: its creator, 0 unknown; stack: of pthread_create; a state follows */
  TRACE_THREAD_NAMED, /* text */
  TRACE_THREAD_ENDED, /* the last of its thread */
  TRACE_RUNNING, /* on cpu */
  TRACE_RUNNABLE, /* preempted, or woken and without a CPU yet; other: who woke it, 0 unknown */
  TRACE_BLOCKED, /* reason, text: of the wait ("futex", "read: pipe:[1]"); stack where known */
  TRACE_RELEASED, /* tid ended a wait of other's: value is the lock's address; stack */
  TRACE_LOST, /* value: records of tid that were lost since the one before: a gap */
  TRACE_SAMPLE, /* a CPU sample; value: ns of CPU time that it stands for, 0 unknown; stack */
  TRACE_MARK, /* text: the program's own instant; or a large allocation: value its bytes */
  TRACE_MARK_BEGIN, /* text; ends with the next TRACE_MARK_END of the thread: they nest */
  TRACE_MARK_END,
  TRACE_COUNTER /* text: its name; value; tid 0 */
};

enum trace_reason {
  TRACE_REASON_UNKNOWN,
  TRACE_REASON_LOCK, /* a mutex, rwlock, condition, semaphore, join, raw futex */
  TRACE_REASON_SLEEP,
  TRACE_REASON_READ_WRITE, /* files, pipes, sockets */
  TRACE_REASON_POLL,
  TRACE_REASON_CALL, /* any other system call */
  TRACE_REASON_DISK /* uninterruptible: the kernel's state D */
};

struct trace_event {
  int64_t at;
  int32_t tid, other;
  int32_t cpu; /* -1 unknown */
  uint32_t stack; /* index into stacks + 1; 0: none */
  uint8_t kind, reason;
  uint64_t value;
  const char *text; /* lives as long as the log */
};

struct trace_frame {
  uint64_t pc;
  const char *function; /* never NULL */
  const char *file; /* may be "" */
  uint32_t line;
};

/* The innermost frame first. Inlined frames have the pc of the one that they are inlined into. */
struct trace_stack {
  const struct trace_frame *frames;
  uint32_t frame_count;
};

/* What an encoder may rely on: events are sorted by time, and of one thread they make sense: first
 * FOUND or BORN, then states that change (never the same one twice), ENDED last if at all; after
 * LOST a state says again what holds. Threads' numbers are not used twice. */
struct trace_log {
  const char *program; /* its name */
  int32_t pid;
  int64_t start, end;
  bool is_sampled; /* states are looked at each period, not recorded by the kernel */
  int64_t period; /* then: nanoseconds */
  uint64_t lost; /* records, of all threads */
  uint32_t sample_hz; /* CPU samples a second that were asked for; 0: none */
  const char *samples_off; /* why there are none all the same; NULL: there are */
  const struct trace_event *events;
  size_t event_count;
  const struct trace_stack *stacks;
  uint32_t stack_count;
};

#endif

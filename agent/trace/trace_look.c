#include "trace_look.h"

#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "agent/threads/blocked_thread.h"

/* ---- names of calls that threads wait in ---- */

#define CALL(name) \
  { SYS_##name, #name }
static const struct call_name {
  int32_t number;
  char name[20]; /* in place: the loader has nothing to relocate */
} call_names[] = {
    CALL(read),          CALL(write),        CALL(readv),          CALL(writev),
    CALL(pread64),       CALL(pwrite64),     CALL(recvfrom),       CALL(sendto),
    CALL(recvmsg),       CALL(sendmsg),      CALL(recvmmsg),       CALL(sendmmsg),
    CALL(accept),        CALL(accept4),      CALL(connect),        CALL(sendfile),
    CALL(splice),        CALL(fsync),        CALL(fdatasync),      CALL(epoll_pwait),
    CALL(ppoll),         CALL(pselect6),     CALL(nanosleep),      CALL(clock_nanosleep),
    CALL(futex),         CALL(semop),        CALL(semtimedop),     CALL(wait4),
    CALL(waitid),        CALL(flock),        CALL(fcntl),          CALL(rt_sigtimedwait),
    CALL(rt_sigsuspend), CALL(io_getevents), CALL(io_uring_enter), CALL(msgrcv),
    CALL(msgsnd),        CALL(sync),         CALL(openat),         CALL(munmap),
    CALL(mmap),          CALL(madvise),      CALL(ioctl),          CALL(restart_syscall),
#ifdef SYS_poll
    CALL(poll),          CALL(select),       CALL(epoll_wait),     CALL(pause),
#endif
};

static void say_call(int32_t number, const char *what, char *out, size_t size) {
  const char *name = NULL, *between = *what ? ": " : "";
  for (size_t i = 0; i < sizeof call_names / sizeof *call_names && !name; i++)
    if (call_names[i].number == number) name = call_names[i].name;
  if (number == SYS_futex && *what) name = between = ""; /* which says so itself */
  if (name) snprintf(out, size, "%s%s%s", name, between, what);
  else if (number >= 0) snprintf(out, size, "system call %d%s%s", (int)number, between, what);
  else snprintf(out, size, "%s", what);
}

/* ---- reasons ---- */

static bool is_poll(int32_t number) {
  switch (number) {
#ifdef SYS_poll
    case SYS_poll:
    case SYS_select:
    case SYS_epoll_wait:
#endif
    case SYS_ppoll:
    case SYS_pselect6:
    case SYS_epoll_pwait: return true;
    default: return false;
  }
}

/* state: of wait_reason.h. */
static enum trace_reason reason_of(int32_t number, bool stopped, const char *state) {
  if (stopped) return TRACE_REASON_UNKNOWN;
  if (is_poll(number)) return TRACE_REASON_POLL;
  if (strcmp(state, "semacquire") == 0) return TRACE_REASON_LOCK;
  if (strcmp(state, "sleep") == 0) return TRACE_REASON_SLEEP;
  if (strcmp(state, "select") == 0) return TRACE_REASON_POLL;
  if (strcmp(state, "IO wait") == 0)
    return number >= 0 ? TRACE_REASON_READ_WRITE : TRACE_REASON_DISK; /* a page of a file */
  return number >= 0 ? TRACE_REASON_CALL : TRACE_REASON_UNKNOWN;
}

/* ---- a look ---- */

static void look_inside(struct current_stacks *stacks, struct blocked_thread *thread,
                        struct trace_look *out) {
  struct dumped_thread dumped = {.tid = thread->tid, .syscall = thread->number};
  struct blocked_registers registers = {thread->pc, thread->sp, thread->number < 0};
  struct wait_reason reason;
  CAPTURED_STACK(stack);
  memcpy(dumped.arguments, thread->arguments, sizeof thread->arguments);
  bool stopped = thread->number < 0 && blocked_thread_is_stopped(thread);
  if (!current_stacks_renew(stacks)) return;
  if (blocked_stack_read(stacks->reader, &registers, stack, &out->epoch)) {
    out->frame_count = stack->frame_count;
    memcpy(out->frames, stack->frames, stack->frame_count * sizeof *stack->frames);
  }
  wait_reason_look(&dumped, stopped, blocked_stack_memory(stacks->reader), &reason);
  out->reason = reason_of(thread->number, stopped, reason.state);
  say_call(thread->number, reason.text, out->text, sizeof out->text);
}

/* Where its system call may not be read. */
static void guess(const struct blocked_thread *thread, struct trace_look *out) {
  struct wait_reason reason;
  wait_reason_guess(thread->kernel_function, false, &reason);
  out->reason = reason_of(SYS_read, false, reason.state);
  if (!*thread->kernel_function) out->reason = TRACE_REASON_UNKNOWN;
  snprintf(out->text, sizeof out->text, "%s", reason.text);
}

void trace_look_at(struct current_stacks *stacks, int32_t tid, struct trace_look *out) {
  struct blocked_thread thread;
  out->is_blocked = out->has_ended = false;
  out->reason = TRACE_REASON_UNKNOWN;
  out->text[0] = 0;
  out->frame_count = 0;
  thread_dump_hold();
  blocked_thread_open(&thread, tid);
  enum thread_presence presence = blocked_thread_look(&thread);
  if (presence == THREAD_BLOCKED) look_inside(stacks, &thread, out);
  if (presence == THREAD_ASLEEP) guess(&thread, out);
  bool same = presence != THREAD_BLOCKED || blocked_thread_still(&thread);
  out->is_blocked = same && (presence == THREAD_BLOCKED || presence == THREAD_ASLEEP);
  out->has_ended = presence == THREAD_ENDED;
  blocked_thread_close(&thread);
  thread_dump_let_go();
}

bool trace_look_is_blocked(int32_t tid) {
  struct blocked_thread thread;
  blocked_thread_open(&thread, tid);
  enum thread_presence presence = blocked_thread_look(&thread);
  blocked_thread_close(&thread);
  return presence == THREAD_BLOCKED || presence == THREAD_ASLEEP;
}

/* Calls in which the agent's threads would show: they are sent away for the length of the call, or stand in for nobody. */
#define syscall syscall_as_unistd_declares_it /* variadic there */
#include <unistd.h>
#undef syscall
#include <errno.h>
#include <linux/nsfs.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "../agent/agent.h"
#include "cpu_sampling.h"
#include "futex_calls.h"
#include "interposed.h"
#include "interrupted_call.h"
#include "stack_capture.h"
#include "startup.h"
#include "thread_state.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

/* The kernel wants a single thread for these: unshare(2), setns(2). */
enum { UNSHARE_ALONE = CLONE_NEWUSER | CLONE_THREAD | CLONE_VM | CLONE_SIGHAND };
enum { SETNS_ALONE = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWTIME };

static long alone(long (*call)(long, long, long, long, long), long a, long b, long c, long d,
                  long e) {
  agent_pause();
  long result = call(a, b, c, d, e);
  int error = errno;
  agent_resume();
  errno = error;
  return result;
}

static long call_unshare(long flags, long unused_1, long unused_2, long unused_3, long unused_4) {
  (void)unused_1, (void)unused_2, (void)unused_3, (void)unused_4;
  return real.unshare((int)flags);
}

static long call_setns(long descriptor, long type, long unused_1, long unused_2, long unused_3) {
  (void)unused_1, (void)unused_2, (void)unused_3;
  return real.setns((int)descriptor, (int)type);
}

static int unshare_alone(int flags) {
  if (!(flags & UNSHARE_ALONE) || !real.unshare) return NEXT_OF(unshare)(flags);
  return (int)alone(call_unshare, flags, 0, 0, 0, 0);
}

EXPORTED int unshare(int flags) { return unshare_alone(flags); }

static bool setns_wants_to_be_alone(int descriptor, int type) {
  if (type) return type & SETNS_ALONE;
  int error = errno, found = ioctl(descriptor, NS_GET_NSTYPE);
  errno = error;
  return found < 0 || (found & SETNS_ALONE);
}

static int setns_alone(int descriptor, int type) {
  if (!real.setns || !setns_wants_to_be_alone(descriptor, type))
    return NEXT_OF(setns)(descriptor, type);
  return (int)alone(call_setns, descriptor, type, 0, 0, 0);
}

EXPORTED int setns(int descriptor, int type) { return setns_alone(descriptor, type); }

/* Capabilities, and whether they outlive a change of user, are a thread's own. libc changes the
 * user of every thread, and aborts the program when one of them may and another may not: so no
 * agent thread may be left with the old ones. A new one inherits its creator's. */
static long call_prctl(long option, long a, long b, long c, long d) {
  return real.prctl((int)option, (unsigned long)a, (unsigned long)b, (unsigned long)c, (unsigned long)d);
}

static long call_capset(long header, long data, long unused_1, long unused_2, long unused_3) {
  (void)unused_1, (void)unused_2, (void)unused_3;
  return real.syscall(SYS_capset, header, data, 0, 0, 0, 0);
}

EXPORTED int capset(void *header, const void *data) {
  if (!startup_ensure()) return STARTUP_NEXT(capset)(header, data);
  return (int)alone(call_capset, (long)header, (long)data, 0, 0, 0);
}

/* The one way to seccomp(2); libseccomp's. And to futexes, for whatever is not glibc. Calls of the agent's own come here too. */
EXPORTED long syscall(long number, long a, long b, long c, long d, long e, long f) {
  if (UNLIKELY(!real.syscall)) return STARTUP_NEXT(syscall)(number, a, b, c, d, e, f);
  if (UNLIKELY(number == SYS_seccomp) && (a == SECCOMP_SET_MODE_FILTER || a == SECCOMP_SET_MODE_STRICT)) {
    cpu_sampling_forbid();
    if (a == SECCOMP_SET_MODE_STRICT) {
      thread_state.no_system_calls = 1;
      atomic_store_explicit(&thread_some_have_no_system_calls, true, memory_order_relaxed);
    }
  }
  if (UNLIKELY(number == SYS_exit)) thread_ends_by_system_call();
  if (UNLIKELY(number == SYS_unshare)) return unshare_alone((int)a);
  if (UNLIKELY(number == SYS_setns)) return setns_alone((int)a, (int)b);
  if (UNLIKELY(number == SYS_capset)) return alone(call_capset, a, b, 0, 0, 0);
  if (UNLIKELY(number == SYS_futex || number == SYS_FUTEX_WAITV)) {
    struct unwind_registers caller = CALLER_REGISTERS();
    return futex_call(&caller, number, a, b, c, d, e, f);
  }
  if (interrupted_call_may_be_repeated((uint64_t)number)) return interrupted_call_make(number, a, b, c, d, e, f);
  return real.syscall(number, a, b, c, d, e, f);
}

/* Under seccomp's strict mode a system call of the sampler's would kill the thread: it then goes without (thread_state.h). */
EXPORTED int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d) {
  if (UNLIKELY(!real.prctl)) return STARTUP_NEXT(prctl)(option, a, b, c, d);
  if (option == PR_SET_SECCOMP && a == SECCOMP_MODE_FILTER) cpu_sampling_forbid();
  if (option == PR_SET_KEEPCAPS || option == PR_SET_SECUREBITS) return (int)alone(call_prctl, option, (long)a, (long)b, (long)c, (long)d);
  int result = real.prctl(option, a, b, c, d);
  if (option == PR_SET_SECCOMP && a == SECCOMP_MODE_STRICT && result == 0) {
    thread_state.no_system_calls = 1;
    atomic_store_explicit(&thread_some_have_no_system_calls, true, memory_order_relaxed);
  }
  return result;
}

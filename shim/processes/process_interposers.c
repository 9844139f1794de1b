/* Calls in which the agent's threads would show: they are sent away for the length of the call, or
 * stand in for nobody. */
#include <unistd.h>
#include <errno.h>
#include <linux/nsfs.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "shim/base/agent_hooks.h"
#include "shim/base/config.h"
#include "shim/base/confinement.h"
#include "shim/base/dumpable.h"
#include "shim/locks/futex_calls.h"
#include "shim/allocation/heap_sampling.h"
#include "shim/allocation/mmap_sampling.h"
#include "shim/next/interposed.h"
#include "shim/cpu/dump_signals.h"
#include "shim/cpu/interrupted_call.h"
#include "memory_lock.h"
#include "shim/stacks/stack_capture.h"
#include "shim/next/startup.h"
#include "shim/base/thread_state.h"

#ifndef SYS_landlock_restrict_self
#define SYS_landlock_restrict_self 446
#endif
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

/* The kernel wants a single thread for these (unshare(2), setns(2))... */
enum { UNSHARE_SINGLE = CLONE_NEWUSER | CLONE_THREAD | CLONE_VM | CLONE_SIGHAND };
enum { SETNS_SINGLE = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWTIME };
/* ... and these are the caller's only: an agent thread that is there would keep what the program
 * leaves. Not so a new one, which its caller's are given to. */
enum {
  OF_THE_CALLER =
      CLONE_FS | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP,
  UNSHARE_ALONE = UNSHARE_SINGLE | OF_THE_CALLER,
  SETNS_ALONE = SETNS_SINGLE | OF_THE_CALLER
};

static long alone(long (*call)(long, long, long, long, long), long a, long b, long c, long d,
                  long e) {
  int error = errno;
  agent_pause();
  errno = error;
  long result = call(a, b, c, d, e);
  error = errno;
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
  if (confinement_forbids_calls()) return true;
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

/* ---- credentials, by the system calls themselves (credential_interposers.c has libc's) ---- */

static long call_prctl(long option, long a, long b, long c, long d) {
  return real.prctl((int)option, (unsigned long)a, (unsigned long)b, (unsigned long)c,
                    (unsigned long)d);
}

static long call_by_number(long number, long a, long b, long c, long unused) {
  (void)unused;
  return real.syscall(number, a, b, c, 0, 0, 0);
}

static bool changes_credentials(long number) {
  switch (number) {
    case SYS_setuid:
    case SYS_setgid:
    case SYS_setreuid:
    case SYS_setregid:
    case SYS_setresuid:
    case SYS_setresgid:
    case SYS_setfsuid:
    case SYS_setfsgid:
    case SYS_setgroups:
    case SYS_capset: return true;
    default: return false;
  }
}

static void follow(void) {
  int error = errno;
  if (!confinement_forbids_calls() && stack_capture_is_first_thread()) agent_follow_credentials();
  errno = error;
}

/* They are the caller's own, and the program's are its first thread's. libc changes the user of
 * every thread that it knows, and aborts the program when one may and another may not: with remote
 * admin it knows one of the agent's, and that may not be left with the old ones. */
static long credential_call(long number, long a, long b, long c) {
  if (*config.tls_address) return alone(call_by_number, number, a, b, c, 0);
  long result = call_by_number(number, a, b, c, 0);
  bool gives_former = number == SYS_setfsuid || number == SYS_setfsgid;
  if (result == 0 || gives_former) follow();
  return result;
}

EXPORTED int capset(void *header, const void *data) {
  if (!startup_ensure()) return STARTUP_NEXT(capset)(header, data);
  return (int)credential_call(SYS_capset, (long)header, (long)data, 0);
}

/* ---- seccomp: the agent leaves before, and comes again only if the call has failed ---- */

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif
enum { DISPATCH_OFF = 0 }; /* PR_SYS_DISPATCH_OFF */

static long confine(enum confinement to, bool gives_descriptor,
                    long (*call)(long, long, long, long, long), const long arguments[5]) {
  const long *a = arguments;
  bool first = confinement_begin();
  int error = errno;
  if (first) {
    agent_pause();
    dump_signals_stop();
  }
  errno = error;
  long result = call(a[0], a[1], a[2], a[3], a[4]);
  if (!first) return result;
  if (result == 0 || (gives_descriptor && result > 0)) { /* else: the tid of who cannot follow */
    confinement_end(to);
    heap_sampling_stop(confinement_reason());
    mmap_sampling_stop(confinement_reason());
  } else {
    error = errno;
    confinement_end(CONFINEMENT_NONE);
    dump_signals_start(dump_signals_mask);
    agent_resume();
    errno = error;
  }
  return result;
}

/* Never part of syscall() itself, as a tail call: its last argument would be written where that
 * wrapper's own would be, and a caller that passed fewer has a variable there. */
static __attribute__((noinline)) long call_seccomp(long operation, long flags, long arguments,
                                                   long unused_1, long unused_2) {
  (void)unused_1, (void)unused_2;
  return real.syscall(SYS_seccomp, operation, flags, arguments, 0, 0, 0);
}

static long seccomp_confines(long operation, long flags, long arguments) {
  const long all[] = {operation, flags, arguments, 0, 0};
  const void *pointer = (const void *)arguments;
  if (confinement_now()) return call_seccomp(operation, flags, arguments, 0, 0);
  unsigned low_operation = (unsigned)operation;
  bool strict = low_operation == SECCOMP_SET_MODE_STRICT;
  bool may =
      strict ? confinement_strict_may_succeed((unsigned)flags, pointer)
             : low_operation == SECCOMP_SET_MODE_FILTER && confinement_filter_may_succeed(pointer);
  if (!may) return call_seccomp(operation, flags, arguments, 0, 0);
  return confine(strict ? CONFINEMENT_STRICT : CONFINEMENT_FILTER,
                 flags & SECCOMP_FILTER_FLAG_NEW_LISTENER, call_seccomp, all);
}

/* What the process is if such a call succeeds. */
static enum confinement confinement_by_prctl(int option, unsigned long mode,
                                             unsigned long program) {
  if (confinement_now()) return CONFINEMENT_NONE;
  if (option == PR_SET_SYSCALL_USER_DISPATCH && mode != DISPATCH_OFF) return CONFINEMENT_DISPATCH;
  if (option != PR_SET_SECCOMP) return CONFINEMENT_NONE;
  if (mode == SECCOMP_MODE_STRICT) return CONFINEMENT_STRICT;
  return mode == SECCOMP_MODE_FILTER && confinement_filter_may_succeed((const void *)program)
             ? CONFINEMENT_FILTER
             : CONFINEMENT_NONE;
}

_Atomic bool dumpable_refused;

static int prctl_alone(int option, unsigned long a, unsigned long b, unsigned long c,
                       unsigned long d) {
  const long all[] = {option, (long)a, (long)b, (long)c, (long)d};
  enum confinement to = confinement_by_prctl(option, a, b);
  if (to != CONFINEMENT_NONE) return (int)confine(to, false, call_prctl, all);
  bool of_a_thread = option == PR_SET_KEEPCAPS || option == PR_SET_SECUREBITS ||
                     option == PR_CAPBSET_DROP || option == PR_SET_NO_NEW_PRIVS;
  if (of_a_thread && *config.tls_address)
    return (int)alone(call_prctl, all[0], all[1], all[2], all[3], all[4]);
  int result = real.prctl(option, a, b, c, d);
  if (option == PR_SET_DUMPABLE && result == 0)
    atomic_store_explicit(&dumpable_refused, a != 1, memory_order_relaxed);
  if ((option == PR_CAPBSET_DROP || option == PR_SET_NO_NEW_PRIVS) && result == 0) follow();
  return result;
}

/* The one way to seccomp(2); libseccomp's. And to futexes, for whatever is not glibc. Calls of the
 * agent's own come here too. */
EXPORTED long syscall(long number, ...) {
  /* Most callers give fewer. With named parameters the place of the last one on their stack would
   * be ours to write to, and a tail call did. */
  va_list list;
  va_start(list, number);
  long a = va_arg(list, long), b = va_arg(list, long), c = va_arg(list, long);
  long d = va_arg(list, long), e = va_arg(list, long), f = va_arg(list, long);
  va_end(list);
  if (UNLIKELY(!real.syscall)) return STARTUP_NEXT(syscall)(number, a, b, c, d, e, f);
  if (UNLIKELY(number == SYS_seccomp)) return seccomp_confines(a, b, c);
  if (UNLIKELY(number == SYS_prctl))
    return prctl_alone((int)a, (unsigned long)b, (unsigned long)c, (unsigned long)d,
                       (unsigned long)e);
  if (UNLIKELY(number == SYS_exit)) {
    thread_ends_by_system_call();
    agent_thread_exits_by_call();
  }
  if (UNLIKELY(number == SYS_exit_group)) agent_process_ends();
  if (UNLIKELY(number == SYS_unshare)) return unshare_alone((int)a);
  if (UNLIKELY(number == SYS_setns)) return setns_alone((int)a, (int)b);
  if (UNLIKELY(number == SYS_landlock_restrict_self))
    return alone(call_by_number, number, a, b, 0, 0);
  if (UNLIKELY(changes_credentials(number))) return credential_call(number, a, b, c);
  if (UNLIKELY(number == SYS_mlockall)) return memory_lock_all(a);
  if (UNLIKELY(number == SYS_futex || number == SYS_FUTEX_WAITV)) {
    struct unwind_registers caller = CALLER_REGISTERS();
    return futex_call(&caller, number, a, b, c, d, e, f);
  }
  if (interrupted_call_may_be_repeated((uint64_t)number))
    return interrupted_call_make(number, a, b, c, d, e, f);
  return real.syscall(number, a, b, c, d, e, f);
}

EXPORTED int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d) {
  if (UNLIKELY(!real.prctl)) return STARTUP_NEXT(prctl)(option, a, b, c, d);
  return prctl_alone(option, a, b, c, d);
}

/* Calls by which the host would meet the signal that the agent uses (sampling_signal.h). */
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "shim/base/confinement.h"
#include "cpu_sampling.h"
#include "dump_signals.h"
#include "shim/stacks/host_handlers.h"
#include "shim/next/interposed.h"
#include "shim/next/loaded_objects.h"
#include "shim/base/raw_syscall.h"
#include "sampling_signal.h"
#include "shim/next/startup.h"
#include "shim/threads/thread_registry.h"
#include "shim/base/thread_state.h"

#define IS_OURS(number) UNLIKELY((number) != 0 && (number) == sampling_signal())

#define FORWARD(name, arguments) (STARTED_NEXT_OF(name) arguments)

/* Of which signals' handlers the mask has got SIGURG added. */
static _Atomic uint64_t mask_added;
/* Signals for which siginterrupt was called: signal may then mean something else. */
static _Atomic uint64_t may_interrupt;

static void note_mask(int number, bool added) {
  if (added) atomic_fetch_or(&mask_added, sampling_signal_bit(number));
  else atomic_fetch_and(&mask_added, ~sampling_signal_bit(number));
}

/* An alternate stack may have just enough room for the host's own handler: ours shall not run on
 * top of it. SIGURG is what sampling uses as a rule. */
static bool keep_ours_off(int number, struct sigaction *action) {
  bool add =
      (action->sa_flags & SA_ONSTACK) && !sigismember(&action->sa_mask, SIGURG) && number != SIGURG;
  if (add) sigaddset(&action->sa_mask, SIGURG);
  return add;
}

/* libc refuses these without a look at the action; 32 and up to SIGRTMIN are its own. */
static bool is_refused(int number) {
  return number < 1 || number > 64 || (number >= 32 && number < SIGRTMIN);
}

/* Not a later preload's or a sanitizer's, which may do more. */
static bool is_libcs(const void *function) {
  static _Atomic(const struct link_map *) libc; /* whoever finds it stores the same */
  struct dl_find_object found;
  if (_dl_find_object((void *)(uintptr_t)function, &found) != 0) return false;
  if (atomic_load_explicit(&libc, memory_order_relaxed) == found.dlfo_link_map) return true;
  if (!loaded_object_is_libc(found.dlfo_link_map)) return false;
  atomic_store_explicit(&libc, found.dlfo_link_map, memory_order_relaxed);
  return true;
}

/* libc takes a lock of abort's round changes of SIGABRT's (glibc 2.41). */
static int set_action(real_sigaction_function next, int number, const struct sigaction *action,
                      struct sigaction *old) {
  int result;
  if (number != SIGABRT && is_libcs((const void *)next) &&
      host_handler_set(number, action, old, &result)) {
    if (result == 0) return 0;
    errno = -result;
    return -1;
  }
  result = next(number, action, old);
  if (result == 0 && action && action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN)
    host_handler_adopt(number);
  return result;
}

/* What the host reads back is what it wrote. */
static int forward_sigaction(real_sigaction_function next, int number,
                             const struct sigaction *action, struct sigaction *old) {
  if (is_refused(number)) return next(number, action, old);
  bool added_before = atomic_load(&mask_added) & sampling_signal_bit(number);
  struct sigaction installed;
  if (action) {
    installed = *action;
    note_mask(number, keep_ours_off(number, &installed));
  }
  int result = set_action(next, number, action ? &installed : NULL, old);
  if (result != 0 && action) note_mask(number, added_before);
  if (result != 0 || !old) return result;
  old->sa_restorer = host_handlers_restorer_shown(old->sa_restorer);
  if (added_before) sigdelset(&old->sa_mask, SIGURG);
  return 0;
}

/* The program's action of a signal at which profiles are written. */
static int dump_action(real_sigaction_function next, int number, const struct sigaction *action,
                       struct sigaction *old) {
  struct sigaction room;
  int result = forward_sigaction(next, number, dump_signals_before(action, &room), old);
  if (result == 0) dump_signals_after(number, action, old);
  return result;
}

static interposed_handler simple_dump_action(int number, interposed_handler handler, int flags,
                                             bool masked) {
  struct sigaction action = {.sa_handler = handler, .sa_flags = flags}, old;
  if (masked) sigaddset(&action.sa_mask, number);
  return dump_action(real.sigaction, number, &action, &old) == 0 ? old.sa_handler : SIG_ERR;
}

/* signal() and its like. */
static interposed_handler signal_dump_action(int number, interposed_handler handler, int flags) {
  if (handler == SIG_ERR) {
    errno = EINVAL;
    return SIG_ERR;
  }
  if (atomic_load(&may_interrupt) & sampling_signal_bit(number)) flags &= ~SA_RESTART;
  return simple_dump_action(number, handler, flags, !(flags & SA_NODEFER));
}

#define DEFINE_SIGACTION(name)                                                                   \
  EXPORTED int name(int number, const struct sigaction *action, struct sigaction *old) {         \
    if (IS_OURS(number)) return sampling_signal_host_action(action, old);                        \
    if (dump_signals_has(number)) return dump_action(real.name, number, action, old);            \
    if (startup_ensure() && real.name) return forward_sigaction(real.name, number, action, old); \
    return STARTUP_NEXT(name)(number, action, old);                                              \
  }

DEFINE_SIGACTION(sigaction)
DEFINE_SIGACTION(__sigaction)

static interposed_handler simple_action(interposed_handler handler, int flags) {
  struct sigaction action = {.sa_handler = handler, .sa_flags = flags}, old;
  sampling_signal_host_action(&action, &old);
  return old.sa_handler;
}

/* As libc's own does it where siginterrupt was never asked for. */
static bool set_simple_action(const void *next, int number, interposed_handler handler, int flags,
                              interposed_handler *old) {
  struct sigaction action = {.sa_handler = handler, .sa_flags = flags}, before;
  int result;
  if (handler == SIG_ERR || is_refused(number) || number == SIGABRT) return false;
  if (atomic_load(&may_interrupt) & sampling_signal_bit(number)) return false;
  if (!(flags & SA_NODEFER)) sigaddset(&action.sa_mask, number);
  if (!is_libcs(next) || !host_handler_set(number, &action, &before, &result)) return false;
  if (result != 0) errno = -result;
  *old = result == 0 ? before.sa_handler : SIG_ERR;
  return true;
}

#define DEFINE_SIGNAL(name, flags)                                                            \
  EXPORTED interposed_handler name(int number, interposed_handler handler) {                  \
    if (UNLIKELY(!startup_ensure())) return STARTUP_NEXT(name)(number, handler);              \
    if (IS_OURS(number)) return simple_action(handler, flags);                                \
    if (dump_signals_has(number)) return signal_dump_action(number, handler, flags);          \
    interposed_handler old;                                                                   \
    if (set_simple_action((const void *)real.name, number, handler, flags, &old)) return old; \
    old = FORWARD(name, (number, handler));                                                   \
    if (old != SIG_ERR) host_handler_adopt(number);                                           \
    return old;                                                                               \
  }

DEFINE_SIGNAL(signal, SA_RESTART)
DEFINE_SIGNAL(bsd_signal, SA_RESTART)
DEFINE_SIGNAL(ssignal, SA_RESTART)
DEFINE_SIGNAL(sysv_signal, (int)(SA_RESETHAND | SA_NODEFER))
DEFINE_SIGNAL(__sysv_signal, (int)(SA_RESETHAND | SA_NODEFER))

EXPORTED interposed_handler sigset(int number, interposed_handler handler) {
  if (UNLIKELY(!startup_ensure())) return STARTUP_NEXT(sigset)(number, handler);
  bool is_ours = IS_OURS(number);
  if (!is_ours && !dump_signals_has(number)) {
    interposed_handler old = FORWARD(sigset, (number, handler));
    if (old != SIG_ERR) host_handler_adopt(number);
    return old;
  }
  sigset_t one, before;
  sigemptyset(&one);
  sigaddset(&one, number);
  sigprocmask(handler == SIG_HOLD ? SIG_BLOCK : SIG_UNBLOCK, &one, &before);
  struct sigaction old;
  if (handler == SIG_HOLD) sigaction(number, NULL, &old);
  else if (is_ours) old.sa_handler = simple_action(handler, 0);
  else old.sa_handler = simple_dump_action(number, handler, 0, false);
  return sigismember(&before, number) ? SIG_HOLD : old.sa_handler;
}

EXPORTED int sigignore(int number) {
  if (IS_OURS(number)) return simple_action(SIG_IGN, 0) == SIG_ERR ? -1 : 0;
  if (dump_signals_has(number))
    return simple_dump_action(number, SIG_IGN, 0, false) == SIG_ERR ? -1 : 0;
  return FORWARD(sigignore, (number));
}

/* libc's would change our handler's flags, and its own restorer comes back. */
EXPORTED int siginterrupt(int number, int interrupt) {
  if (!IS_OURS(number)) {
    if (!is_refused(number)) atomic_fetch_or(&may_interrupt, sampling_signal_bit(number));
    int result = FORWARD(siginterrupt, (number, interrupt));
    if (result == 0) host_handler_adopt(number);
    return result;
  }
  struct sigaction action;
  sampling_signal_host_action(NULL, &action);
  action.sa_flags = interrupt ? action.sa_flags & ~SA_RESTART : action.sa_flags | SA_RESTART;
  return sampling_signal_host_action(&action, NULL);
}

/* It sets the handlers of these two aside, and puts them back by itself. */
EXPORTED int system(const char *command) {
  int result = FORWARD(system, (command));
  host_handler_adopt(SIGINT);
  host_handler_adopt(SIGQUIT);
  return result;
}

/* Only the kernel can tell whether the pointer and the size are good. Until the handler knows of a
 * stack that is too small for it, it does not run on this thread. */
EXPORTED int sigaltstack(const stack_t *stack, stack_t *old) {
  real_sigaltstack_function next = STARTED_NEXT_OF(sigaltstack);
  if (!stack || !startup_ensure()) return next(stack, old);
  bool block = sampling_signal() != 0 && !confinement_forbids_calls();
  uint64_t mask = block ? sampling_signal_block() : 0;
  int result = next(stack, old);
  if (result == 0) {
    bool none = stack->ss_flags & SS_DISABLE;
    if (!none) sampling_signal_altstack(stack->ss_size);
    thread_state.alternate_low = none ? 0 : (uintptr_t)stack->ss_sp;
    thread_state.alternate_size = none ? 0 : stack->ss_size;
  }
  if (block) sampling_signal_restore(mask);
  return result;
}

/* ---- masks: a thread that lets the signal in without knowing (sampling_signal.h) ---- */

typedef int (*mask_function)(int, const sigset_t *, sigset_t *);

/* A bad pointer is the kernel's to refuse, which reads the mask first of all. */
static bool is_readable(const sigset_t *set) {
  enum { NO_SUCH_WAY = -1, MASK_SIZE = 8 };
  return set && raw_syscall4(SYS_rt_sigprocmask, NO_SUCH_WAY, (long)set, 0, MASK_SIZE) == -EINVAL;
}

/* Pointers are looked at only when the kernel has found them good. What the thread believes to
 * block it blocks from now on, if it says so itself. */
static int change_mask_confined(mask_function next, struct thread_record *record, int how,
                                const sigset_t *set, sigset_t *old) {
  int result = next(how, set, old);
  if (result != 0) return result;
  if (old) sigaddset(old, SIGURG);
  if (set && (how == SIG_SETMASK || sigismember(set, SIGURG)))
    atomic_store_explicit(&record->signal_let_in, false, memory_order_relaxed);
  return 0;
}

static int change_mask(mask_function next, int how, const sigset_t *set, sigset_t *old) {
  struct thread_record *record = sampling_signal_let_in();
  if (record && confinement_forbids_calls())
    return change_mask_confined(next, record, how, set, old);
  if (record && !cpu_sampling_is_on()) sampling_signal_take_back(), record = NULL;
  if (LIKELY(!record) || (set && !is_readable(set))) return next(how, set, old);
  sigset_t changed;
  bool has = set && sigismember(set, SIGURG), blocks = how == SIG_UNBLOCK ? !has : true;
  if (how == SIG_SETMASK && set) blocks = has;
  if (set) changed = *set;
  if (set && blocks) sigdelset(&changed, SIGURG);
  int result = next(how, set ? &changed : NULL, old);
  if (result != 0) return result;
  if (old) sigaddset(old, SIGURG);
  if (!blocks) atomic_store_explicit(&record->signal_let_in, false, memory_order_relaxed);
  return 0;
}

EXPORTED int sigprocmask(int how, const sigset_t *set, sigset_t *old) {
  return change_mask(STARTED_NEXT_OF(sigprocmask), how, set, old);
}

EXPORTED int pthread_sigmask(int how, const sigset_t *set, sigset_t *old) {
  return change_mask(STARTED_NEXT_OF(pthread_sigmask), how, set, old);
}

/* ---- waiting for signals: a tick that is pending on a thread that has blocked it since is not for
 * the host ---- */

static bool waits_for_ours(const sigset_t *set) {
  if (LIKELY(!sampling_signal()) || confinement_forbids_calls() || !is_readable(set)) return false;
  return sigismember(set, sampling_signal()) == 1;
}

static bool is_tick(int number, const siginfo_t *info) {
  return number > 0 && number == sampling_signal() && sampling_signal_is_ours(info);
}

EXPORTED int sigwaitinfo(const sigset_t *set, siginfo_t *info) {
  if (LIKELY(!waits_for_ours(set))) return FORWARD(sigwaitinfo, (set, info));
  siginfo_t own;
  int number;
  do number = FORWARD(sigwaitinfo, (set, info ? info : &own));
  while (is_tick(number, info ? info : &own));
  return number;
}

EXPORTED int sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout) {
  if (LIKELY(!waits_for_ours(set))) return FORWARD(sigtimedwait, (set, info, timeout));
  siginfo_t own;
  int number;
  do number = FORWARD(sigtimedwait, (set, info ? info : &own, timeout));
  while (is_tick(number, info ? info : &own));
  return number;
}

EXPORTED int sigwait(const sigset_t *set, int *number) {
  if (LIKELY(!waits_for_ours(set))) return FORWARD(sigwait, (set, number));
  siginfo_t info;
  int result, error, saved_errno = errno;
  do {
    result = FORWARD(sigwaitinfo, (set, &info));
    error = errno;
  } while (is_tick(result, &info) || (result < 0 && error == EINTR));
  errno = saved_errno;
  if (result < 0) return error;
  *number = result;
  return 0;
}

EXPORTED int sigpending(sigset_t *set) {
  int result = FORWARD(sigpending, (set));
  if (result == 0 && cpu_sampling_is_on()) sigdelset(set, sampling_signal());
  return result;
}

EXPORTED int signalfd(int descriptor, const sigset_t *set, int flags) {
  int result = FORWARD(signalfd, (descriptor, set, flags));
  if (result < 0 || !startup_ensure()) return result;
  uint64_t mask;
  memcpy(&mask, set, sizeof mask); /* which the kernel has read */
  /* While a profile runs ticks may be pending on a thread that has blocked the signal since: they
   * shall not come out there. */
  if (cpu_sampling_is_on() && (mask & sampling_signal_bit(sampling_signal()))) {
    sigset_t others = *set;
    sigdelset(&others, sampling_signal());
    FORWARD(signalfd, (result, &others, flags));
  } else {
    sampling_signal_read_by_host(mask);
  }
  return result;
}

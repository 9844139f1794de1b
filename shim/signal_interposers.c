/* Calls by which the host would meet the signal that the agent uses (sampling_signal.h). */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "cpu_sampling.h"
#include "host_handlers.h"
#include "interposed.h"
#include "raw_syscall.h"
#include "sampling_signal.h"
#include "startup.h"
#include "thread_registry.h"
#include "thread_state.h"

#define IS_OURS(number) UNLIKELY((number) != 0 && (number) == sampling_signal())

/* ENOSYS: asked for from inside the library's own start, which does not happen. */
#define FORWARD(name, failed, arguments) \
  ((startup_ensure() && real.name) ? real.name arguments : (errno = ENOSYS, failed))

/* Of which signals' handlers the mask has got SIGURG added. */
static _Atomic uint64_t mask_added;

/* An alternate stack may have just enough room for the host's own handler: ours shall not run on top of it. SIGURG is what sampling uses as a rule. */
static void keep_ours_off(int number, struct sigaction *action) {
  bool add = (action->sa_flags & SA_ONSTACK) && !sigismember(&action->sa_mask, SIGURG) && number != SIGURG;
  if (add) sigaddset(&action->sa_mask, SIGURG);
  if (add) atomic_fetch_or(&mask_added, sampling_signal_bit(number));
  else atomic_fetch_and(&mask_added, ~sampling_signal_bit(number));
}

/* What the host reads back is what it wrote. */
static int forward_sigaction(real_sigaction_function next, int number, const struct sigaction *action, struct sigaction *old) {
  if (number < 1 || number > 64) return next(number, action, old);
  bool added_before = atomic_load(&mask_added) & sampling_signal_bit(number);
  struct sigaction installed;
  if (action) {
    installed = *action;
    keep_ours_off(number, &installed);
  }
  int result = next(number, action ? &installed : NULL, old);
  if (result == 0 && action) host_handler_adopt(number);
  if (result != 0 || !old) return result;
  old->sa_restorer = host_handlers_restorer_shown(old->sa_restorer);
  if (added_before) sigdelset(&old->sa_mask, SIGURG);
  return 0;
}

#define DEFINE_SIGACTION(name)                                                                     \
  EXPORTED int name(int number, const struct sigaction *action, struct sigaction *old) {           \
    if (IS_OURS(number)) return sampling_signal_host_action(action, old);                          \
    if (startup_ensure() && real.name) return forward_sigaction(real.name, number, action, old);   \
    errno = ENOSYS;                                                                                \
    return -1;                                                                                     \
  }

DEFINE_SIGACTION(sigaction)
DEFINE_SIGACTION(__sigaction)

static interposed_handler simple_action(interposed_handler handler, int flags) {
  struct sigaction action = {.sa_handler = handler, .sa_flags = flags}, old;
  sampling_signal_host_action(&action, &old);
  return old.sa_handler;
}

#define DEFINE_SIGNAL(name, flags)                                            \
  EXPORTED interposed_handler name(int number, interposed_handler handler) {  \
    if (IS_OURS(number)) return simple_action(handler, flags);                \
    interposed_handler old = FORWARD(name, SIG_ERR, (number, handler));         \
    if (old != SIG_ERR) host_handler_adopt(number);                             \
    return old;                                                                 \
  }

DEFINE_SIGNAL(signal, SA_RESTART)
DEFINE_SIGNAL(bsd_signal, SA_RESTART)
DEFINE_SIGNAL(ssignal, SA_RESTART)
DEFINE_SIGNAL(sysv_signal, (int)(SA_RESETHAND | SA_NODEFER))
DEFINE_SIGNAL(__sysv_signal, (int)(SA_RESETHAND | SA_NODEFER))

EXPORTED interposed_handler sigset(int number, interposed_handler handler) {
  if (!IS_OURS(number)) {
    interposed_handler old = FORWARD(sigset, SIG_ERR, (number, handler));
    if (old != SIG_ERR) host_handler_adopt(number);
    return old;
  }
  sigset_t one, before;
  sigemptyset(&one);
  sigaddset(&one, number);
  sigprocmask(handler == SIG_HOLD ? SIG_BLOCK : SIG_UNBLOCK, &one, &before);
  struct sigaction old;
  if (handler == SIG_HOLD) sampling_signal_host_action(NULL, &old);
  else old.sa_handler = simple_action(handler, 0);
  return sigismember(&before, number) ? SIG_HOLD : old.sa_handler;
}

EXPORTED int sigignore(int number) {
  if (IS_OURS(number)) return simple_action(SIG_IGN, 0) == SIG_ERR ? -1 : 0;
  return FORWARD(sigignore, -1, (number));
}

/* libc's would change our handler's flags, and its own restorer comes back. */
EXPORTED int siginterrupt(int number, int interrupt) {
  if (!IS_OURS(number)) {
    int result = FORWARD(siginterrupt, -1, (number, interrupt));
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
  int result = FORWARD(system, -1, (command));
  host_handler_adopt(SIGINT);
  host_handler_adopt(SIGQUIT);
  return result;
}

EXPORTED int sigaltstack(const stack_t *stack, stack_t *old) {
  if (stack && !(stack->ss_flags & SS_DISABLE)) sampling_signal_altstack(stack->ss_size);
  int result = FORWARD(sigaltstack, -1, (stack, old));
  if (stack && result == 0) {
    bool none = stack->ss_flags & SS_DISABLE;
    thread_state.alternate_low = none ? 0 : (uintptr_t)stack->ss_sp;
    thread_state.alternate_size = none ? 0 : stack->ss_size;
  }
  return result;
}

/* ---- masks: a thread that lets the signal in without knowing (sampling_signal.h) ---- */

typedef int (*mask_function)(int, const sigset_t *, sigset_t *);

static int change_mask(mask_function next, int how, const sigset_t *set, sigset_t *old) {
  struct thread_record *record = sampling_signal_let_in();
  if (record && !cpu_sampling_is_on()) sampling_signal_take_back(), record = NULL;
  if (LIKELY(!record)) return next(how, set, old);
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

/* As pthread_sigmask, from inside the library's own start: a sanitizer's, say. */
static int change_mask_early(int how, const sigset_t *set, sigset_t *old) {
  uint64_t mask = 0, of_libc = sampling_signal_bit(SIGRTMIN) - sampling_signal_bit(__SIGRTMIN);
  if (set) memcpy(&mask, set, sizeof mask);
  mask &= ~of_libc;
  return (int)-raw_syscall4(SYS_rt_sigprocmask, how, set ? (long)&mask : 0, (long)old, sizeof mask);
}

EXPORTED int sigprocmask(int how, const sigset_t *set, sigset_t *old) {
  if (startup_ensure() && real.sigprocmask) return change_mask(real.sigprocmask, how, set, old);
  int error = change_mask_early(how, set, old);
  return error ? (errno = error, -1) : 0;
}

EXPORTED int pthread_sigmask(int how, const sigset_t *set, sigset_t *old) {
  if (!startup_ensure() || !real.pthread_sigmask) return change_mask_early(how, set, old);
  return change_mask(real.pthread_sigmask, how, set, old);
}

/* ---- waiting for signals: a tick that is pending on a thread that has blocked it since is not for the host ---- */

static bool waits_for_ours(const sigset_t *set) { return sampling_signal() && sigismember(set, sampling_signal()) == 1; }

static bool is_tick(int number, const siginfo_t *info) {
  return number > 0 && number == sampling_signal() && sampling_signal_is_ours(info);
}

EXPORTED int sigwaitinfo(const sigset_t *set, siginfo_t *info) {
  if (LIKELY(!waits_for_ours(set))) return FORWARD(sigwaitinfo, -1, (set, info));
  siginfo_t own;
  int number;
  do number = FORWARD(sigwaitinfo, -1, (set, info ? info : &own));
  while (is_tick(number, info ? info : &own));
  return number;
}

EXPORTED int sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout) {
  if (LIKELY(!waits_for_ours(set))) return FORWARD(sigtimedwait, -1, (set, info, timeout));
  siginfo_t own;
  int number;
  do number = FORWARD(sigtimedwait, -1, (set, info ? info : &own, timeout));
  while (is_tick(number, info ? info : &own));
  return number;
}

EXPORTED int sigwait(const sigset_t *set, int *number) {
  if (LIKELY(!waits_for_ours(set))) return FORWARD(sigwait, ENOSYS, (set, number));
  siginfo_t info;
  int result, error, saved_errno = errno;
  do {
    result = FORWARD(sigwaitinfo, -1, (set, &info));
    error = errno;
  } while (is_tick(result, &info) || (result < 0 && error == EINTR));
  errno = saved_errno;
  if (result < 0) return error;
  *number = result;
  return 0;
}

EXPORTED int sigpending(sigset_t *set) {
  int result = FORWARD(sigpending, -1, (set));
  if (result == 0 && cpu_sampling_is_on()) sigdelset(set, sampling_signal());
  return result;
}

EXPORTED int signalfd(int descriptor, const sigset_t *set, int flags) {
  sigset_t others = *set;
  uint64_t mask;
  memcpy(&mask, set, sizeof mask);
  /* While a profile runs ticks may be pending on a thread that has blocked the signal since: they shall not come out there. */
  if (cpu_sampling_is_on()) sigdelset(&others, sampling_signal());
  else sampling_signal_read_by_host(mask);
  return FORWARD(signalfd, -1, (descriptor, &others, flags));
}

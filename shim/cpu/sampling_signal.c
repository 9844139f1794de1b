#include "sampling_signal.h"
#include "dump_signals.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/auxv.h>

#include "shim/base/at_fork.h"
#include "shim/base/confinement.h"
#include "cpu_sampling.h"
#include "shim/stacks/handler_stack.h"
#include "shim/stacks/host_handlers.h"
#include "shim/next/interposed.h"
#include "interrupted_call.h"
#include "shim/next/next_functions.h"
#include "shim/base/raw_syscall.h"
#include "shim/threads/thread_registry.h"
#include "shim/base/thread_state.h"

#if defined(__x86_64__)
enum {
  SA_RESTORER_FLAG = 0x04000000
}; /* the kernel's SA_RESTORER, which libc sets and does not take out of what it reads back */
#else
enum { SA_RESTORER_FLAG = 0 };
#endif
enum { MASK_SIZE = sizeof(uint64_t), KERNEL_FRAME_MIN = 2048 };

static _Atomic int chosen;
static _Atomic int32_t owner; /* the process whose view is kept here: a child of vfork has
                                 dispositions of its own, but our memory */
static _Atomic bool host_ignores; /* the kernel's disposition is SIG_IGN, as the host asked */
static _Atomic uint64_t host_reads; /* the masks of its signalfds, all together */
static _Atomic bool tiny_altstack; /* some thread's alternate stack has no room for a frame */
static _Atomic bool some_let_in; /* ever: a thread lets SIGURG in that believes to block it */
/* What the host believes: written by its threads, which see to order among themselves as they must
 * with the real call. */
static _Atomic(uintptr_t) host_handler; /* SIG_DFL is 0 */
static _Atomic int host_flags;
static _Atomic uint64_t host_mask;

AT_FORK int sampling_signal(void) { return atomic_load_explicit(&chosen, memory_order_acquire); }

/* ---- the handler ---- */

/* One that lets the signal in without knowing. It may have no thread-local storage. */
static struct thread_record *find_let_in(int32_t tid) {
  if (!atomic_load(&some_let_in)) return NULL;
  for (uint32_t number = thread_registry_count(); number > 0; number--) {
    struct thread_record *record = thread_registry_at(number);
    if (record && atomic_load(&record->tid) == tid && atomic_load(&record->signal_let_in))
      return record;
  }
  return NULL;
}

/* Not for a thread that believes to block it: from now on it does, and the signal is sent anew, to
 * who waits for it. The kernel lets nobody but the first thread repeat another process's kill: its
 * sender is then this process. */
static bool send_on(int number, siginfo_t *info, ucontext_t *context) {
  int32_t tid = (int32_t)raw_syscall4(SYS_gettid, 0, 0, 0, 0);
  int32_t pid = (int32_t)raw_syscall4(SYS_getpid, 0, 0, 0, 0);
  struct thread_record *record = number == SIGURG ? find_let_in(tid) : NULL;
  if (!record) return false;
  uint64_t mask;
  memcpy(&mask, &context->uc_sigmask, sizeof mask);
  mask |= sampling_signal_bit(number);
  memcpy(&context->uc_sigmask, &mask, sizeof mask);
  atomic_store_explicit(&record->signal_let_in, false, memory_order_relaxed);
  if (info->si_code == SI_TKILL) raw_syscall4(SYS_rt_tgsigqueueinfo, pid, tid, number, (long)info);
  else if (raw_syscall4(SYS_rt_sigqueueinfo, pid, number, (long)info, 0) < 0)
    raw_syscall4(SYS_kill, pid, number, 0, 0);
  interrupted_call_restart(context);
  return true;
}

/* A signal of that number which is none of our ticks: what would have happened without us happens.
 * The handler of the host's that is to be called then, and with which mask; 0: none. */
static uintptr_t host_signal(int number, siginfo_t *info, ucontext_t *context, uint64_t *mask) {
  uintptr_t handler = atomic_load(&host_handler);
  int flags = atomic_load(&host_flags);
  if (!confinement_forbids_calls() && send_on(number, info, context)) return 0;
  if (handler == (uintptr_t)SIG_IGN || (handler == (uintptr_t)SIG_DFL && number == SIGURG)) {
    /* without us it would not have interrupted anything */
    if (!confinement_forbids_calls()) interrupted_call_restart(context);
    return 0;
  }
  if (handler ==
      (uintptr_t)SIG_DFL) { /* ends the process, when this handler returns and unblocks it */
    struct sigaction standard;
    memset(&standard, 0, sizeof standard);
    real.sigaction(number, &standard, NULL);
    raw_syscall4(SYS_tgkill, raw_syscall4(SYS_getpid, 0, 0, 0, 0),
                 raw_syscall4(SYS_gettid, 0, 0, 0, 0), number, 0);
    return 0;
  }
  if (flags & SA_RESETHAND) atomic_store(&host_handler, (uintptr_t)SIG_DFL);
  memcpy(mask, &context->uc_sigmask, sizeof *mask);
  *mask |= atomic_load(&host_mask) | (flags & SA_NODEFER ? 0 : sampling_signal_bit(number));
  interrupted_call_mark(context); /* an EINTR that it returns to is the program's own */
  return handler;
}

static bool from_timer(const siginfo_t *info) {
  return info->si_code == SI_TIMER &&
         (uint64_t)(uintptr_t)info->si_value.sival_ptr >> 48 == SAMPLING_SIGNAL_MAGIC;
}

/* As F_SETSIG makes them: the host's own would come on a descriptor that it has told to use a
 * signal of this number, which it does not know. */
static bool from_counter(const siginfo_t *info) {
  return info->si_code >= POLL_IN && info->si_code <= POLL_HUP;
}

bool sampling_signal_is_ours(const siginfo_t *info) {
  return from_timer(info) || (from_counter(info) && sampling_signal_counters_used());
}

uintptr_t handler_stack_body(int number, siginfo_t *info, void *context, uint64_t *mask) {
  if (dump_signals_has(number)) dump_signals_handle(number, context);
  else if (from_timer(info))
    sampling_signal_from_timer((uintptr_t)info->si_value.sival_ptr, info->si_overrun, context);
  else if (!from_counter(info) || !sampling_signal_from_counter(info->si_fd, context))
    return host_signal(number, info, context, mask);
  return 0;
}

static bool install(int number, struct sigaction *old) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = handler_stack_enter;
  action.sa_flags = SA_SIGINFO | SA_RESTART | (atomic_load(&tiny_altstack) ? 0 : SA_ONSTACK);
  memset(&action.sa_mask, ~0, sizeof action.sa_mask); /* interrupted_call.c relies on it */
  return real.sigaction && real.sigaction(number, &action, old) == 0;
}

/* ---- the choice ---- */

static bool is_default(int number) {
  struct sigaction now;
  if (atomic_load(&host_reads) & sampling_signal_bit(number)) return false;
  return real.sigaction && real.sigaction(number, NULL, &now) == 0 &&
         !(now.sa_flags & SA_SIGINFO) && now.sa_handler == SIG_DFL;
}

static bool try_signal(int number) {
  struct sigaction old;
  if (!is_default(number)) return false;
  sampling_signal_adopt();
  atomic_store(&host_handler, (uintptr_t)SIG_DFL); /* an earlier time may have left another view */
  atomic_store(&host_flags, 0);
  atomic_store(&host_mask, 0);
  atomic_store(&chosen, number); /* first, so that the host's next sigaction is ours to answer */
  if (install(number, &old) && !(old.sa_flags & SA_SIGINFO) && old.sa_handler == SIG_DFL)
    return true;
  real.sigaction(number, &old, NULL);
  atomic_store(&chosen, 0);
  return false;
}

static const char *choose(void) {
  if (sampling_signal()) { /* it was retiring when this process was forked */
    if (!atomic_load(&host_ignores)) install(sampling_signal(), NULL);
    return NULL;
  }
  if (next_allocator.valgrind) return "the program runs under valgrind";
  if (!handler_stacks_map()) return "there is no memory for the handler's stacks";
  if (try_signal(SIGURG)) return NULL;
#ifdef SIGSTKFLT
  if (try_signal(SIGSTKFLT)) return NULL;
#endif
  if (try_signal(SIGPROF)) return NULL;
  for (int number = SIGRTMAX - 1; number > SIGRTMIN + 2; number--)
    if (try_signal(number)) return NULL;
  return "the program handles, or reads through signalfd, every signal that could be used";
}

static _Atomic bool choosing; /* a profile and a thread dump may come at the same time */

AT_FORK void sampling_signal_forget_choice_under_way(void) {
  if (atomic_load(&choosing)) atomic_store(&choosing, false);
}

static _Atomic bool is_chosen; /* and its handler is there */

const char *sampling_signal_choose(void) {
  static const char read[] = "the program reads the signal that sampling uses through signalfd";
  static const char ignored[] =
      "the program has told the kernel to ignore the signal that sampling uses";
  if (atomic_load(&is_chosen))
    return atomic_load(&host_ignores)                                          ? ignored
           : atomic_load(&host_reads) & sampling_signal_bit(sampling_signal()) ? read
                                                                               : NULL;
  while (atomic_exchange(&choosing, true)) raw_nap();
  const char *fault = choose();
  if (!fault) atomic_store(&is_chosen, true);
  atomic_store(&choosing, false);
  return fault;
}

static void read_host_action(struct sigaction *out) {
  uintptr_t handler = atomic_load(&host_handler);
  uint64_t mask = atomic_load(&host_mask);
  memset(out, 0, sizeof *out);
  out->sa_flags = atomic_load(&host_flags);
  memcpy(&out->sa_mask, &mask, sizeof mask);
  if (out->sa_flags & SA_SIGINFO) out->sa_sigaction = (void (*)(int, siginfo_t *, void *))handler;
  else out->sa_handler = (void (*)(int))handler;
}

/* A tick that is still pending is ignored then. The kernel is told first: once the signal is not
 * chosen, the host reads and writes there. A thread of the host's may be giving the signal a
 * handler: it writes its view and looks whether the signal is chosen, we do both the other way
 * round, so that one of us installs it. */
void sampling_signal_retire(void) {
  int number = sampling_signal();
  if (number != SIGURG || atomic_load(&some_let_in) || atomic_load(&host_handler)) return;
  if (atomic_load(&owner) != (int32_t)raw_syscall4(SYS_getpid, 0, 0, 0, 0)) return;
  atomic_store(&is_chosen, false);
  struct sigaction view;
  memset(&view, 0, sizeof view);
  if (real.sigaction(number, &view, NULL) != 0) return;
  atomic_store(&chosen, 0);
  if (!atomic_load(&host_handler)) return;
  read_host_action(&view);
  real.sigaction(number, &view, NULL);
}

bool sampling_signal_is_harmless(void) { return sampling_signal() == SIGURG; }

void sampling_signal_read_by_host(uint64_t mask) { atomic_fetch_or(&host_reads, mask); }

/* ---- masks ---- */

uint64_t sampling_signal_block(void) {
  int number = sampling_signal();
  if (!number) return 0;
  uint64_t bit = sampling_signal_bit(number), before = 0;
  raw_syscall4(SYS_rt_sigprocmask, SIG_BLOCK, (long)&bit, (long)&before, MASK_SIZE);
  return bit & ~before;
}

/* The signal may have retired meanwhile. */
void sampling_signal_restore(uint64_t blocked) {
  if (blocked && !confinement_forbids_calls())
    raw_syscall4(SYS_rt_sigprocmask, SIG_UNBLOCK, (long)&blocked, 0, MASK_SIZE);
}

static bool blocks_everything(uint64_t mask) {
  static const int everything[] = {SIGHUP,  SIGINT,  SIGTERM, SIGUSR1,  SIGUSR2,
                                   SIGALRM, SIGCHLD, SIGURG,  SIGWINCH, SIGIO};
  for (size_t i = 0; i < sizeof everything / sizeof *everything; i++)
    if (!(mask & sampling_signal_bit(everything[i]))) return false;
  return true;
}

/* The host has neither a handler for it nor reads it through a signalfd. */
static bool has_no_use(void) {
  return !atomic_load(&host_handler) && !(atomic_load(&host_reads) & sampling_signal_bit(SIGURG));
}

void sampling_signal_thread_starts(struct thread_record *record) {
  bool inherited = atomic_load_explicit(&record->signal_let_in, memory_order_relaxed);
  uint64_t mask = 0, urgent = sampling_signal_bit(SIGURG);
  bool wanted = cpu_sampling_is_on() && sampling_signal() == SIGURG && has_no_use();
  if (!wanted && !inherited) return;
  raw_syscall4(SYS_rt_sigprocmask, SIG_BLOCK, 0, (long)&mask, MASK_SIZE);
  bool lets_in = wanted && blocks_everything(inherited ? mask | urgent : mask);
  atomic_store_explicit(&record->signal_let_in, lets_in, memory_order_relaxed);
  if (lets_in) atomic_store(&some_let_in, true);
  if (lets_in != inherited)
    raw_syscall4(SYS_rt_sigprocmask, lets_in ? SIG_UNBLOCK : SIG_BLOCK, (long)&urgent, 0,
                 MASK_SIZE);
}

/* Storage that looks like this thread's may be its parent's (vfork, raw clone). */
struct thread_record *sampling_signal_let_in(void) {
  if (!thread_state.record) return NULL;
  struct thread_record *record = thread_registry_at(thread_state.record);
  if (!atomic_load_explicit(&record->signal_let_in, memory_order_relaxed)) return NULL;
  if (confinement_forbids_calls()) return record;
  int32_t tid = atomic_load_explicit(&record->tid, memory_order_relaxed);
  return tid == (int32_t)raw_syscall4(SYS_gettid, 0, 0, 0, 0) ? record : NULL;
}

void sampling_signal_take_back(void) {
  uint64_t urgent = sampling_signal_bit(SIGURG);
  struct thread_record *record = sampling_signal_let_in();
  if (!record || confinement_forbids_calls()) return;
  raw_syscall4(SYS_rt_sigprocmask, SIG_BLOCK, (long)&urgent, 0, MASK_SIZE);
  atomic_store_explicit(&record->signal_let_in, false, memory_order_relaxed);
}

bool sampling_signal_is_blocked(void) {
  uint64_t mask = 0;
  raw_syscall4(SYS_rt_sigprocmask, SIG_BLOCK, 0, (long)&mask, MASK_SIZE);
  int number = sampling_signal();
  return number && (mask & sampling_signal_bit(number));
}

/* ---- the host's view ---- */

void sampling_signal_adopt(void) {
  atomic_store(&owner, (int32_t)raw_syscall4(SYS_getpid, 0, 0, 0, 0));
}

/* In a child of vfork: its own disposition, which starts as a copy of what the host believes. */
static int act_in_vfork_child(int number, const struct sigaction *action, struct sigaction *old) {
  struct sigaction kernel_old;
  int result = real.sigaction(number, action, &kernel_old);
  if (result == 0) host_handler_adopt(number);
  if (result != 0 || !old) return result;
  bool ours = (kernel_old.sa_flags & SA_SIGINFO) && kernel_old.sa_sigaction == handler_stack_enter;
  if (ours) read_host_action(old);
  else *old = kernel_old;
  return 0;
}

/* What the program ignores its children must ignore too: then the kernel is told, and there are no
 * ticks while it lasts. */
static void follow_ignoring(int number, bool ignores) {
  if (atomic_exchange(&host_ignores, ignores) == ignores) return;
  struct sigaction ignoring;
  memset(&ignoring, 0, sizeof ignoring);
  ignoring.sa_handler = SIG_IGN;
  if (ignores) real.sigaction(number, &ignoring, NULL);
  else install(number, NULL);
}

int sampling_signal_host_action(const struct sigaction *action, struct sigaction *old) {
  if (!confinement_forbids_calls() &&
      atomic_load(&owner) != (int32_t)raw_syscall4(SYS_getpid, 0, 0, 0, 0))
    return act_in_vfork_child(sampling_signal(), action, old);
  struct sigaction before;
  read_host_action(&before);
  if (action) {
    uint64_t mask;
    memcpy(&mask, &action->sa_mask, sizeof mask);
    atomic_store(&host_mask, mask);
    atomic_store(&host_flags, action->sa_flags | SA_RESTORER_FLAG);
    atomic_store(&host_handler, action->sa_flags & SA_SIGINFO ? (uintptr_t)action->sa_sigaction
                                                              : (uintptr_t)action->sa_handler);
    if (sampling_signal()) follow_ignoring(sampling_signal(), action->sa_handler == SIG_IGN);
    else real.sigaction(SIGURG, action, NULL); /* it has just retired */
  }
  if (old) *old = before;
  return 0;
}

void sampling_signal_altstack(size_t size) {
  unsigned long frame = getauxval(AT_MINSIGSTKSZ);
  if (size >= (frame ? frame : KERNEL_FRAME_MIN) || atomic_exchange(&tiny_altstack, true)) return;
  dump_signals_stay_off_alternate_stacks();
  if (confinement_forbids_calls()) return; /* there are no more ticks */
  int number = sampling_signal();
  if (number) install(number, NULL);
}

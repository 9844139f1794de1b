#include "dump_signals.h"

#include <string.h>
#include <unistd.h>

#include "interrupted_call.h"
#include "shim/base/agent_hooks.h"
#include "shim/base/confinement.h"
#include "shim/base/raw_syscall.h"
#include "shim/next/interposed.h"
#include "shim/stacks/handler_stack.h"
#include "shim/stacks/host_handlers.h"
#include "shim/stacks/kernel_action.h"

uint64_t dump_signals_mask;
static _Atomic bool off_alternate; /* some thread's alternate stack has no room for a frame */

/* What the program has written beside SIG_DFL. Written by who changes the action: who changes one
 * from two threads at once reads either's. */
enum { SIGNALS = 64 };
static struct {
  _Atomic uint64_t mask;
  _Atomic int flags;
} written[SIGNALS];

static uint64_t bit(int number) { return (uint64_t)1 << (number - 1); }

static bool ends_the_program(int number) {
  return number == SIGTERM || number == SIGINT || number == SIGHUP;
}

/* ---- the handler ---- */

/* As if nobody had been here: when the handler returns this signal is let in, and no other, and
 * ends the process. (It may be blocked in what was interrupted: sigsuspend, ppoll.) */
static void end_by(int number, ucontext_t *context) {
  const struct kernel_action standard = {.handler = (uintptr_t)SIG_DFL};
  uint64_t others = ~bit(number);
  if (kernel_action_exchange(number, &standard, NULL) != 0) return;
  memcpy(&context->uc_sigmask, &others, sizeof others);
  raw_syscall4(SYS_tgkill, raw_syscall4(SYS_getpid, 0, 0, 0, 0),
               raw_syscall4(SYS_gettid, 0, 0, 0, 0), number, 0);
}

/* The kernel would not have sent it to the first process of a namespace: nothing has happened. */
static bool is_first_of_namespace(void) { return raw_syscall4(SYS_getpid, 0, 0, 0, 0) == 1; }

/* A child of vfork has its parent's memory, and ends alone; so does a forked child without an
 * agent. */
void dump_signals_handle(int number, ucontext_t *context) {
  bool ends = ends_the_program(number), goes_on = ends && is_first_of_namespace();
  if (ends && !goes_on) agent_process_ends();
  if (!ends) goes_on = agent_writes_dump();
  if (goes_on) interrupted_call_restart(context);
  else end_by(number, context);
}

/* ---- who sees it ---- */

static void fill(struct sigaction *action) {
  memset(action, 0, sizeof *action);
  action->sa_sigaction = handler_stack_enter;
  action->sa_flags = SA_SIGINFO | SA_RESTART;
  if (!atomic_load_explicit(&off_alternate, memory_order_relaxed)) action->sa_flags |= SA_ONSTACK;
  memset(&action->sa_mask, ~0, sizeof action->sa_mask);
}

static bool is_ours(const struct sigaction *action) {
  return action->sa_flags & SA_SIGINFO && action->sa_sigaction == handler_stack_enter;
}

/* Where the action is what `ours` says. */
static void install_where(bool ours, const struct sigaction *action) {
  struct sigaction now;
  for (int number = 1; number <= SIGNALS; number++) {
    if (!dump_signals_has(number) || real.sigaction(number, NULL, &now) != 0) continue;
    bool fits = ours ? is_ours(&now) : !(now.sa_flags & SA_SIGINFO) && now.sa_handler == SIG_DFL;
    if (fits && real.sigaction(number, action, NULL) == 0)
      host_handler_adopt(number); /* interrupted_call.c wants all to be so */
  }
}

void dump_signals_start(uint64_t mask) {
  struct sigaction action;
  if (getpid() == 1) mask &= ~(bit(SIGTERM) | bit(SIGINT) | bit(SIGHUP));
  if (!mask || !real.sigaction || !handler_stacks_map()) return;
  dump_signals_mask = mask;
  fill(&action);
  install_where(false, &action);
}

void dump_signals_stop(void) {
  const struct sigaction standard = {.sa_handler = SIG_DFL};
  install_where(true, &standard);
}

void dump_signals_stay_off_alternate_stacks(void) {
  struct sigaction action;
  atomic_store_explicit(&off_alternate, true, memory_order_relaxed);
  if (!dump_signals_mask || confinement_forbids_calls()) return;
  fill(&action);
  install_where(true, &action);
}

const struct sigaction *dump_signals_before(const struct sigaction *action,
                                            struct sigaction *room) {
  if (!action || action->sa_handler != SIG_DFL || confinement_forbids_calls()) return action;
  fill(room);
  return room;
}

void dump_signals_after(int number, const struct sigaction *action, struct sigaction *old) {
  uint64_t mask = atomic_load_explicit(&written[number - 1].mask, memory_order_relaxed);
  int flags = atomic_load_explicit(&written[number - 1].flags, memory_order_relaxed);
  if (action && action->sa_handler == SIG_DFL) {
    uint64_t wanted;
    memcpy(&wanted, &action->sa_mask, sizeof wanted);
    atomic_store_explicit(&written[number - 1].mask, wanted, memory_order_relaxed);
    atomic_store_explicit(&written[number - 1].flags, action->sa_flags | SA_RESTORER_FLAG,
                          memory_order_relaxed);
  }
  if (!old || !is_ours(old)) return;
  old->sa_handler = SIG_DFL;
  memcpy(&old->sa_mask, &mask, sizeof mask);
  old->sa_flags = flags;
  if (!(flags & SA_RESTORER_FLAG)) old->sa_restorer = NULL; /* it has written none */
}

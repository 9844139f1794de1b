#include "dump_signals.h"

#include <string.h>

#include "interrupted_call.h"
#include "shim/base/agent_hooks.h"
#include "shim/base/confinement.h"
#include "shim/base/raw_syscall.h"
#include "shim/next/interposed.h"
#include "shim/stacks/host_handlers.h"
#include "shim/stacks/kernel_action.h"

uint64_t dump_signals_mask;

/* What the program has written beside SIG_DFL. Written by who changes the action: who changes one
 * from two threads at once reads either's. */
enum { SIGNALS = 64 };
static struct {
  _Atomic uint64_t mask;
  _Atomic int flags;
} written[SIGNALS];

static uint64_t bit(int number) { return (uint64_t)1 << (number - 1); }

/* As if nobody had been here: when the handler returns the signal is let in again, and ends the
 * process. */
static void end_by(int number) {
  const struct kernel_action standard = {.handler = (uintptr_t)SIG_DFL};
  if (kernel_action_exchange(number, &standard, NULL) != 0) return;
  raw_syscall4(SYS_tgkill, raw_syscall4(SYS_getpid, 0, 0, 0, 0),
               raw_syscall4(SYS_gettid, 0, 0, 0, 0), number, 0);
}

static bool ends_the_program(int number) {
  return number == SIGTERM || number == SIGINT || number == SIGHUP;
}

/* With all signals blocked. A child of vfork has its parent's memory, and ends alone; so does a
 * forked child without an agent. */
static void on_signal(int number, siginfo_t *info, void *context) {
  (void)info;
  bool goes_on = false;
  if (confinement_forbids_calls()) {
  } else if (ends_the_program(number)) agent_process_ends();
  else goes_on = agent_writes_dump();
  if (goes_on) interrupted_call_restart(context);
  else end_by(number);
}

static void fill(struct sigaction *action) {
  memset(action, 0, sizeof *action);
  action->sa_sigaction = on_signal;
  action->sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
  memset(&action->sa_mask, ~0, sizeof action->sa_mask);
}

static bool is_ours(const struct sigaction *action) {
  return action->sa_flags & SA_SIGINFO && action->sa_sigaction == on_signal;
}

void dump_signals_start(uint64_t mask) {
  struct sigaction ours, now;
  fill(&ours);
  for (int number = 1; number <= SIGNALS; number++) {
    if (!(mask & bit(number)) || !real.sigaction) continue;
    if (real.sigaction(number, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
      real.sigaction(number, &ours, NULL);
    host_handler_adopt(number); /* interrupted_call.c wants all to be so */
  }
  dump_signals_mask = mask;
}

void dump_signals_stop(void) {
  struct sigaction standard = {.sa_handler = SIG_DFL}, now;
  for (int number = 1; number <= SIGNALS; number++)
    if (dump_signals_has(number) && real.sigaction(number, NULL, &now) == 0 && is_ours(&now))
      real.sigaction(number, &standard, NULL);
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

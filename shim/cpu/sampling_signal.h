/* The one signal that the agent uses, and what the host sees of it: nothing.
 *
 * It is chosen when first needed, among those whose disposition is the default. SIGURG first, as in
 * Go's runtime: its default is to be ignored, so one that is still pending when the program resets
 * its handlers or calls exec does nothing; debuggers pass it on. SIGPROF comes late: profilers, PHP
 * and V8 install handlers for it at any time. While the handler is there the host's sigaction and
 * signal on that number act on a copy: it reads back what it wrote, its handler gets what others
 * send. The handler of SIGURG goes away when nobody asks any more; another one stays, because a
 * tick that is pending somewhere would end the process.
 */
#ifndef SHIM_SAMPLING_SIGNAL_H
#define SHIM_SAMPLING_SIGNAL_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

#include "shim/stacks/handler_stack.h"

/* 0 until chosen, constant afterwards. Context: any. */
int sampling_signal(void);

/* NULL, or why there is none (a static sentence). Context: agent. */
const char *sampling_signal_choose(void);

/* Nobody asks for samples any more: the signal is the host's, as before. Context: agent, when there
 * is neither a timer nor a counter, and nobody chooses meanwhile. */
void sampling_signal_retire(void);

/* Called for each of our timers' signals (value as given to timer_create) and for those of our
 * counters (perf_event_open; descriptor of the agent's table), with all signals blocked. Defined in
 * cpu_sampling.c. Context: signal handler. */
void sampling_signal_from_timer(uint64_t value, int overrun, ucontext_t *context);
bool sampling_signal_from_counter(int descriptor,
                                  ucontext_t *context); /* false: it is none of ours */
bool sampling_signal_counters_used(void); /* ever */
/* One that is pending while the handler goes away is ignored, not deadly. Context: any. */
bool sampling_signal_is_harmless(void);

/* The mask of one signal, for raw system calls. */
static inline uint64_t sampling_signal_bit(int number) { return (uint64_t)1 << (number - 1); }

/* Whether a signal of that number comes from our timers or counters, and is nobody's but ours.
 * Context: any. */
bool sampling_signal_is_ours(const siginfo_t *info);

/* The host reads these signals through a signalfd, where ours could not be told apart: they are not
 * chosen, and not used, any more. */
void sampling_signal_read_by_host(uint64_t mask);

/* Blocks the signal, if there is one, on this thread; returns what was not blocked before, for
 * sampling_signal_restore. Context: host thread. */
uint64_t sampling_signal_block(void);
void sampling_signal_restore(uint64_t blocked);
/* A new thread that was born with everything blocked, as pools' threads are (xz, QEMU), lets SIGURG
 * in while a profile runs: it could not be sampled else. Not where the program has a use for it.
 * It never knows: masks that it reads have SIGURG (signal_interposers.c), and a SIGURG that is no
 * tick is sent on, with the thread's mask as it should be. record: the thread's.
 * Context: host thread. */
struct thread_record;
void sampling_signal_thread_starts(struct thread_record *record);
/* This thread, which may let the signal in: its record then, or NULL. Context: host thread. */
struct thread_record *sampling_signal_let_in(void);
/* It blocks SIGURG again, as it believes to do all the time. Context: host thread. */
void sampling_signal_take_back(void);
/* Whether this thread blocks it. Context: host thread. */
bool sampling_signal_is_blocked(void);

/* The host's view. Context: host thread. */
void sampling_signal_adopt(void); /* in a child just forked; so is the next */
void sampling_signal_forget_choice_under_way(void);
int sampling_signal_host_action(const struct sigaction *action, struct sigaction *old);
/* The host is about to use an alternate stack of this size: too small for us, the handler stays off
 * alternate stacks from now on. */
void sampling_signal_altstack(size_t size);

#endif

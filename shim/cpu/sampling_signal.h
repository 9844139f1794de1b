/* The one signal that the agent uses, and what the host sees of it: nothing.
 *
 * Which one. It is chosen when it is first needed, among those whose disposition is the default.
 * SIGURG comes first, as in Go's runtime. Its default is to be ignored, so one that is still
 * pending when the program resets its handlers or calls exec does nothing; and debuggers pass it
 * on. SIGPROF comes late, since profilers, PHP and V8 install handlers for it at any time.
 *
 * What the host sees. While our handler is there, the host's sigaction and signal on that number
 * act on a copy: it reads back what it wrote, and its handler gets what others send.
 *
 * Until when. The handler of SIGURG goes away when nobody asks for samples any more. Another one
 * stays: a tick that is pending somewhere would end the process.
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

/* Nobody asks for samples any more: the signal is the host's again. Context: agent, when there is
 * neither a timer nor a counter, and nobody chooses meanwhile. */
void sampling_signal_retire(void);

/* What cpu_sampling.c defines: called for each signal, with all signals blocked. Context: signal
 * handler.
 * Of one of our timers. value: as given to timer_create. */
void sampling_signal_from_timer(uint64_t value, int overrun, ucontext_t *context);
/* Of a counter (perf_event_open), by its descriptor in the agent's table. False: it is none of
 * ours. */
bool sampling_signal_from_counter(int descriptor, ucontext_t *context);
bool sampling_signal_counters_used(void); /* ever */
/* Whether one that is pending while the handler goes away is ignored, not deadly. Context: any. */
bool sampling_signal_is_harmless(void);

/* The mask of one signal, for raw system calls. */
static inline uint64_t sampling_signal_bit(int number) { return (uint64_t)1 << (number - 1); }

/* Whether a signal of that number comes from our timers or counters, and is nobody's but ours.
 * Context: any. */
bool sampling_signal_is_ours(const siginfo_t *info);

/* The host reads the signals of this mask through a signalfd. Ours could not be told from others
 * there, so these signals are neither chosen nor used any more. */
void sampling_signal_read_by_host(uint64_t mask);

/* Blocks the signal, if there is one, on this thread; returns what was not blocked before, for
 * sampling_signal_restore. Context: host thread. */
uint64_t sampling_signal_block(void);
void sampling_signal_restore(uint64_t blocked);
/* A new thread. Pools' threads (xz, QEMU) are born with all signals blocked, and could not be
 * sampled. Such a one lets SIGURG in while a profile runs, unless the program has a use for SIGURG.
 * It never knows: the masks that it reads have SIGURG blocked (signal_interposers.c), and a SIGURG
 * that is no tick is sent on, with the thread's mask as it should be. record: the thread's.
 * Context: host thread. */
struct thread_record;
void sampling_signal_thread_starts(struct thread_record *record);
/* The record of this thread, if it lets the signal in so; else NULL. Context: host thread. */
struct thread_record *sampling_signal_let_in(void);
/* It blocks SIGURG again, as it believes to do all the time. Context: host thread. */
void sampling_signal_take_back(void);
/* Whether this thread blocks it. Context: host thread. */
bool sampling_signal_is_blocked(void);

/* In a child just forked. Context: host thread. */
void sampling_signal_adopt(void);
void sampling_signal_forget_choice_under_way(void);
/* As sigaction on the signal, by the host. Context: host thread. */
int sampling_signal_host_action(const struct sigaction *action, struct sigaction *old);
/* The host is about to use an alternate stack of this size. If it is too small for us, the handler
 * stays off alternate stacks from now on. Context: host thread. */
void sampling_signal_altstack(size_t size);

#endif

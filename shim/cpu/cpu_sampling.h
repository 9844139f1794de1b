/* Stacks of running threads. Each thread gets a timer on its own CPU clock; the timer's signal
 * makes the thread write down its stack. Nothing is armed, and no handler installed, until somebody
 * asks.
 *
 * There are two kinds of timers:
 *  - posix timers (timer_create). They can always be had; a thread arms its own in its first
 * moment.
 *  - perf counters (perf_event_open, task clock), for threads that turn out to be busy, where the
 *    kernel allows it. They expire to the microsecond. A posix timer does not: it samples at ticks
 * of the scheduler, so of a program that works in rhythm with the ticks it sees the same points
 *    always.
 *
 * The kernel looks at posix timers in its tick only (every 4 ms at HZ=250). So one fires up to a
 * tick late, and not at all once its thread sleeps or has ended. Short lives would be counted too
 * low. Hence the first expiry is drawn: a thread's first tick is taken with probability tick /
 * period (or always, counting for a whole tick, when the period is shorter than that). Each tick
 * that hits a running thread then stands for the same expected time. Example: period 10 ms, tick 4
 * ms. Of threads that live through one tick, 4 in 10 give a sample, of 10 ms each: 4 ms a thread.
 *
 * Context: agent threads. The profile's calls come one at a time, the dump's (at the end) at any
 * time. Locks: none.
 */
#ifndef SHIM_CPU_SAMPLING_H
#define SHIM_CPU_SAMPLING_H

#include <stdbool.h>
#include <stdint.h>

#include "sample_buffer.h"

enum { CPU_SAMPLING_MAX_HZ = 1000 };

/* Where the timers' samples go; opened and read by cpu_profile.c. */
extern struct sample_buffer cpu_samples;

/* Sets the period, in nanoseconds of CPU time. While it is not 0, new threads arm themselves; those
 * that exist are to be armed one by one. 0 stops it: on return no timer is armed, and no handler
 * will write again. NULL, or why there can be no CPU profile (a static sentence). */
const char *cpu_sampling_set_period(uint64_t nanoseconds);

enum cpu_arming {
  CPU_ARMED,
  CPU_NOT_ARMED_BLOCKED, /* the thread blocks the signal: it would be left pending, for the host to
                            see */
  CPU_NOT_ARMED_LIMIT, /* the kernel has no timer left for this user (RLIMIT_SIGPENDING), or half of
                          them are taken */
  CPU_NOT_ARMED_REFUSED, /* a sandbox forbids it */
  CPU_NOT_ARMED_GONE /* the thread has ended */
};
/* Arms (or arms anew, after the period has changed) the thread of a record. signal_blocked: its
 * SigBlk has cpu_sampling_signal(). */
enum cpu_arming cpu_sampling_arm(uint32_t record, bool signal_blocked);
/* Before a perf counter of the agent's is enabled: it is to tick for that thread in its timer's
 * place. The counter's period is the sampler's, its signal cpu_sampling_signal(). The timer goes on
 * until the counter first expires: that first period is always a whole one, and lives that end in
 * it would be counted too low. False: that thread is no more, or the descriptor's number is too
 * high. _closed: to be called before the descriptor is closed. */
enum { CPU_COUNTERS_MAX = 1024 };
bool cpu_sampling_counter_opened(uint32_t record, int32_t tid, int descriptor);
void cpu_sampling_counter_closed(int descriptor);

/* Takes the timer away: the thread ends, or is found gone. Context: any thread. */
void cpu_sampling_disarm(uint32_t record);

/* By the thread itself at its start: arms it if a profile is running. Context: host thread. */
void cpu_sampling_thread_starts(uint32_t record);
/* Whether threads that start do so. No: the agent arms them. Context: agent. */
void cpu_sampling_let_threads_arm_themselves(bool yes);
/* Whether threads that start tell the agent, which waits on this word (ring_sampling.h): each adds
 * one and wakes it. Context: agent. */
extern _Atomic uint32_t cpu_sampling_births;
enum births_wanted_by { BIRTHS_FOR_PROFILES = 1, BIRTHS_FOR_TRACES = 2 };
void cpu_sampling_announce_births(enum births_wanted_by who, bool yes);
/* The pid, asked of the kernel; 0 where it must not be asked (confinement.h). Context: host thread.
 */
int32_t cpu_sampling_process(void);
/* Whether a profile is running. Context: host thread. */
bool cpu_sampling_is_on(void);
/* In a child just forked: no profile is running, and there are no timers. Context: host thread. */
void cpu_sampling_forget(void);

/* ---- one stack of a thread that is running, for the thread dump ---- */

/* Where these go; opened, read and closed by the dump. */
extern struct sample_buffer dump_samples;
/* Asks a thread for one stack. If it is blocked, it gives the stack at once; else at its next tick,
 * if it runs. A token of 0 or more; -1: it cannot be armed (enum cpu_arming says why not). */
int cpu_sampling_request_stack(uint32_t record, bool is_blocked);
/* Every token must be given back; afterwards nothing comes of it any more. */
void cpu_sampling_withdraw_request(int token);

/* How many timers there are now, the dump's included. Context: any. */
uint32_t cpu_sampling_timers(void);
/* The signal in use, 0: none chosen yet. For reading SigBlk, and for the health page. */
int cpu_sampling_signal(void);
/* Chooses the signal and installs the handler, if that has not been done. NULL, or why it cannot
 * be. */
const char *cpu_sampling_prepare(void);
/* The kernel's tick in nanoseconds: no timer fires more often than this. */
uint64_t cpu_sampling_tick(void);

#endif

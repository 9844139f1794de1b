/* Stacks of running threads: a timer a thread on that thread's own CPU clock, whose signal makes
 * the thread write down its stack.
 *
 * Two kinds of timers. posix timers (timer_create) can always be had and are armed by a thread
 * itself in its first moment. Where the kernel allows it, threads that turn out to be busy get a
 * perf counter (perf_event_open, task clock) in their place, whose expiry is precise to
 * microseconds: samples at scheduler ticks see a program that works in rhythm with them always at
 * the same points.
 *
 * Nothing is armed and no handler is installed until somebody asks. The kernel looks at CPU timers
 * in its scheduler tick (4 ms at HZ=250), so a timer fires up to a tick late, and not at all once
 * its thread sleeps or has ended. To keep short lives unbiased the first expiry is drawn such that
 * a thread's first tick is taken with probability tick / period (counting for a whole tick when the
 * period is shorter than that): each tick that hits a running thread then counts for the same
 * expected time. Context: agent threads; the profile's calls one at a time, the dump's (at the end)
 * at any time; locks: none.
 */
#ifndef SHIM_CPU_SAMPLING_H
#define SHIM_CPU_SAMPLING_H

#include <stdbool.h>
#include <stdint.h>

#include "sample_buffer.h"

enum { CPU_SAMPLING_MAX_HZ = 1000 };

/* Where the timers' samples go; opened and read by cpu_profile.c. */
extern struct sample_buffer cpu_samples;

/* The sampler's period from now on; 0 stops it: on return no timer is armed and no handler will
 * write again. New threads arm themselves while it is not 0; those that exist are to be armed one
 * by one. NULL, or why there can be no CPU profile (a static sentence). */
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
/* This counter of the agent's, whose period is the sampler's and whose signal is
 * cpu_sampling_signal(), ticks for the thread from its first expiry on, when its timer is taken
 * away: a counter's first period is always a whole one, and lives that end in it would be counted
 * too low. Then enable it. False: that thread is no more, or the descriptor's number is too high.
 * Closed: before the descriptor is closed. */
enum { CPU_COUNTERS_MAX = 1024 };
bool cpu_sampling_counter_opened(uint32_t record, int32_t tid, int descriptor);
void cpu_sampling_counter_closed(int descriptor);

/* Takes the timer away: the thread ends, or is found gone. Context: any thread. */
void cpu_sampling_disarm(uint32_t record);

/* By the thread itself at its start: arms it if a profile is running. Context: host thread. */
void cpu_sampling_thread_starts(uint32_t record);
/* False: they wait for the agent to do it. Context: agent. */
void cpu_sampling_let_threads_arm_themselves(bool yes);
/* Threads that start tell the agent, which waits for the word (ring_sampling.h). Context: agent. */
extern _Atomic uint32_t cpu_sampling_births; /* written by them: one more each, then a wake */
enum births_wanted_by { BIRTHS_FOR_PROFILES = 1, BIRTHS_FOR_TRACES = 2 };
void cpu_sampling_announce_births(enum births_wanted_by who, bool yes);
/* The pid, asked of the kernel; 0 where that must not be (confinement.h). Context: host thread. */
int32_t cpu_sampling_process(void);
/* Whether a profile is running; and, in a child just forked: none is, and there are no timers.
 * Context: host thread. */
bool cpu_sampling_is_on(void);
void cpu_sampling_forget(void);

/* ---- one stack of a thread that is running, for the thread dump ---- */

/* Where these go; opened, read and closed by the dump. */
extern struct sample_buffer dump_samples;
/* Asks for one stack: of one that is blocked, at once; else at its next tick, if it runs. Returns a
 * token >= 0, or -1 (see arming). */
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

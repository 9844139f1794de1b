#include "cpu_sampling.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>

#include "shim/base/at_fork.h"
#include "shim/base/confinement.h"
#include "shim/base/counters.h"
#include "shim/stacks/module_registry.h"
#include "shim/base/raw_syscall.h"
#include "sampling_signal.h"
#include "interrupted_call.h"
#include "shim/stacks/stack_capture.h"
#include "shim/threads/thread_registry.h"
#include "shim/base/thread_state.h"

struct sample_buffer cpu_samples, dump_samples;

/* Written by the agent, read by handlers and by threads that start. */
static _Atomic uint64_t period; /* nanoseconds, 0: off */
static _Atomic int32_t sampled_pid; /* the process whose agent set it: a child has no timers */
static _Atomic uint32_t timers; /* how many exist */
static _Atomic uint64_t random_state;
static _Atomic bool must_not_arm; /* threads that start */
static _Atomic uint32_t announce; /* these tell the agent: who wants it, births_wanted_by */
_Atomic uint32_t cpu_sampling_births;

static int32_t own_pid(void) { return (int32_t)raw_syscall4(SYS_getpid, 0, 0, 0, 0); }

/* ---- the value that a timer's signal carries: magic, which kind, the record and the low bits of
 * its life ---- */

enum { RECORD_BITS = 20, LIFE_BITS = 27, KIND_SHIFT = RECORD_BITS + LIFE_BITS };
enum { KIND_TICK, KIND_DUMP };

/* Of each descriptor of the agent's that is a counter: the value of its thread. Written by the
 * agent before the counter is enabled. */
static _Atomic uint64_t counter_values[CPU_COUNTERS_MAX];
static _Atomic bool counters_used; /* ever: a signal of one may be pending somewhere */

_Static_assert(THREAD_RECORDS_MAX < 1 << RECORD_BITS && KIND_SHIFT < 48,
               "a value has room for everything");

static uint64_t value_of(unsigned kind, uint32_t record, uint64_t life) {
  return (uint64_t)SAMPLING_SIGNAL_MAGIC << 48 | (uint64_t)kind << KIND_SHIFT |
         (life & ((1u << LIFE_BITS) - 1)) << RECORD_BITS | record;
}

/* ---- the kernel's timers, by number: no libc state, no malloc ---- */

static uint64_t clock_nanoseconds(clockid_t clock) {
  struct timespec now = {0, 0};
  raw_syscall4(SYS_clock_gettime, clock, (long)&now, 0, 0);
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int timer_make(clockid_t clock, int32_t tid, uint64_t value) {
  struct sigevent event;
  memset(&event, 0, sizeof event);
  event.sigev_value.sival_ptr = (void *)(uintptr_t)value;
  event.sigev_signo = sampling_signal();
  event.sigev_notify = SIGEV_THREAD_ID;
  event._sigev_un._tid = tid;
  int timer = -1;
  long result = raw_syscall4(SYS_timer_create, clock, (long)&event, (long)&timer, 0);
  if (result != 0) return (int)result;
  atomic_fetch_add_explicit(&timers, 1, memory_order_relaxed);
  return timer;
}

static void timer_remove(int timer) {
  raw_syscall4(SYS_timer_delete, timer, 0, 0, 0);
  atomic_fetch_sub_explicit(&timers, 1, memory_order_relaxed);
}

static void timer_set(int timer, uint64_t first, uint64_t interval) {
  const struct itimerspec when = {
      .it_value = {(time_t)(first / 1000000000), (long)(first % 1000000000)},
      .it_interval = {(time_t)(interval / 1000000000), (long)(interval % 1000000000)}};
  raw_syscall4(SYS_timer_settime, timer, 0, (long)&when, 0);
}

/* Each is a signal of the host's user's RLIMIT_SIGPENDING: leave it half. */
static bool timers_left(void) {
  struct rlimit limit;
  if (raw_syscall4(SYS_prlimit64, 0, RLIMIT_SIGPENDING, 0, (long)&limit) != 0 ||
      limit.rlim_cur == RLIM_INFINITY)
    return true;
  return atomic_load_explicit(&timers, memory_order_relaxed) < limit.rlim_cur / 2;
}

/* ---- when ---- */

uint64_t cpu_sampling_tick(void) {
  static _Atomic uint64_t known; /* whoever asks first stores what anybody would */
  uint64_t tick = atomic_load_explicit(&known, memory_order_relaxed);
  if (tick) return tick;
  struct timespec resolution = {0, 0};
  raw_syscall4(SYS_clock_getres, CLOCK_MONOTONIC_COARSE, (long)&resolution, 0, 0);
  tick = (uint64_t)resolution.tv_nsec >= 500000 && resolution.tv_sec == 0
             ? (uint64_t)resolution.tv_nsec
             : 4000000;
  atomic_store_explicit(&known, tick, memory_order_relaxed);
  return tick;
}

/* splitmix64 over a shared counter (Steele, Lea, Flood 2014): any thread may draw. */
static uint64_t draw_below(uint64_t limit) {
  uint64_t z =
      atomic_fetch_add_explicit(&random_state, 0x9e3779b97f4a7c15ull, memory_order_relaxed);
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ z >> 27) * 0x94d049bb133111ebull;
  return (uint64_t)(((unsigned __int128)(z ^ z >> 31) * limit) >> 64);
}

/* How late an expiry is noticed on average, in the thread's CPU time. Half a tick if ticks came
 * evenly; measured, because they do not on machines that are short of CPU. Handlers add to it,
 * races between them lose a measurement. */
static _Atomic uint64_t mean_lateness;

static uint64_t lateness(void) {
  uint64_t measured = atomic_load_explicit(&mean_lateness, memory_order_relaxed);
  return measured ? measured : cpu_sampling_tick() / 2;
}

/* One of the last expiry, and of all that came since the tick before: they were a period apart. */
static void lateness_was(uint64_t late, uint64_t every, int overrun) {
  enum { WEIGHT = 64 };
  uint64_t tick = cpu_sampling_tick(), mean = lateness(),
           weight = overrun < 0        ? 1
                    : overrun < WEIGHT ? (uint64_t)overrun + 1
                                       : WEIGHT;
  if (every < 2 * tick)
    return; /* nothing to be learned: every expiry is late by more than its period */
  late += (weight - 1) * every / 2;
  mean = mean - mean * weight / WEIGHT + late * weight / WEIGHT;
  atomic_store_explicit(&mean_lateness,
                        mean < tick / 4   ? tick / 4
                        : mean > 4 * tick ? 4 * tick
                                          : mean,
                        memory_order_relaxed);
}

/* See cpu_sampling.h. With probability tick / every: at once, which means at the first tick. Else
 * evenly over the rest and a moment later, such that the mean of all is every / 2 - lateness: what
 * is noticed too late to be seen is made up for by what comes too early. */
static uint64_t first_expiry(uint64_t every) {
  uint64_t tick = cpu_sampling_tick(), u = draw_below(every), late = lateness();
  if (u < tick) return 1;
  uint64_t rest = every - tick, mean = late < every / 2 ? (every / 2 - late) * every / rest
                                                        : 0; /* below 2^63 for periods up to 3 s */
  return mean > rest / 2 ? u - tick + 1 + draw_below(2 * (mean - rest / 2))
                         : 1 + draw_below(2 * mean + 1);
}

/* ---- arming ---- */

enum { TIMER_NONE = 0, TIMER_IS_COUNTER = -1 }; /* thread_record.timer; else the timer's id + 1 */

/* In a child that was forked past our wrapper the number may be a timer of the program's own. */
static void exchange_timer(struct thread_record *record, int timer) {
  int before = atomic_exchange(&record->timer, timer);
  if (before > 0 && atomic_load(&sampled_pid) == own_pid()) timer_remove(before - 1);
}

static void disarm(struct thread_record *record) { exchange_timer(record, TIMER_NONE); }

void cpu_sampling_disarm(uint32_t number) {
  struct thread_record *record = thread_registry_at(number);
  if (record && atomic_load(&record->timer)) disarm(record);
}

/* Only if the timer is still shown: another life may have armed itself since. */
static void withdraw(struct thread_record *record, int timer) {
  int shown = timer + 1;
  if (atomic_compare_exchange_strong(&record->timer, &shown, TIMER_NONE)) timer_remove(timer);
}

/* Whoever stops the sampler or ends the thread says so first and then looks for a timer; here the
 * timer is shown first. So one of the two sees the other. A period that has changed meanwhile is
 * taken over, or the thread would go without until the next look. made: by us, not found; who made
 * it takes it back. */
static enum cpu_arming set_shown_timer(struct thread_record *record, uint64_t life, int32_t tid,
                                       int timer, bool made) {
  uint64_t every = atomic_load(&period), set;
  do {
    if (every == 0 || atomic_load(&record->life) != life) {
      if (made) withdraw(record, timer);
      return CPU_NOT_ARMED_GONE;
    }
    uint64_t first = first_expiry(every);
    atomic_store_explicit(&record->ticks, 0, memory_order_relaxed);
    atomic_store_explicit(&record->expiry, clock_nanoseconds(thread_cpu_clock(tid)) + first,
                          memory_order_relaxed);
    timer_set(timer, first, every);
    set = every;
    every = atomic_load(&period);
  } while (every != set || atomic_load(&record->life) != life);
  return CPU_ARMED;
}

static enum cpu_arming arm(uint32_t number, uint64_t life, int32_t tid) {
  struct thread_record *record = thread_registry_at(number);
  int timer = atomic_load(&record->timer) - 1;
  bool made = timer < 0;
  if (timer + 1 == TIMER_IS_COUNTER) return CPU_ARMED;
  if (made) {
    if (!timers_left()) return CPU_NOT_ARMED_LIMIT;
    timer = timer_make(thread_cpu_clock(tid), tid, value_of(KIND_TICK, number, life));
    if (timer == -EAGAIN || timer == -ENOMEM) return CPU_NOT_ARMED_LIMIT;
    if (timer < 0) return timer == -EINVAL ? CPU_NOT_ARMED_GONE : CPU_NOT_ARMED_REFUSED;
    int none = TIMER_NONE;
    if (!atomic_compare_exchange_strong(&record->timer, &none,
                                        timer + 1)) { /* the thread did it itself meanwhile */
      timer_remove(timer);
      return CPU_ARMED;
    }
  }
  return set_shown_timer(record, life, tid, timer, made);
}

enum cpu_arming cpu_sampling_arm(uint32_t number, bool signal_blocked) {
  struct thread_view thread;
  if (!thread_registry_read(number, &thread)) return CPU_NOT_ARMED_GONE;
  if (signal_blocked) {
    cpu_sampling_disarm(number);
    return CPU_NOT_ARMED_BLOCKED;
  }
  return arm(number, thread.life, thread.tid);
}

bool cpu_sampling_counter_opened(uint32_t number, int32_t tid, int descriptor) {
  struct thread_view thread;
  if (descriptor < 0 || descriptor >= CPU_COUNTERS_MAX || !thread_registry_read(number, &thread) ||
      thread.tid != tid)
    return false;
  atomic_store(&counters_used, true);
  atomic_store(&counter_values[descriptor], value_of(KIND_TICK, number, thread.life));
  return true;
}

void cpu_sampling_counter_closed(int descriptor) {
  uint64_t value = atomic_exchange(&counter_values[descriptor], 0);
  uint32_t number = value & ((1u << RECORD_BITS) - 1);
  struct thread_record *record = thread_registry_at(number);
  int counter = TIMER_IS_COUNTER;
  if (record && value == value_of(KIND_TICK, number, atomic_load(&record->life)))
    atomic_compare_exchange_strong(&record->timer, &counter, TIMER_NONE);
}

AT_FORK int32_t cpu_sampling_process(void) { return confinement_forbids_calls() ? 0 : own_pid(); }

bool cpu_sampling_is_on(void) { return atomic_load_explicit(&period, memory_order_relaxed) != 0; }

AT_FORK void cpu_sampling_forget(void) {
  sample_buffer_forget(&cpu_samples);
  sample_buffer_forget(&dump_samples);
  if (atomic_load(&timers)) atomic_store(&timers, 0);
  /* siblings' draws are not the same */
  if (atomic_load(&random_state)) atomic_store(&random_state, 0);
  if (atomic_load(&must_not_arm)) atomic_store(&must_not_arm, false);
  if (atomic_load(&announce)) atomic_store(&announce, 0);
  if (!cpu_sampling_is_on()) return;
  atomic_store(&period, 0);
  memset((void *)counter_values, 0, sizeof counter_values);
  for (uint32_t number = thread_registry_count(); number > 0; number--) {
    struct thread_record *record = thread_registry_at(number);
    if (record) atomic_store(&record->timer, TIMER_NONE);
  }
}

void cpu_sampling_let_threads_arm_themselves(bool yes) {
  atomic_store_explicit(&must_not_arm, !yes, memory_order_relaxed);
}

void cpu_sampling_announce_births(enum births_wanted_by who, bool yes) {
  if (yes) atomic_fetch_or_explicit(&announce, who, memory_order_relaxed);
  else atomic_fetch_and_explicit(&announce, ~(uint32_t)who, memory_order_relaxed);
}

static void announce_birth(void) {
  atomic_fetch_add_explicit(&cpu_sampling_births, 1, memory_order_release);
  raw_futex_wake(&cpu_sampling_births, INT32_MAX);
}

void cpu_sampling_thread_starts(uint32_t number) {
  if (atomic_load_explicit(&announce, memory_order_relaxed) && !confinement_forbids_calls())
    announce_birth();
  if (!cpu_sampling_is_on() || confinement_forbids_calls() ||
      atomic_load_explicit(&must_not_arm, memory_order_relaxed))
    return;
  if (atomic_load(&sampled_pid) != own_pid() || sampling_signal_is_blocked()) return;
  struct thread_record *record = thread_registry_at(number);
  arm(number, atomic_load(&record->life), atomic_load(&record->tid));
}

uint32_t cpu_sampling_timers(void) { return atomic_load_explicit(&timers, memory_order_relaxed); }

const char *cpu_sampling_prepare(void) {
  const char *reason = confinement_reason();
  return reason ? reason : sampling_signal_choose();
}
int cpu_sampling_signal(void) { return sampling_signal(); }

const char *cpu_sampling_set_period(uint64_t nanoseconds) {
  if (nanoseconds) {
    const char *fault = cpu_sampling_prepare();
    if (fault) return fault;
    if (!atomic_load(&random_state)) {
      struct timespec now = {0, 0};
      raw_syscall4(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&now, 0, 0);
      atomic_store(
          &random_state,
          ((uint64_t)now.tv_nsec << 32 ^ (uint64_t)now.tv_sec ^ (uint64_t)own_pid() << 20) | 1);
    }
    cpu_sampling_tick();
    atomic_store(&sampled_pid, own_pid());
  }
  atomic_store(&period, nanoseconds);
  /* against set_shown_timer(), for the number of records too: either it sees 0, or we see its
   * timer */
  atomic_thread_fence(memory_order_seq_cst);
  if (nanoseconds == 0)
    for (uint32_t number = thread_registry_count(); number > 0; number--)
      cpu_sampling_disarm(number);
  return NULL;
}

int cpu_sampling_request_stack(uint32_t number, bool is_blocked) {
  struct thread_view thread;
  if (cpu_sampling_prepare() || !thread_registry_read(number, &thread) || !timers_left()) return -1;
  clockid_t clock = is_blocked ? CLOCK_MONOTONIC : thread_cpu_clock(thread.tid);
  int timer = timer_make(clock, thread.tid, value_of(KIND_DUMP, number, thread.life));
  if (timer < 0) return -1;
  timer_set(timer, 1, 0);
  return timer;
}

void cpu_sampling_withdraw_request(int token) { timer_remove(token); }

/* ---- the handler: on the host's thread, all signals blocked; nothing here touches errno or takes
 * a lock ---- */

static struct unwind_registers registers_of(const ucontext_t *context) {
#if defined(__x86_64__)
  const greg_t *r = context->uc_mcontext.gregs;
  return (struct unwind_registers){.pc = (uintptr_t)r[REG_RIP],
                                   .sp = (uintptr_t)r[REG_RSP],
                                   .fp = (uintptr_t)r[REG_RBP],
                                   .rbx = (uintptr_t)r[REG_RBX]};
#else
#error "registers_of is not written for this architecture yet"
#endif
}

/* How many periods a sample of a timer stands for. A thread's first one stands for the whole tick
 * in which it came (twice the mean lateness, or more where it came later than that), where the
 * period is shorter: see cpu_sampling.h. */
static uint32_t timer_ticks(struct thread_record *record, uint64_t every, int overrun,
                            uint64_t cpu_now) {
  uint32_t before = atomic_fetch_add_explicit(&record->ticks, 1, memory_order_relaxed);
  uint64_t expiry = atomic_load_explicit(&record->expiry, memory_order_relaxed);
  uint64_t past = cpu_now > expiry ? cpu_now - expiry : 0, late = past % every;
  atomic_store_explicit(&record->expiry, cpu_now - late, memory_order_relaxed);
  lateness_was(late, every, overrun);
  if (before == 0 && every < cpu_sampling_tick())
    return (uint32_t)(((past > 2 * lateness() ? past : 2 * lateness()) + draw_below(every)) /
                      every);
  return overrun > 0 ? 1 + (uint32_t)overrun : 1;
}

struct tick_source {
  uint64_t value;
  int counter; /* its descriptor, or... */
  int overrun; /* ... of a timer */
};
enum { NO_COUNTER = -1 };

/* At a counter's first signal: it takes the timer's place. Its expiries count from where the
 * timer's next might have been noticed. False: the sampler has taken away either meanwhile. */
static bool counter_takes_over(const struct tick_source *source, struct thread_record *record) {
  int timer = atomic_load(&record->timer), counter = TIMER_IS_COUNTER;
  if (timer == TIMER_IS_COUNTER) return true;
  if (timer <= 0 || !atomic_compare_exchange_strong(&record->timer, &timer, TIMER_IS_COUNTER))
    return false;
  timer_remove(timer - 1);
  atomic_fetch_add_explicit(&record->expiry, draw_below(2 * lateness()), memory_order_relaxed);
  if (atomic_load(&counter_values[source->counter]) == source->value) return true;
  atomic_compare_exchange_strong(
      &record->timer, &counter,
      TIMER_NONE); /* seq_cst against counter_closed(): one of both sees the other */
  return false;
}

/* A counter's signal is one however many expiries there were, and late by what a busy machine makes
 * of it: the periods of CPU time that have passed count, to the nearest one, and what that leaves
 * is carried over. So a thread's sum is never off by more than a period. */
static uint32_t counter_ticks(struct thread_record *record, uint64_t every, uint64_t cpu_now) {
  uint64_t counted = atomic_load_explicit(&record->expiry, memory_order_relaxed),
           now = cpu_now + every / 2; /* in this thread alone */
  uint64_t ticks = now > counted ? (now - counted) / every : 0;
  atomic_store_explicit(&record->expiry, counted + ticks * every, memory_order_relaxed);
  return (uint32_t)ticks;
}

/* How many periods a tick stands for. A timer's that was pending when a counter took over: none, it
 * is in what the counter finds. */
static uint32_t ticks_of(const struct tick_source *source, struct thread_record *record,
                         uint64_t every) {
  uint64_t cpu_now = clock_nanoseconds(CLOCK_THREAD_CPUTIME_ID);
  if (source->counter != NO_COUNTER)
    return counter_takes_over(source, record) ? counter_ticks(record, every, cpu_now) : 0;
  return atomic_load(&record->timer) == TIMER_IS_COUNTER
             ? 0
             : timer_ticks(record, every, source->overrun, cpu_now);
}

static bool has_state(struct thread_record *record) {
  return atomic_load_explicit(&record->has_state, memory_order_relaxed);
}

static void take_sample(const struct tick_source *source, struct thread_record *record,
                        const ucontext_t *context) {
  CAPTURED_STACK(stack);
  struct stack_sample sample;
  uint32_t number = source->value & ((1u << RECORD_BITS) - 1);
  bool dump = source->value >> KIND_SHIFT & 1;
  uint64_t every = atomic_load(&period);
  uint64_t life = atomic_load_explicit(&record->life, memory_order_acquire);
  if (!(life & 1) || source->value != value_of(dump, number, life) || (!dump && every == 0))
    return; /* a late one */
  memset(&sample, 0, sizeof sample);
  sample.tid = atomic_load_explicit(&record->tid, memory_order_relaxed);
  sample.record = number;
  /* A counter's signal that was blocked for long may come when its descriptor is another thread's.
   */
  if (source->counter != NO_COUNTER && sample.tid != (int32_t)raw_syscall4(SYS_gettid, 0, 0, 0, 0))
    return;
  sample.ticks = dump ? 1 : ticks_of(source, record, every);
  if (sample.ticks == 0) return;
  sample.nanoseconds = sample.ticks * every;
  sample.at = (int64_t)clock_nanoseconds(CLOCK_MONOTONIC);
  struct unwind_registers registers = registers_of(context);
  stack_capture_interrupted(&registers, has_state(record) ? &thread_state : NULL, stack);
  sample.epoch = module_registry_epoch_of(stack->frames, stack->frame_count);
  sample.frame_count = stack->frame_count;
  raw_syscall4(SYS_prctl, PR_GET_NAME, (long)sample.name, 0, 0);
  sample_buffer_write(dump ? &dump_samples : &cpu_samples, &sample, stack->frames);
}

/* A late tick of a thread that has ended interrupts as well, but says nothing of the thread that
 * has its record now. */
static void arrived(const struct tick_source *source, ucontext_t *context) {
  struct thread_record *record = thread_registry_at(source->value & ((1u << RECORD_BITS) - 1));
  if (confinement_forbids_calls()) return;
  if (record) take_sample(source, record, context);
  interrupted_call_restart(context);
}

void sampling_signal_from_timer(uint64_t value, int overrun, ucontext_t *context) {
  arrived(&(struct tick_source){.value = value, .counter = NO_COUNTER, .overrun = overrun},
          context);
}

bool sampling_signal_counters_used(void) { return atomic_load(&counters_used); }

bool sampling_signal_from_counter(int descriptor, ucontext_t *context) {
  uint64_t value = descriptor >= 0 && descriptor < CPU_COUNTERS_MAX
                       ? atomic_load(&counter_values[descriptor])
                       : 0;
  if (!value && !atomic_load(&counters_used)) return false;
  arrived(&(struct tick_source){.value = value, .counter = descriptor},
          context); /* 0: of a counter that is closed, and of no record */
  return true;
}

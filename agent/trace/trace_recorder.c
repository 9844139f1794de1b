#include "trace_recorder.h"

#include <stdatomic.h>
#include <time.h>

#include "shim/base/config.h"
#include "shim/base/raw_syscall.h"
#include "shim/cpu/cpu_sampling.h"
#include "shim/base/trace_ring.h"
#include "shim/stacks/stack_table.h"
#include "agent/cpu/ring_sampling.h"
#include "agent/runtime/agent_lock.h"
#include "agent/runtime/agent_thread.h"
#include "agent/runtime/bare_thread.h"
#include "trace_counters.h"
#include "trace_threads.h"

enum {
  WORK_NANOSECONDS = 5000000, /* between two readings of the rings */
  PATIENT_WORK_NANOSECONDS = 20000000 /* where no listener is in a hurry */
};

/* Under the lock. */
static struct agent_lock lock;
static struct trace_listener *listeners[TRACE_LISTENERS];
static uint32_t listener_count, generation;
static uint64_t events_total, lost_before, lost_locks;
static const char *source, *off_reason;
static void (*call_each_time)(void);

void trace_recorder_lock(void) { agent_lock_take(&lock); }
void trace_recorder_unlock(void) { agent_lock_release(&lock); }
void trace_recorder_call_each_time(void (*call)(void)) { call_each_time = call; }

/* ---- what listeners are told ---- */

static void tell(void *owner, const struct trace_event *event,
                 const struct trace_taken_stack *stack) {
  struct trace_listener *listener = owner;
  trace_gather_event(&listener->gather, event, stack);
}

static void hand_out(void *owner, const struct trace_event *event,
                     const struct trace_taken_stack *stack) {
  (void)owner;
  events_total++;
  for (uint32_t i = 0; i < listener_count; i++) tell(listeners[i], event, stack);
}

/* Of the CPU profile's sampler, which holds its own lock. */
void trace_recorder_take_sample(void *owner, const struct trace_event *event,
                                const struct trace_taken_stack *stack) {
  (void)owner;
  agent_lock_take(&lock);
  events_total++;
  for (uint32_t i = 0; i < listener_count; i++)
    if (listeners[i]->sampling.hz) tell(listeners[i], event, stack);
  agent_lock_release(&lock);
}

struct trace_sampling trace_recorder_wanted_samples(void) {
  struct trace_sampling wanted = {0};
  agent_lock_take(&lock);
  for (uint32_t i = 0; i < listener_count; i++) {
    struct trace_sampling one = listeners[i]->sampling;
    if (one.hz > wanted.hz) wanted.hz = one.hz;
    wanted.may_signal |= one.hz && one.may_signal;
  }
  agent_lock_release(&lock);
  return wanted;
}

static struct trace_taken_stack stack_of(uint32_t id) {
  struct stack_view view;
  if (!id || !stack_table_read(id, &view)) return (struct trace_taken_stack){0};
  return (struct trace_taken_stack){view.frame_count, view.epoch, view.frames};
}

/* The program's own marks, and what it allocated. */
static void hand_out_mark(const struct trace_ring_event *event, enum trace_kind kind) {
  struct trace_taken_stack stack = stack_of(event->stack);
  bool has_name = event->kind != TRACE_RING_MARK_END && event->kind != TRACE_RING_ALLOCATION;
  struct trace_event mark = {.at = (int64_t)event->at,
                             .tid = event->tid,
                             .cpu = -1,
                             .kind = (uint8_t)kind,
                             .text = has_name ? event->name : NULL,
                             .value = event->object};
  hand_out(NULL, &mark, &stack);
}

static void hand_out_lock_event(const struct trace_ring_event *event) {
  struct trace_taken_stack stack = stack_of(event->stack);
  struct trace_wait wait = {.begin = (int64_t)event->begin,
                            .end = (int64_t)event->at,
                            .object = event->object,
                            .tid = event->tid,
                            .was_released = event->was_released};
  struct trace_release release = {
      .at = (int64_t)event->at, .object = event->object, .tid = event->tid, .wakes = event->wakes};
  events_total++;
  for (uint32_t i = 0; i < listener_count; i++) {
    if (event->kind == TRACE_RING_WAIT) trace_gather_wait(&listeners[i]->gather, &wait, &stack);
    else trace_gather_lock_release(&listeners[i]->gather, &release, &stack);
  }
}

static void hand_out_ring_event(const struct trace_ring_event *event) {
  switch ((enum trace_ring_kind)event->kind) {
    case TRACE_RING_WAIT:
    case TRACE_RING_RELEASE: return hand_out_lock_event(event);
    case TRACE_RING_MARK:
    case TRACE_RING_ALLOCATION: return hand_out_mark(event, TRACE_MARK);
    case TRACE_RING_MARK_BEGIN: return hand_out_mark(event, TRACE_MARK_BEGIN);
    case TRACE_RING_MARK_END: return hand_out_mark(event, TRACE_MARK_END);
  }
}

/* ---- the work ---- */

static bool is_hurried(void) {
  for (uint32_t i = 0; i < listener_count; i++)
    if (!listeners[i]->is_patient) return true;
  return false;
}

static void read_everything(void) {
  struct trace_ring_event event;
  int32_t tid;
  uint64_t count;
  trace_threads_read();
  while (trace_ring_next(&event)) hand_out_ring_event(&event);
  while (trace_ring_next_loss(&tid, &count)) {
    lost_locks += count;
    trace_threads_lose(tid, count);
  }
}

static uint32_t count_threads(void) {
  struct trace_threads_status threads = trace_threads_status();
  return threads.with_ring + threads.without_ring;
}

/* Until it is time, or a thread starts. */
static void wait_for_work(bool hurried) {
  uint32_t births = atomic_load_explicit(&cpu_sampling_births, memory_order_acquire);
  static _Atomic uint32_t seen; /* this thread's alone */
  if (births == atomic_exchange_explicit(&seen, births, memory_order_relaxed)) {
    struct timespec pause = {.tv_nsec = hurried ? WORK_NANOSECONDS : PATIENT_WORK_NANOSECONDS};
    raw_futex_wait(&cpu_sampling_births, births, &pause);
  }
}

/* However many threads are born, the work takes no more than its share of a processor. */
static void rest_after(int64_t cost, bool hurried) {
  enum { FREE_NANOSECONDS = 100000, SHARE = 4, PATIENT_SHARE = 10, LONGEST_NANOSECONDS = 20000000 };
  if (cost < FREE_NANOSECONDS) return;
  int64_t rest = cost * (hurried ? SHARE : PATIENT_SHARE);
  if (rest > LONGEST_NANOSECONDS) rest = LONGEST_NANOSECONDS;
  struct timespec pause = {.tv_nsec = (long)rest};
  nanosleep(&pause, NULL);
}

/* False: nobody listens any more, or another thread does the work. */
static bool work_once(uint32_t own_generation, bool *hurried) {
  agent_lock_take(&lock);
  bool goes_on = listener_count > 0 && generation == own_generation;
  if (goes_on) {
    *hurried = is_hurried();
    trace_threads_work(*hurried);
    read_everything();
    trace_counters_look_if_due(count_threads(), *hurried, hand_out);
    if (call_each_time) call_each_time();
  }
  agent_lock_release(&lock);
  return goes_on;
}

static void work(void *own) {
  bool hurried = true;
  bare_thread_enter_libc();
  for (;;) {
    wait_for_work(hurried);
    int64_t before = agent_own_cpu_nanoseconds();
    trace_samples_read_if_due();
    if (!work_once((uint32_t)(uintptr_t)own, &hurried)) return;
    rest_after(agent_own_cpu_nanoseconds() - before, hurried);
  }
}

/* NULL: the kernel tells when threads are switched; or why it does not. */
static const char *find_refusal(void) {
  if (config.cpu == CPU_TIMER) return "PPROFAGENT_CPU is timer";
  const char *forbidden = ring_sampling_forbidden();
  if (forbidden) return forbidden;
  struct perf_ring ring;
  int fault = perf_ring_open_switches(&ring, 0, 1);
  if (fault) return perf_ring_describe(fault);
  perf_ring_close(&ring);
  return NULL;
}

static bool start(void) {
  off_reason = find_refusal();
  source = off_reason ? "looks" : "switch records";
  cpu_sampling_announce_births(BIRTHS_FOR_TRACES, true);
  trace_counters_start();
  trace_ring_open(config.trace_buffer / 4); /* without memory: no lock's waits */
  bool started = trace_threads_start(!off_reason, config.trace_buffer / 4 * 3, hand_out);
  if (started &&
      agent_thread_create(NULL, AGENT_THREAD_STACK, work, (void *)(uintptr_t)++generation) == 0)
    return true;
  if (started) trace_threads_stop();
  trace_ring_close();
  cpu_sampling_announce_births(BIRTHS_FOR_TRACES, false);
  return false;
}

static void stop(void) {
  cpu_sampling_announce_births(BIRTHS_FOR_TRACES, false);
  lost_before += trace_threads_status().lost;
  trace_ring_close();
  trace_threads_stop();
}

/* ---- listeners ---- */

void trace_recorder_read(void) { read_everything(); }

uint64_t trace_recorder_lost(void) { return trace_threads_status().lost + lost_locks; }

void trace_recorder_look_at_counters(void) { trace_counters_look(count_threads(), hand_out); }

bool trace_recorder_add(struct trace_listener *listener) {
  if (listener_count == TRACE_LISTENERS) return false;
  listeners[listener_count++] = listener; /* first: what is found at the start is for it */
  if (listener_count == 1 && !start()) {
    listener_count = 0;
    return false;
  }
  if (listener_count > 1) trace_threads_tell_newcomer(tell, listener);
  return true;
}

void trace_recorder_tell_states(struct trace_listener *listener) {
  trace_threads_tell_leaver(tell, listener);
}

int64_t trace_recorder_period(void) { return off_reason ? trace_threads_status().period : 0; }

void trace_recorder_remove(struct trace_listener *listener) {
  uint32_t at = 0;
  while (listeners[at] != listener) at++;
  listeners[at] = listeners[--listener_count];
  if (listener_count == 0) stop();
}

struct trace_recorder_status trace_recorder_status(void) {
  struct trace_threads_status threads = {0};
  if (listener_count) threads = trace_threads_status();
  return (struct trace_recorder_status){
      .threads_with_ring = threads.with_ring,
      .threads_without_ring = threads.without_ring,
      .events = events_total,
      .lost = lost_before + lost_locks + threads.lost,
      .ring_bytes = listener_count ? threads.ring_bytes + trace_ring_bytes() : 0,
      .source = source,
      .off_reason = off_reason};
}

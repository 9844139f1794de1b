#include "trace_recording.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "shim/base/config.h"
#include "shim/base/raw_syscall.h"
#include "shim/cpu/cpu_sampling.h"
#include "shim/base/trace_ring.h"
#include "shim/stacks/stack_table.h"
#include "agent/cpu/ring_sampling.h"
#include "agent/runtime/agent_lock.h"
#include "agent/runtime/agent_memory.h"
#include "agent/runtime/agent_thread.h"
#include "agent/runtime/bare_thread.h"
#include "agent/runtime/process_info.h"
#include "agent/symbols/announced_code.h"
#include "trace_counters.h"
#include "trace_gather.h"
#include "trace_samples.h"
#include "trace_stacks.h"
#include "trace_threads.h"
#include "trace_timeline.h"
#include "trace_waits.h"

enum {
  WORK_NANOSECONDS = 5000000, /* between two readings of the rings */
  GATHER_TIMES = 4 /* so many times PPROFAGENT_TRACE_BUFFER may be gathered from the rings */
};

struct trace_recording {
  struct trace_gather gather;
  int64_t start, end;
  struct trace_sampling sampling;
  uint64_t lost; /* at the start; then, of its window */
  struct trace_stacks stacks;
  struct process_identity process;
  struct trace_log log;
};

/* Under the lock. */
static struct agent_lock lock;
static struct trace_recording *clients[TRACE_MAX_CLIENTS];
static uint32_t client_count, generation;
static uint64_t events_total, left_out_total, lost_total, lost_locks_total;
static const char *source, *off_reason;

/* ---- the work ---- */

static void gather(void *owner, const struct trace_event *event,
                   const struct trace_taken_stack *stack) {
  struct trace_recording *client = owner;
  trace_gather_event(&client->gather, event, stack);
}

static void hand_out(void *owner, const struct trace_event *event,
                     const struct trace_taken_stack *stack) {
  (void)owner;
  events_total++;
  for (uint32_t i = 0; i < client_count; i++) gather(clients[i], event, stack);
}

/* Of the CPU profile's sampler, which holds its own lock. */
static void hand_out_sample(void *owner, const struct trace_event *event,
                            const struct trace_taken_stack *stack) {
  (void)owner;
  agent_lock_take(&lock);
  events_total++;
  for (uint32_t i = 0; i < client_count; i++)
    if (clients[i]->sampling.hz) gather(clients[i], event, stack);
  agent_lock_release(&lock);
}

static struct trace_sampling wanted_samples(void) {
  struct trace_sampling wanted = {0};
  agent_lock_take(&lock);
  for (uint32_t i = 0; i < client_count; i++) {
    struct trace_sampling one = clients[i]->sampling;
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
  for (uint32_t i = 0; i < client_count; i++) {
    if (event->kind == TRACE_RING_WAIT) trace_gather_wait(&clients[i]->gather, &wait, &stack);
    else trace_gather_lock_release(&clients[i]->gather, &release, &stack);
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

static void read_everything(void) {
  struct trace_ring_event event;
  int32_t tid;
  uint64_t count;
  trace_threads_read();
  while (trace_ring_next(&event)) hand_out_ring_event(&event);
  while (trace_ring_next_loss(&tid, &count)) {
    lost_locks_total += count;
    trace_threads_lose(tid, count);
  }
}

static uint32_t count_threads(void) {
  struct trace_threads_status threads = trace_threads_status();
  return threads.with_ring + threads.without_ring;
}

/* Until it is time, or a thread starts. */
static void wait_for_work(void) {
  uint32_t births = atomic_load_explicit(&cpu_sampling_births, memory_order_acquire);
  static _Atomic uint32_t seen; /* this thread's alone */
  if (births == atomic_exchange_explicit(&seen, births, memory_order_relaxed)) {
    struct timespec pause = {.tv_nsec = WORK_NANOSECONDS};
    raw_futex_wait(&cpu_sampling_births, births, &pause);
  }
}

/* However many threads are born, the work takes no more than its share of a processor. */
static void rest_after(int64_t cost) {
  enum { FREE_NANOSECONDS = 100000, SHARE = 4, LONGEST_NANOSECONDS = 20000000 };
  if (cost < FREE_NANOSECONDS) return;
  int64_t rest = cost * SHARE < LONGEST_NANOSECONDS ? cost * SHARE : LONGEST_NANOSECONDS;
  struct timespec pause = {.tv_nsec = (long)rest};
  nanosleep(&pause, NULL);
}

static void work(void *own) {
  bare_thread_enter_libc();
  for (;;) {
    wait_for_work();
    int64_t before = agent_own_cpu_nanoseconds();
    trace_samples_read_if_due();
    agent_lock_take(&lock);
    bool ends = client_count == 0 || generation != (uint32_t)(uintptr_t)own;
    if (!ends) {
      trace_threads_work();
      read_everything();
      trace_counters_look_if_due(count_threads(), hand_out);
    }
    agent_lock_release(&lock);
    if (ends) return;
    rest_after(agent_own_cpu_nanoseconds() - before);
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
  lost_total += trace_threads_status().lost;
  trace_ring_close();
  trace_threads_stop();
}

/* ---- a client ---- */

static enum trace_result join(struct trace_recording *client) {
  if (client_count == TRACE_MAX_CLIENTS) return TRACE_TOO_MANY;
  clients[client_count++] = client; /* first: what is found at the start is for it */
  if (client_count == 1 && !start()) {
    client_count = 0;
    return TRACE_NO_MEMORY;
  }
  if (client_count > 1) trace_threads_tell_newcomer(gather, client);
  return TRACE_DONE;
}

/* The window, when all is there that tells of it. */
static void begin(struct trace_recording *client) {
  agent_lock_take(&lock);
  read_everything();
  client->lost = trace_threads_status().lost + lost_locks_total;
  client->start = agent_monotonic_nanoseconds();
  trace_counters_look(count_threads(), hand_out);
  agent_lock_release(&lock);
}

static void end_window(struct trace_recording *client) {
  agent_lock_take(&lock);
  trace_counters_look(count_threads(), hand_out);
  client->end = agent_monotonic_nanoseconds();
  agent_lock_release(&lock);
}

static void leave(struct trace_recording *client) {
  read_everything();
  trace_threads_tell_leaver(gather, client);
  client->lost = trace_threads_status().lost + lost_locks_total - client->lost;
  client->log.is_sampled = off_reason != NULL;
  client->log.period = off_reason ? trace_threads_status().period : 0;
  left_out_total += client->gather.left_out;
  uint32_t at = 0;
  while (clients[at] != client) at++;
  clients[at] = clients[--client_count];
  if (client_count == 0) stop();
}

/* False: no memory. */
static bool finish(struct trace_recording *recording) {
  struct trace_gather *gathered = &recording->gather;
  bool is_full = gathered->full_at && gathered->full_at < recording->end;
  if (is_full && gathered->full_at > recording->start) recording->end = gathered->full_at;
  process_identity_read(&recording->process);
  if (!trace_waits_link(gathered, recording->log.is_sampled) ||
      !trace_timeline_make(gathered, recording->start, recording->end) ||
      !trace_stacks_name(gathered, &recording->stacks))
    return false;
  struct trace_log *log = &recording->log;
  log->program = recording->process.comm;
  log->pid = recording->process.pid;
  log->start = recording->start;
  log->end = recording->end;
  log->lost = recording->lost + gathered->left_out;
  log->sample_hz = recording->sampling.hz;
  if (log->sample_hz) log->samples_off = trace_samples_status().off_reason;
  log->events = gathered->events.items;
  log->event_count = gathered->events.count;
  log->stacks = recording->stacks.items;
  log->stack_count = gathered->stacks.count;
  return true;
}

enum trace_result trace_recording_take(struct http_response *response, int64_t nanoseconds,
                                       struct trace_sampling sampling,
                                       struct trace_recording **out) {
  *out = NULL;
  struct trace_recording *recording = agent_calloc(1, sizeof *recording);
  if (!recording) return TRACE_NO_MEMORY;
  recording->sampling = sampling;
  trace_gather_start(&recording->gather, config.trace_buffer * GATHER_TIMES);
  announced_code_update(true);
  agent_lock_take(&lock);
  enum trace_result result = join(recording);
  agent_lock_release(&lock);
  if (result == TRACE_DONE) {
    if (sampling.hz) trace_samples_adjust(wanted_samples, hand_out_sample);
    begin(recording);
    bool stayed = http_wait(response, recording->start + nanoseconds);
    end_window(recording);
    if (sampling.hz) trace_samples_read();
    agent_lock_take(&lock);
    leave(recording);
    agent_lock_release(&lock);
    if (sampling.hz) trace_samples_adjust(wanted_samples, hand_out_sample);
    if (!stayed) result = TRACE_CANCELED;
    else if (!finish(recording)) result = TRACE_NO_MEMORY;
  }
  if (result == TRACE_DONE) *out = recording;
  else trace_recording_release(recording);
  return result;
}

const struct trace_log *trace_recording_log(const struct trace_recording *recording) {
  return &recording->log;
}

void trace_recording_release(struct trace_recording *recording) {
  if (!recording) return;
  trace_gather_free(&recording->gather);
  trace_stacks_release(&recording->stacks);
  agent_free(recording);
}

struct trace_recording_status trace_recording_status(void) {
  agent_lock_take(&lock);
  struct trace_threads_status threads = trace_threads_status();
  struct trace_recording_status status = {
      .running = client_count,
      .threads_with_ring = threads.with_ring,
      .threads_without_ring = threads.without_ring,
      .events = events_total,
      .lost = lost_total + lost_locks_total + threads.lost,
      .left_out = left_out_total,
      .ring_bytes = client_count ? threads.ring_bytes + trace_ring_bytes() : 0,
      .source = source,
      .off_reason = off_reason,
      .names_cut = trace_ring_names_cut(),
      .samples = trace_samples_status()};
  if (client_count == 0) status.lost = lost_total + lost_locks_total;
  agent_lock_release(&lock);
  return status;
}

/* One sampler for all clients (cpu_recording.c). Whoever wakes first drains the buffer and hands
 * each sample to every client, so a client's window is from its arrival to its own last drain. The
 * sampler runs from the first client's arrival to the last one's leave.
 */
#include "cpu_profile.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "shim/base/config.h"
#include "shim/base/counters.h"
#include "shim/cpu/cpu_sampling.h"
#include "shim/stacks/host_handlers.h"
#include "shim/threads/thread_registry.h"
#include "agent/runtime/agent_lock.h"
#include "agent/runtime/agent_memory.h"
#include "agent/symbols/announced_code.h"
#include "agent/runtime/agent_thread.h"
#include "agent/runtime/allowed_calls.h"
#include "agent/runtime/bare_thread.h"
#include "cpu_counters.h"
#include "cpu_client.h"
#include "ring_sampling.h"
#include "agent/runtime/sandbox.h"
#include "agent/threads/thread_list.h"
#include "agent/threads/thread_records.h"

#define SECOND INT64_C(1000000000)

enum {
  BUFFER_BYTES = 4 << 20, /* at the 250 ticks a second that a kernel may give, of 64 cores and 30
                             frames: a second */
  SCAN_NANOSECONDS = 100000000, /* between two looks for new threads, at least; and... */
  SCAN_SHARE = 100 /* ... as many times what a look costs */
};

/* Everything below belongs to whoever holds the lock. */
static struct agent_lock lock;
static struct client *clients[CPU_PROFILE_MAX_CLIENTS + CPU_RECORDINGS_MAX];
static uint32_t client_count;
static uint32_t watch_hz; /* 0: nobody watches; else watch_sink has each sample too */
static cpu_watch_sink *watch_sink;
static _Atomic uint32_t
    clients_running; /* the same number, for readers that do not wait for the lock */
static uint64_t period; /* the sampler's, 0: stopped */
static uint64_t dropped_seen;
static int64_t next_scan;
static uint32_t armed, refused; /* threads, at the last look */
static uint32_t blocked,
    without_timer; /* those of them that the last look could not arm, and that use CPU time */
static struct left_out { /* by record: a thread that has no timer, and its CPU time when that was
                            first seen */
  uint64_t life, cpu;
} * left_out;
static uint32_t left_out_capacity;
static uint32_t most_blocked, most_without_timer; /* at once, since the sampler was started */

static bool by_rings; /* samples come from the kernel's rings, else by timers' signals */
static uint32_t generation; /* of the thread that reads the rings: an older one ends */

static const char *_Atomic off_reason, *_Atomic perf_off_reason, *_Atomic source;

const char *cpu_profile_off_reason(void) {
  return atomic_load_explicit(&off_reason, memory_order_relaxed);
}

const char *cpu_profile_source(void) { return atomic_load_explicit(&source, memory_order_relaxed); }

const char *cpu_profile_perf_off_reason(void) {
  return atomic_load_explicit(&perf_off_reason, memory_order_relaxed);
}

uint32_t cpu_profile_running(void) {
  return atomic_load_explicit(&clients_running, memory_order_relaxed);
}

uint64_t cpu_profile_buffer_bytes(void) {
  return atomic_load_explicit(&cpu_samples.memory, memory_order_relaxed) ? BUFFER_BYTES : 0;
}

/* ---- threads ---- */

static void count_new(_Atomic uint64_t *counter, uint32_t now, uint32_t *most) {
  if (now <= *most) return;
  atomic_fetch_add_explicit(counter, now - *most, memory_order_relaxed);
  *most = now;
}

/* Whether a thread that has no timer has used CPU time, a period at least, since an earlier look
 * found it so: each blocks all signals for a moment when it starts, and many a pool's thread does
 * so for good and sleeps. */
static bool is_missed(uint32_t record, uint64_t life, int32_t tid) {
  if (record >= left_out_capacity) {
    uint32_t capacity = record * 2 + 64;
    struct left_out *larger = agent_realloc(left_out, capacity * sizeof *larger);
    if (!larger) return false;
    memset(larger + left_out_capacity, 0, (capacity - left_out_capacity) * sizeof *larger);
    left_out = larger;
    left_out_capacity = capacity;
  }
  uint64_t cpu = thread_cpu_nanoseconds(tid);
  if (left_out[record].life != life) left_out[record] = (struct left_out){life, cpu};
  return cpu >= left_out[record].cpu + period; /* 0 when it has just ended */
}

/* Arms the threads that have no timer; anew: all of them, the period being another one. */
static void arm_threads(bool anew) {
  struct thread_ids ids;
  bool sandboxed = false;
  host_handlers_adopt_all();
  cpu_counters_sweep();
  if (thread_list_read(&ids)) {
    uint32_t *records = agent_malloc((ids.count + 1) * sizeof *records);
    if (records) thread_records_match(&ids, records);
    for (size_t i = 0; records && i < ids.count; i++) {
      struct thread_record *record = records[i] ? thread_registry_at(records[i]) : NULL;
      if (record && !anew && atomic_load_explicit(&record->timer, memory_order_relaxed) != 0) {
        armed++;
        continue;
      }
      if (!record) continue;
      bool tighter = sandbox_is_tighter(ids.tids[i]);
      sandboxed = sandboxed || tighter;
      enum cpu_arming result =
          tighter ? CPU_NOT_ARMED_REFUSED
                  : cpu_sampling_arm(records[i],
                                     thread_blocks_signal(ids.tids[i], cpu_sampling_signal()));
      armed += result == CPU_ARMED;
      refused += result == CPU_NOT_ARMED_LIMIT || result == CPU_NOT_ARMED_REFUSED;
      if (result == CPU_ARMED || result == CPU_NOT_ARMED_GONE ||
          !is_missed(records[i], atomic_load_explicit(&record->life, memory_order_relaxed),
                     ids.tids[i]))
        continue;
      blocked += result == CPU_NOT_ARMED_BLOCKED;
      without_timer += result != CPU_NOT_ARMED_BLOCKED;
    }
    agent_free(records);
    thread_list_release(&ids);
  }
  cpu_sampling_let_threads_arm_themselves(!sandboxed); /* they inherit their creator's filters */
}

static void hand_out(const struct stack_sample *sample) {
  for (uint32_t i = 0; i < client_count; i++) cpu_sample_table_add(&clients[i]->samples, sample);
  if (watch_hz) watch_sink(sample);
}

static void look_at_rings(void) {
  struct ring_sampling_threads found = ring_sampling_look(hand_out);
  armed = found.with_ring;
  refused = without_timer = found.without_ring;
}

/* Every thread gets a record, and a ring. */
static void open_rings(void) {
  struct thread_ids ids;
  if (thread_list_read(&ids)) {
    uint32_t *records = agent_malloc((ids.count + 1) * sizeof *records);
    if (records) thread_records_match(&ids, records);
    agent_free(records);
    thread_list_release(&ids);
  }
  look_at_rings();
}

/* anew: the period is another one. */
static void look_for_threads(bool anew) {
  int64_t before = agent_own_cpu_nanoseconds();
  blocked = without_timer = armed = refused = 0;
  announced_code_update(false);
  if (by_rings) open_rings();
  else arm_threads(anew);
  count_new(&shim_counters.cpu_threads_signal_blocked, blocked, &most_blocked);
  count_new(&shim_counters.cpu_threads_no_timer, without_timer, &most_without_timer);
  for (uint32_t i = 0; i < client_count; i++)
    cpu_coverage_threads(&clients[i]->coverage, blocked, without_timer);
  int64_t pause = anew ? 0 : (agent_own_cpu_nanoseconds() - before) * SCAN_SHARE;
  next_scan = agent_monotonic_nanoseconds() + (pause > SCAN_NANOSECONDS ? pause : SCAN_NANOSECONDS);
}

/* ---- the sampler ---- */

static void drain(void) {
  const struct stack_sample *sample;
  if (by_rings) {
    ring_sampling_drain(hand_out);
    return;
  }
  while ((sample = sample_buffer_next(&cpu_samples))) {
    hand_out(sample);
    if (period) cpu_counters_saw(sample->record, sample->tid, period);
  }
  uint64_t dropped = atomic_load_explicit(&cpu_samples.dropped, memory_order_relaxed);
  if (dropped == dropped_seen) return;
  atomic_fetch_add_explicit(&shim_counters.cpu_lost_buffer_full, dropped - dropped_seen,
                            memory_order_relaxed);
  for (uint32_t i = 0; i < client_count; i++)
    clients[i]->coverage.dropped += dropped - dropped_seen;
  dropped_seen = dropped;
}

/* NULL, or why not. */
static const char *set_period(uint64_t wanted) {
  if (wanted == period) return NULL;
  if (by_rings) {
    drain();
    ring_sampling_set_period(wanted);
  } else {
    const char *reason = cpu_sampling_set_period(wanted);
    if (reason) return reason;
    cpu_counters_close(); /* before the threads get timers again */
  }
  period = wanted;
  for (uint32_t i = 0; i < client_count; i++)
    if (wanted < clients[i]->period) clients[i]->period = wanted;
  look_for_threads(true);
  if (armed > 0 || refused == 0) return NULL;
  return by_rings ? "the kernel gives no ring for any of the program's threads (RLIMIT_NOFILE, "
                    "RLIMIT_MEMLOCK)"
                  : "the kernel gives no timer for any of the program's threads "
                    "(RLIMIT_SIGPENDING, a sandbox)";
}

static void read_rings(void *own);

/* NULL: by_rings; or why not. */
static const char *start_rings(void) {
  const char *reason = ring_sampling_refusal();
  if (reason) return reason;
  if (!ring_sampling_start()) return "there is no memory for it";
  by_rings = true;
  if (agent_thread_create(NULL, AGENT_THREAD_STACK, read_rings, (void *)(uintptr_t)++generation)) {
    by_rings = false;
    ring_sampling_stop();
    return "no thread can be made for it";
  }
  atomic_store_explicit(&source, "perf", memory_order_relaxed);
  return NULL;
}

static enum cpu_profile_result start_timers(const char **reason) {
  *reason = cpu_sampling_prepare();
  if (*reason) return CPU_PROFILE_REFUSED;
  atomic_store_explicit(&source, "timer", memory_order_relaxed);
  host_handlers_settle();
  if (!sample_buffer_open(&cpu_samples, BUFFER_BYTES)) return CPU_PROFILE_NO_MEMORY;
  dropped_seen = atomic_load_explicit(&cpu_samples.dropped, memory_order_relaxed);
  return CPU_PROFILE_DONE;
}

static void stop(void) {
  period = 0;
  if (by_rings) {
    drain();
    by_rings = false;
    ring_sampling_stop();
    ring_sampling_wake(); /* its reader ends */
    return;
  }
  cpu_counters_close();
  cpu_sampling_set_period(0);
  drain();
  sample_buffer_close(&cpu_samples);
  agent_free(left_out);
  left_out = NULL;
  left_out_capacity = 0;
}

/* Looks again while clients wait. A program that has given up the right to rings in the middle of a
 * profile is sampled by timers from then on. */
static void look_again(void) {
  look_for_threads(false);
  if (!by_rings || armed > 0 || refused == 0 || config.cpu != CPU_AUTO) return;
  uint64_t wanted = period;
  const char *reason;
  stop();
  atomic_store_explicit(&perf_off_reason,
                        "the kernel gives no rings any more: the program has "
                        "given up a right",
                        memory_order_relaxed);
  if (start_timers(&reason) == CPU_PROFILE_DONE && set_period(wanted)) stop();
}

/* A look must not take more than its share of a processor, however many threads are born. */
static void rest_after(int64_t cost) {
  enum { FREE_NANOSECONDS = 50000, SHARE = 4, LONGEST_NANOSECONDS = 5000000 };
  if (cost < FREE_NANOSECONDS) return;
  int64_t rest = cost * SHARE < LONGEST_NANOSECONDS ? cost * SHARE : LONGEST_NANOSECONDS;
  struct timespec pause = {.tv_nsec = (long)rest};
  nanosleep(&pause, NULL);
}

/* The rings' reader: so that a thread that starts has its ring soon, and no ring is ever full. */
static void read_rings(void *own) {
  bare_thread_enter_libc();
  for (;;) {
    ring_sampling_wait();
    int64_t before = agent_own_cpu_nanoseconds();
    agent_lock_take(&lock);
    bool ends = !by_rings || generation != (uint32_t)(uintptr_t)own;
    if (!ends && agent_monotonic_nanoseconds() >= next_scan) look_again();
    else if (!ends) look_at_rings();
    agent_lock_release(&lock);
    if (ends) return;
    rest_after(agent_own_cpu_nanoseconds() - before);
  }
}

static uint32_t fastest_rate(uint32_t hz) {
  if (watch_hz > hz) hz = watch_hz;
  for (uint32_t i = 0; i < client_count; i++)
    if (clients[i]->hz > hz) hz = clients[i]->hz;
  return hz;
}

/* NULL: by rings, one for each thread (for some, where PPROFAGENT_CPU wants them). Or why not. */
static const char *try_rings(uint64_t wanted) {
  const char *reason = start_rings();
  if (reason) return reason;
  reason = set_period(wanted);
  if (!reason && refused > 0 && config.cpu == CPU_AUTO)
    reason = "the kernel does not give a ring for each thread (RLIMIT_NOFILE, RLIMIT_MEMLOCK)";
  if (reason) stop();
  return reason;
}

static const char needs_signals[] =
    "here samples take a signal in the program's threads, which is sent only for who asks: hz=100";

static enum cpu_profile_result start(uint64_t wanted, bool may_signal, const char **reason) {
  most_blocked = most_without_timer = 0;
  *reason = sandbox_is_tighter(0) ? "the program has put itself under a seccomp filter, which may "
                                    "kill it for a call that it does not expect"
                                  : allowed_calls_lack(CALLS_SAMPLING);
  if (*reason) return CPU_PROFILE_REFUSED;
  const char *perf_reason = config.cpu == CPU_TIMER ? NULL : try_rings(wanted);
  atomic_store_explicit(&perf_off_reason, perf_reason, memory_order_relaxed);
  if (by_rings) return CPU_PROFILE_DONE;
  if (config.cpu == CPU_PERF || !may_signal) {
    *reason = config.cpu == CPU_PERF ? perf_reason : needs_signals;
    return CPU_PROFILE_REFUSED;
  }
  enum cpu_profile_result result = start_timers(reason);
  if (result != CPU_PROFILE_DONE || !(*reason = set_period(wanted))) return result;
  stop();
  return CPU_PROFILE_REFUSED;
}

/* At hz from now on, or faster. */
static enum cpu_profile_result speed_up(uint32_t hz, bool may_signal, const char **reason) {
  uint64_t wanted = SECOND / fastest_rate(hz);
  *reason = NULL;
  if (client_count == 0 && !watch_hz) return start(wanted, may_signal, reason);
  *reason = by_rings || may_signal ? set_period(wanted) : needs_signals;
  return *reason ? CPU_PROFILE_REFUSED : CPU_PROFILE_DONE;
}

/* One of those who want samples has gone. A refusal leaves the faster rate on. */
static void slow_down(void) {
  if (client_count == 0 && !watch_hz) stop();
  else set_period(SECOND / fastest_rate(0));
}

/* Those who ask and recordings do not take each other's places. */
static bool is_full(const struct client *client) {
  uint32_t alike = 0;
  for (uint32_t i = 0; i < client_count; i++) alike += clients[i]->records == client->records;
  return alike >= (client->records ? (uint32_t)CPU_RECORDINGS_MAX : CPU_PROFILE_MAX_CLIENTS);
}

static enum cpu_profile_result join(struct client *client, const char **reason) {
  if (is_full(client)) return CPU_PROFILE_TOO_MANY;
  enum cpu_profile_result result = speed_up(client->hz, true, reason);
  atomic_store_explicit(&off_reason, *reason, memory_order_relaxed);
  if (result != CPU_PROFILE_DONE) return result;
  /* The window begins once every thread has its timer; what was sampled before is the others'
   * alone. */
  drain();
  clients[client_count++] = client;
  atomic_store_explicit(&clients_running, client_count, memory_order_relaxed);
  client->period = period;
  client->start_wall = profile_wall_clock();
  client->start = agent_monotonic_nanoseconds();
  cpu_coverage_start(&client->coverage);
  cpu_coverage_threads(&client->coverage, blocked, without_timer);
  return CPU_PROFILE_DONE;
}

static void leave(struct client *client) {
  client->end = agent_monotonic_nanoseconds();
  cpu_coverage_end(&client->coverage);
  if (client_count == 1 && !watch_hz) stop(); /* drains too */
  else drain();
  uint32_t at = 0;
  while (clients[at] != client) at++;
  clients[at] = clients[--client_count];
  atomic_store_explicit(&clients_running, client_count, memory_order_relaxed);
  if (client_count > 0 || watch_hz) slow_down();
}

const char *cpu_profile_watch(uint32_t hz, bool may_signal, cpu_watch_sink *sink) {
  const char *reason = NULL;
  agent_lock_take(&lock);
  if (hz > watch_hz && speed_up(hz, may_signal, &reason) == CPU_PROFILE_NO_MEMORY)
    reason = "there is no memory for it";
  if (!reason) {
    bool is_slower = hz < watch_hz;
    drain(); /* what was before is for the one that was there */
    watch_sink = sink;
    watch_hz = hz;
    if (is_slower) slow_down();
  }
  agent_lock_release(&lock);
  return reason;
}

/* Timers' samples wait in the buffer for somebody to come; those of rings have their reader. */
void cpu_profile_watch_read(void) {
  agent_lock_take(&lock);
  if (watch_hz) drain();
  if (watch_hz && !by_rings && agent_monotonic_nanoseconds() >= next_scan) look_again();
  agent_lock_release(&lock);
}

/* ---- for clients ---- */

enum cpu_profile_result cpu_client_join(struct client *client, const char **reason) {
  *reason = NULL;
  agent_lock_take(&lock);
  enum cpu_profile_result result = join(client, reason);
  agent_lock_release(&lock);
  return result;
}

void cpu_client_leave(struct client *client) {
  agent_lock_take(&lock);
  leave(client);
  agent_lock_release(&lock);
  atomic_fetch_add_explicit(&shim_counters.cpu_lost_no_memory, client->samples.lost,
                            memory_order_relaxed);
}

bool cpu_client_look(void) {
  agent_lock_take(&lock);
  bool by_timers = !by_rings; /* their reader does that for all clients */
  if (by_timers) {
    drain();
    if (agent_monotonic_nanoseconds() >= next_scan) look_again();
  }
  agent_lock_release(&lock);
  return by_timers;
}

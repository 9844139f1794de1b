#include "ring_sampling.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "shim/cpu/cpu_sampling.h"
#include "shim/base/raw_syscall.h"
#include "shim/allocation/sampler.h"
#include "shim/base/stack_depth.h"
#include "shim/threads/thread_registry.h"
#include "agent/runtime/credentials.h"
#include "agent/runtime/agent_memory.h"
#include "agent/runtime/agent_thread.h"
#include "agent/runtime/descriptor_table.h"
#include "agent/runtime/paced_poll.h"
#include "perf_ring.h"
#include "ring_stack.h"
#include "agent/runtime/sandbox.h"
#include "agent/runtime/task_files.h"
#include "agent/threads/thread_list.h"

enum {
  PAGES = 16, /* of a ring: 7 samples; or 4 of a deep stack, in... */
  DEEP_PAGES = 64,
  MOST_PAGES = 256, /* of one that was full */
  SAMPLES_BETWEEN_READS = 3,
  READ_MIN_NANOSECONDS = 1000000,
  READ_MAX_NANOSECONDS = 50000000,
  URGENT_MAX = 16, /* rings of which each sample is waited for */
  URGENT_MILLISECONDS = 2, /* for so long, then threads that have started are looked at */
  BYTES_MAX = 64 << 20, /* of all rings */
  REFUSED_NANOSECONDS = 100000000,
  FIRST_PARTS = 64 /* the first sample comes after a 64th of the period at least */
};

struct sampled_thread {
  struct perf_ring ring;
  uint64_t life; /* of its record */
  uint32_t record;
  int32_t tid;
  uint64_t before; /* its CPU time less the ring's clock */
  uint64_t last; /* CPU time at the last sample, by the ring's clock; 0: none since last time */
  uint64_t due; /* CPU time at which its next sample is due */
  int64_t first_expected; /* CLOCK_MONOTONIC: its first sample, if it runs; 0: that has come */
  uint32_t pages; /* of its ring */
  bool is_deep; /* its stack is larger than what was copied */
  bool is_beyond; /* and than what can be */
  bool may_not_grow;
  uint32_t opened_by; /* credentials, then */
  bool reopen;
  struct stack_sample *seen_last; /* its last sample, or NULL */
  char name[SAMPLE_NAME_SIZE];
};

/* Under the caller's lock. */
static struct sampled_thread *threads;
static uint32_t count, capacity;
static uint32_t *place_of; /* by record: its thread's place + 1 */
static uint32_t place_capacity;
static uint64_t period;
static bool looked; /* with this period */
static int64_t no_ring_before; /* CLOCK_MONOTONIC: the kernel has refused one a moment ago */
static char *scratch;
static struct stack_sample *sample; /* room for the longest stack */
static uint32_t credentials; /* credentials_changes, when the rings were opened */
static uint64_t random_state;

/* For others: written under the lock (relaxed: numbers to show). */
static _Atomic uint32_t open_count;
static _Atomic uint64_t open_bytes, merged;
static _Atomic int64_t next_wake;
/* Descriptors of rings that must be read at once (ring_stack.h). Written under the lock; who waits
 * may see one that is closed by now, or another's: it wakes too early. */
static _Atomic int urgent[URGENT_MAX];
static _Atomic uint32_t urgent_count;

uint32_t ring_sampling_count(void) {
  return atomic_load_explicit(&open_count, memory_order_relaxed);
}
uint64_t ring_sampling_bytes(void) {
  return atomic_load_explicit(&open_bytes, memory_order_relaxed);
}
uint64_t ring_sampling_merged(void) { return atomic_load_explicit(&merged, memory_order_relaxed); }

/* ---- whether ---- */

const char *ring_sampling_forbidden(void) {
  if (sandbox_has_filter()) return "the process is under a seccomp filter";
  if (!descriptor_table_is_private()) return "the agent has no descriptor table of its own";
  return NULL;
}

const char *ring_sampling_refusal(void) {
  const char *forbidden = ring_sampling_forbidden();
  if (forbidden) return forbidden;
  struct perf_ring ring;
  enum { LONG = 1000000000 };
  int fault = perf_ring_open(&ring, 0, LONG, PERF_RING_STACK, PAGES, false);
  if (fault) return perf_ring_describe(fault);
  perf_ring_close(&ring);
  return NULL;
}

/* ---- threads ---- */

static uint64_t draw_below(uint64_t limit) {
  return (uint64_t)(((unsigned __int128)sampler_random(&random_state) * limit) >> 64);
}

static void read_name(struct sampled_thread *thread) {
  int task = task_open(thread->tid);
  thread->name[0] = 0;
  if (task < 0) return;
  task_read_name(task, thread->name, sizeof thread->name);
  close(task);
}

static void count_open(int change, size_t bytes) {
  atomic_fetch_add_explicit(&open_count, (uint32_t)change, memory_order_relaxed);
  atomic_fetch_add_explicit(&open_bytes, (uint64_t)change * bytes, memory_order_relaxed);
}

static void close_ring(struct sampled_thread *thread) {
  if (!thread->ring.memory) return;
  count_open(-1, thread->ring.bytes);
  perf_ring_close(&thread->ring);
}

/* The agent may have as many descriptors as the program: of rings that have their period, none is
 * needed. */
static void give_up_descriptors(void) {
  for (uint32_t i = 0; i < count; i++)
    if (!threads[i].first_expected) perf_ring_give_up_descriptor(&threads[i].ring);
}

/* Both clocks are read at the same moment: this thread may lose its processor between two reads,
 * while the other thread runs on. */
static void set_clock(struct sampled_thread *thread) {
  enum { ATTEMPTS = 4 };
  uint64_t earlier, later;
  for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
    if (!perf_ring_total(&thread->ring, &earlier)) return;
    uint64_t now = thread_cpu_nanoseconds(thread->tid);
    if (!now || !perf_ring_total(&thread->ring, &later)) return; /* it has ended */
    thread->before = now - later;
    if (later - earlier < period / FIRST_PARTS) return;
  }
}

/* due: as it is to be. False: the kernel gives none. */
static bool open_ring(struct sampled_thread *thread) {
  uint32_t stack = thread->is_deep ? PERF_RING_DEEP_STACK : PERF_RING_STACK;
  if (ring_sampling_bytes() + thread->pages * 4096 > BYTES_MAX) return false;
  for (int attempt = 0;; attempt++) {
    uint64_t now = thread_cpu_nanoseconds(thread->tid), least = period / FIRST_PARTS;
    uint64_t first = thread->due > now + least ? thread->due - now : least;
    int fault =
        perf_ring_open(&thread->ring, thread->tid, first, stack, thread->pages, thread->is_beyond);
    thread->before = now;
    thread->opened_by = credentials;
    thread->first_expected = agent_monotonic_nanoseconds() + (int64_t)first;
    if (!fault) break;
    if (attempt > 0 || (fault != EMFILE && fault != ENFILE)) {
      if (fault != ESRCH) no_ring_before = agent_monotonic_nanoseconds() + REFUSED_NANOSECONDS;
      return false;
    }
    give_up_descriptors();
  }
  set_clock(thread);
  count_open(1, thread->ring.bytes);
  return true;
}

static bool reserve_place(uint32_t record) {
  if (record >= place_capacity) {
    uint32_t wanted = record * 2 + 64;
    uint32_t *larger = agent_realloc(place_of, wanted * sizeof *larger);
    if (!larger) return false;
    memset(larger + place_capacity, 0, (wanted - place_capacity) * sizeof *larger);
    place_of = larger;
    place_capacity = wanted;
  }
  if (count == capacity) {
    uint32_t wanted = capacity * 2 + 64;
    struct sampled_thread *larger = agent_realloc(threads, wanted * sizeof *larger);
    if (!larger) return false;
    threads = larger;
    capacity = wanted;
  }
  return true;
}

static bool add_thread(uint32_t record, const struct thread_view *view) {
  if (agent_monotonic_nanoseconds() < no_ring_before || !reserve_place(record)) return false;
  struct sampled_thread thread = {
      .life = view->life, .record = record, .tid = view->tid, .pages = PAGES};
  uint64_t now = thread_cpu_nanoseconds(view->tid);
  /* What has started since the first look is to count from its first moment. */
  bool is_new = looked && now < period;
  thread.due = (is_new ? 0 : now) + 1 + draw_below(period);
  if (!open_ring(&thread)) return false;
  read_name(&thread);
  threads[count] = thread;
  place_of[record] = ++count;
  return true;
}

static void remove_thread(uint32_t place) {
  close_ring(&threads[place]);
  agent_free(threads[place].seen_last);
  uint32_t *owner = &place_of[threads[place].record];
  if (*owner == place + 1) *owner = 0; /* else it is a new thread's record by now */
  threads[place] = threads[--count];
  if (place < count) place_of[threads[place].record] = place + 1;
}

static bool has_ring(uint32_t record, uint64_t life) {
  uint32_t place = record < place_capacity ? place_of[record] : 0;
  return place && threads[place - 1].life == life;
}

/* ---- samples ---- */

static size_t sample_bytes(void) {
  return sizeof *sample + (stack_depth() + 1) * sizeof *sample->frames;
}

static void remember(struct sampled_thread *thread) {
  if (!thread->seen_last) thread->seen_last = agent_malloc(sample_bytes());
  if (thread->seen_last)
    memcpy(thread->seen_last, sample,
           sizeof *sample + sample->frame_count * sizeof *sample->frames);
}

/* Where the thread has ended, or its ring is full: what has become due since its last sample, which
 * stands for it. The next sample would, but may be long in coming, or never come. */
static void take_rest(struct sampled_thread *thread, ring_sampling_sink *sink) {
  uint64_t total;
  if (!thread->seen_last || !perf_ring_total(&thread->ring, &total)) return;
  uint64_t end = thread->before + total;
  if (end < thread->due) return;
  uint64_t ticks = 1 + (end - thread->due) / period;
  atomic_fetch_add_explicit(&merged, ticks, memory_order_relaxed);
  thread->due += ticks * period;
  thread->seen_last->ticks = (uint32_t)ticks;
  thread->seen_last->nanoseconds = ticks * period;
  thread->seen_last->at = 0; /* nobody knows when */
  sink(thread->seen_last);
}

static void take(struct sampled_thread *thread, const struct perf_ring_record *record,
                 ring_sampling_sink *sink) {
  uint64_t now = thread->last = thread->before + record->nanoseconds;
  if (now < thread->due) return;
  uint64_t ticks = 1 + (now - thread->due) / period;
  atomic_fetch_add_explicit(&merged, ticks - 1, memory_order_relaxed);
  thread->due += ticks * period;
  sample->tid = thread->tid;
  sample->record = thread->record;
  sample->ticks = (uint32_t)ticks;
  sample->nanoseconds = ticks * period;
  sample->at = record->at;
  memcpy(sample->name, thread->name, sizeof sample->name);
  bool is_beyond = ring_stack_unwind(record, thread->tid, now, sample);
  remember(thread);
  if (is_beyond && thread->is_deep && !thread->is_beyond) thread->is_beyond = thread->reopen = true;
  if (is_beyond && !thread->is_deep && !thread->may_not_grow) {
    thread->is_deep = thread->reopen = true;
    if (thread->pages < DEEP_PAGES) thread->pages = DEEP_PAGES;
  }
  sink(sample);
}

static void grow(struct sampled_thread *thread) {
  if (thread->pages >= MOST_PAGES || thread->may_not_grow) return;
  thread->pages *= 2;
  thread->reopen = true;
}

static void read_ring(struct sampled_thread *thread, ring_sampling_sink *sink) {
  struct perf_ring_record record;
  bool full = perf_ring_is_full(&thread->ring);
  while (perf_ring_next(&thread->ring, scratch, &record)) {
    switch (record.kind) {
      case PERF_RING_SAMPLE:
        if (thread->first_expected && !perf_ring_set_period(&thread->ring, period))
          thread->reopen = true;
        thread->first_expected = 0;
        take(thread, &record, sink);
        break;
      case PERF_RING_NAME: strncpy(thread->name, record.name, sizeof thread->name - 1); break;
      default: break; /* of rings of switches */
    }
  }
  if (!full) return;
  take_rest(thread, sink);
  grow(thread);
}

/* The ring's clock also runs while the thread is interrupted, or its processor is stolen, and not
 * while it is changed for another thread: what the thread is charged with is the truth. */
static void correct_clock(struct sampled_thread *thread) {
  uint64_t charged;
  if (!thread->last) return;
  if (thread->ring.descriptor >= 0) set_clock(thread);
  else if ((charged = thread_cpu_nanoseconds(thread->tid)) && thread->last > charged)
    /* never let it be ahead */
    thread->before -= thread->last - charged;
  thread->last = 0;
}

static bool life_is(const struct sampled_thread *thread) {
  return atomic_load_explicit(&thread_registry_at(thread->record)->life, memory_order_acquire) ==
         thread->life;
}

/* With its new size, or by new rights. Where the kernel gives no larger one the old one does, but
 * not one that was opened by rights that are given up. */
static void reopen(uint32_t place) {
  struct sampled_thread *thread = &threads[place], before = *thread;
  thread->reopen = false;
  if (open_ring(thread)) {
    count_open(-1, before.ring.bytes);
    perf_ring_close(&before.ring);
  } else if (before.opened_by == credentials) {
    *thread = before;
    thread->reopen = thread->is_deep = false;
    thread->may_not_grow = true;
  } else {
    thread->ring = before.ring;
    remove_thread(place);
  }
}

static void plan_wake(void) {
  int64_t now = agent_monotonic_nanoseconds();
  int64_t pause = (int64_t)period * SAMPLES_BETWEEN_READS;
  if (pause > READ_MAX_NANOSECONDS) pause = READ_MAX_NANOSECONDS;
  if (pause < READ_MIN_NANOSECONDS) pause = READ_MIN_NANOSECONDS;
  int64_t wake = now + pause;
  uint32_t polled = 0;
  for (uint32_t i = 0; i < count; i++) {
    const struct sampled_thread *thread = &threads[i];
    if (thread->first_expected > now && thread->first_expected < wake)
      wake = thread->first_expected;
    if (thread->is_beyond && thread->ring.descriptor >= 0 && polled < URGENT_MAX &&
        thread_cpu_nanoseconds(thread->tid)) /* the ring of one that has ended is always readable */
      atomic_store_explicit(&urgent[polled++], thread->ring.descriptor, memory_order_relaxed);
  }
  atomic_store_explicit(&urgent_count, polled, memory_order_release);
  if (wake < now + READ_MIN_NANOSECONDS / 8) wake = now + READ_MIN_NANOSECONDS / 8;
  atomic_store_explicit(&next_wake, wake, memory_order_relaxed);
}

void ring_sampling_drain(ring_sampling_sink *sink) {
  ring_stack_begin();
  for (uint32_t i = count; i > 0; i--) {
    struct sampled_thread *thread = &threads[i - 1];
    bool ended = !life_is(thread);
    read_ring(thread, sink);
    if (!ended) correct_clock(thread);
    if (ended) {
      take_rest(thread, sink);
      remove_thread(i - 1);
    } else if (thread->reopen) {
      reopen(i - 1);
    }
  }
  plan_wake();
}

struct ring_sampling_threads ring_sampling_look(ring_sampling_sink *sink) {
  struct ring_sampling_threads found = {0, 0};
  /* A ring goes on with what its opener was allowed. */
  uint32_t changes = credentials_changes();
  for (uint32_t i = 0; i < count && changes != credentials; i++) threads[i].reopen = true;
  credentials = changes;
  ring_sampling_drain(sink);
  for (uint32_t record = thread_registry_count(); record > 0; record--) {
    struct thread_view view;
    if (!thread_registry_read(record, &view)) continue;
    bool has = has_ring(record, view.life) || add_thread(record, &view);
    found.with_ring += has;
    found.without_ring += !has && task_is_alive(view.tid);
  }
  looked = true;
  plan_wake();
  return found;
}

/* ---- the sampler ---- */

bool ring_sampling_start(void) {
  scratch = agent_malloc(PERF_RING_RECORD_MAX);
  sample = agent_calloc(1, sample_bytes());
  if (!scratch || !sample) {
    ring_sampling_stop();
    return false;
  }
  random_state = sampler_seed(&random_state, getpid());
  cpu_sampling_announce_births(BIRTHS_FOR_PROFILES, true);
  return true;
}

void ring_sampling_set_period(uint64_t nanoseconds) {
  period = nanoseconds;
  looked = false;
  while (count) remove_thread(count - 1);
}

void ring_sampling_stop(void) {
  cpu_sampling_announce_births(BIRTHS_FOR_PROFILES, false);
  while (count) remove_thread(count - 1);
  ring_stack_stop();
  agent_free(threads);
  agent_free(place_of);
  agent_free(scratch);
  agent_free(sample);
  threads = NULL;
  place_of = NULL;
  scratch = NULL;
  sample = NULL;
  capacity = place_capacity = 0;
}

static _Atomic uint32_t births_seen; /* the waiting thread's */

/* False: there are no such rings. */
static bool wait_for_urgent(int64_t nanoseconds) {
  struct pollfd waits[URGENT_MAX];
  uint32_t polled = atomic_load_explicit(&urgent_count, memory_order_acquire);
  int milliseconds = (int)(nanoseconds / 1000000) + 1;
  if (!polled) return false;
  for (uint32_t i = 0; i < polled; i++)
    waits[i] = (struct pollfd){.fd = atomic_load_explicit(&urgent[i], memory_order_relaxed),
                               .events = POLLIN};
  if (milliseconds > URGENT_MILLISECONDS) milliseconds = URGENT_MILLISECONDS;
  paced_poll(waits, polled, milliseconds);
  return true;
}

void ring_sampling_wait(void) {
  int64_t left =
      atomic_load_explicit(&next_wake, memory_order_relaxed) - agent_monotonic_nanoseconds();
  uint32_t births = atomic_load_explicit(&cpu_sampling_births, memory_order_acquire);
  bool has_births = births != atomic_load_explicit(&births_seen, memory_order_relaxed);
  if (left > 0 && !has_births && !wait_for_urgent(left)) {
    struct timespec pause = {.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
    raw_futex_wait(&cpu_sampling_births, births, &pause);
    births = atomic_load_explicit(&cpu_sampling_births, memory_order_acquire);
  }
  atomic_store_explicit(&births_seen, births, memory_order_relaxed);
}

void ring_sampling_wake(void) {
  atomic_fetch_add_explicit(&cpu_sampling_births, 1, memory_order_release);
  raw_futex_wake(&cpu_sampling_births, INT32_MAX);
}

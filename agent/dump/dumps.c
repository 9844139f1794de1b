#include "dumps.h"

#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#include "agent/runtime/agent_thread.h"
#include "agent/runtime/allowed_calls.h"
#include "agent/runtime/bare_thread.h"
#include "dump_cpu.h"
#include "dump_status.h"
#include "dump_watch.h"
#include "dump_writer.h"
#include "shim/base/dump_config.h"
#include "shim/base/raw_syscall.h"

#define SECOND INT64_C(1000000000)
#define MILLISECONDS INT64_C(1000000)
/* After so many it is too late to look up names; who waits then goes on if there is a file without.
 */
enum { NAMES_MILLISECONDS = 50, GOES_ON_MILLISECONDS = 55 };

/* Counts what the dumping thread is woken for; the words below tell what that is. */
static _Atomic uint32_t news;
/* Written by the admin thread, with release before news. */
static _Atomic bool stopping;

/* The end of the process. end_claimed: by the host's thread that waits, which then writes the time
 * and, with release, END_ASKED; the rest comes from who writes the profiles. */
enum { END_NOT, END_ASKED, END_NAMELESS /* written, but without names */, END_DONE };
static _Atomic bool end_claimed;
static _Atomic int32_t end_claimed_by; /* the thread that waits; of numbers to compare: relaxed */
static _Atomic int64_t end_asked_ns;
static _Atomic uint32_t end;

/* By a signal; taken by the dumping thread. Relaxed: news tells of it. */
static _Atomic bool now_asked;

/* Written by the admin thread. */
static bool runs;
static struct agent_thread thread;

static int64_t next_due_ns; /* 0: not known yet; written by the dumping thread */

static bool is_wanted(void) { return !atomic_load_explicit(&stopping, memory_order_acquire); }

bool dumps_end_is_near(void) {
  return atomic_load_explicit(&end, memory_order_acquire) == END_ASKED;
}

/* ---- the end of the process ---- */

static int64_t since_asked(void) {
  return agent_monotonic_nanoseconds() - atomic_load_explicit(&end_asked_ns, memory_order_relaxed);
}

static bool has_time_for_names(void) { return since_asked() < NAMES_MILLISECONDS * MILLISECONDS; }

static void tell(uint32_t what) {
  atomic_store_explicit(&end, what, memory_order_release);
  raw_futex_wake(&end, INT32_MAX);
}

static void tell_nameless(void) { tell(END_NAMELESS); }

static void write_at_end(void) {
  dump_write_in_haste(true, tell_nameless, has_time_for_names);
  tell(END_DONE);
}

static void await_end_of_writing(void) {
  for (;;) {
    uint32_t state = atomic_load_explicit(&end, memory_order_acquire);
    int64_t limit = state == END_ASKED ? DUMPS_END_MILLISECONDS : GOES_ON_MILLISECONDS;
    struct timespec timeout = {.tv_nsec = limit * MILLISECONDS - since_asked()};
    if (state == END_DONE || timeout.tv_nsec <= 0) return;
    raw_futex_wait(&end, state, &timeout);
  }
}

/* Another thread was first, and is to be the one that ends the process: its exit code counts. It
 * has a moment for it, unless it is still in its handlers, which take as long as they like. */
static void let_first_one_go(void) {
  enum { GOES_MILLISECONDS = 20 };
  const struct timespec a_while = {.tv_nsec = GOES_MILLISECONDS * MILLISECONDS};
  const struct timespec moment = {.tv_nsec = MILLISECONDS};
  int32_t own = (int32_t)raw_syscall4(SYS_gettid, 0, 0, 0, 0);
  uint32_t state = atomic_load_explicit(&end, memory_order_acquire);
  for (int i = 0; state == END_NOT && i < GOES_MILLISECONDS; i++) { /* it is about to ask */
    raw_syscall4(SYS_nanosleep, (long)&moment, 0, 0, 0);
    state = atomic_load_explicit(&end, memory_order_acquire);
  }
  if (state == END_DONE || atomic_load_explicit(&end_claimed_by, memory_order_relaxed) == own)
    return;
  await_end_of_writing();
  raw_syscall4(SYS_nanosleep, (long)&a_while, 0, 0, 0);
}

/* False: somebody has been here before. */
static bool ask_for_end(void) {
  if (atomic_exchange_explicit(&end_claimed, true, memory_order_relaxed)) return false;
  atomic_store_explicit(&end_claimed_by, (int32_t)raw_syscall4(SYS_gettid, 0, 0, 0, 0),
                        memory_order_relaxed);
  atomic_store_explicit(&end_asked_ns, agent_monotonic_nanoseconds(), memory_order_relaxed);
  atomic_store_explicit(&end, END_ASKED, memory_order_release);
  return true;
}

void dumps_before_end(void (*hurry)(void)) {
  if (!ask_for_end()) return let_first_one_go();
  atomic_fetch_add_explicit(&news, 1, memory_order_release);
  raw_futex_wake(&news, INT32_MAX);
  hurry();
  await_end_of_writing();
}

void dumps_after_end(void) {
  bool may = dump_config.at_exit && !allowed_calls_lack(CALLS_DUMPING);
  if (may && ask_for_end()) write_at_end();
}

/* ---- other moments ---- */

/* The end is not kept waiting by it. */
static bool is_wanted_by_time(void) { return is_wanted() && !dumps_end_is_near(); }

/* Missed ones are left out: the program was stopped, or the machine asleep. */
static bool interval_is_over(int64_t now) {
  int64_t interval = (int64_t)dump_config.interval_seconds * SECOND;
  if (!interval) return false;
  if (!next_due_ns) next_due_ns = now + interval;
  if (now < next_due_ns) return false;
  next_due_ns += (now - next_due_ns) / interval * interval + interval;
  return true;
}

static void wait_for_news(uint32_t seen, int64_t now, int64_t next_look_ns) {
  int64_t next = next_due_ns && next_due_ns < next_look_ns ? next_due_ns : next_look_ns;
  struct timespec timeout = {.tv_sec = (next - now) / SECOND, .tv_nsec = (next - now) % SECOND};
  if (next > now) raw_futex_wait(&news, seen, next == INT64_MAX ? NULL : &timeout);
}

/* The heap as it was at its peak, in place of what it is now. */
static uint32_t kinds_at_peak(void) {
  const uint32_t heap = 1u << DUMP_HEAP;
  return dump_config.kinds & heap ? (dump_config.kinds & ~heap) | 1u << DUMP_PEAK
                                  : dump_config.kinds;
}

void dumps_now(void (*hurry)(void)) {
  atomic_store_explicit(&now_asked, true, memory_order_relaxed);
  atomic_fetch_add_explicit(&news, 1, memory_order_release);
  raw_futex_wake(&news, INT32_MAX);
  hurry();
}

static void look(uint32_t seen) {
  int64_t now = agent_monotonic_nanoseconds(), next_look_ns;
  enum dump_found found = dump_watch_look(now, &next_look_ns);
  int64_t cpu_pause = dump_cpu_look();
  if (next_look_ns - now > cpu_pause) next_look_ns = now + cpu_pause;
  bool by_time = interval_is_over(now);
  by_time |= atomic_exchange_explicit(&now_asked, false, memory_order_relaxed);
  if (found == FOUND_SHORTAGE) dump_write_in_haste(false, NULL, is_wanted_by_time);
  if (found == FOUND_PEAK) dump_write_profiles(kinds_at_peak(), is_wanted_by_time);
  if (found == FOUND_RSS || by_time) dump_write_profiles(dump_config.kinds, is_wanted_by_time);
  if (found == FOUND_NOTHING && !by_time) wait_for_news(seen, now, next_look_ns);
}

static void dumps_main(void *unused) {
  (void)unused;
  bare_thread_enter_libc();
  for (;;) {
    uint32_t seen = atomic_load_explicit(&news, memory_order_acquire); /* before what it tells */
    if (!is_wanted()) return;
    if (dumps_end_is_near()) write_at_end();
    else look(seen);
  }
}

void dumps_begin(void) {
  if (!*dump_config.pattern) return;
  atomic_store_explicit(&stopping, false, memory_order_relaxed); /* there is no such thread */
  const char *lack = allowed_calls_lack(CALLS_DUMPING);
  if (lack) return dump_status_failed_for("%s", lack);
  if (dumps_end_is_near()) return write_at_end();
  dump_cpu_begin();
  runs = agent_thread_create(&thread, AGENT_THREAD_STACK, dumps_main, NULL) == 0;
  if (runs) return;
  dump_status_failed_for("no thread can be made for it");
  dump_cpu_end();
}

void dumps_end(void) {
  if (!runs) return;
  atomic_store_explicit(&stopping, true, memory_order_release);
  atomic_fetch_add_explicit(&news, 1, memory_order_release);
  raw_futex_wake(&news, INT32_MAX);
  agent_thread_join(thread);
  runs = false;
  dump_cpu_end();
}

bool dumps_use_signals(void) { return runs && dump_cpu_is_running(); }

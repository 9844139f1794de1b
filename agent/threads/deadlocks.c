#include "deadlocks.h"

#include <linux/futex.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/runtime/agent_memory.h"
#include "agent/runtime/own_memory.h"
#include "agent/runtime/task_files.h"
#include "blocked_thread.h"
#include "shim/threads/thread_registry.h"
#include "wait_graph.h"

/* Written by who takes a dump, read by the pages: figures of their own, no order is needed. */
static _Atomic uint32_t stuck_threads;

uint32_t deadlocks_stuck_threads(void) {
  return atomic_load_explicit(&stuck_threads, memory_order_relaxed);
}

void deadlocks_found(uint32_t threads) {
  atomic_store_explicit(&stuck_threads, threads, memory_order_relaxed);
}

/* ---- who waits for whom ---- */

/* A first thread that called pthread_exit. */
static bool has_ended(const struct dumped_thread *thread) {
  return thread->is_main && strcmp(thread->state, "dead") == 0;
}

/* Of a holder that is no thread of the dump. A lock that was taken before a fork names the thread
 * that forked by the number that it had: it may yet release it here. */
static size_t judge_absent(const struct thread_need *need) {
  bool may_be_elsewhere = need->kind != NEED_END && need->shared;
  if (may_be_elsewhere || thread_registry_forked_here(need->holder)) return WAITS_FOR_NOBODY;
  return task_is_alive(need->holder) ? WAITS_FOR_NOBODY : WAITS_IN_VAIN;
}

/* The first thread stands first, the others in the order of their tids. */
static size_t find_thread(const struct thread_dump *dump, int32_t tid) {
  if (dump->count && dump->threads[0].tid == tid) return 0;
  size_t low = 1, high = dump->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (dump->threads[middle].tid == tid) return middle;
    if (dump->threads[middle].tid < tid) low = middle + 1;
    else high = middle;
  }
  return WAITS_FOR_NOBODY;
}

static size_t find_holder(const struct thread_dump *dump, const struct thread_need *need) {
  if (need->kind == NEED_NONE) return WAITS_FOR_NOBODY;
  if (need->kind == NEED_REFUSED) return WAITS_IN_VAIN;
  size_t found = find_thread(dump, need->holder);
  if (found == WAITS_FOR_NOBODY) return judge_absent(need);
  return has_ended(&dump->threads[found]) ? WAITS_IN_VAIN : found;
}

/* ---- the second look ---- */

static bool holder_is_the_same(const struct thread_need *need) {
  uint32_t word;
  if (own_memory_read(need->holder_at, &word, sizeof word) != sizeof word) return false;
  return (int32_t)(word & FUTEX_TID_MASK) == need->holder;
}

static bool has_not_moved(const struct dumped_thread *thread) {
  struct blocked_thread now;
  blocked_thread_open(&now, thread->tid);
  bool same = blocked_thread_look(&now) == THREAD_BLOCKED && now.number == SYS_futex &&
              now.arguments[0] == thread->arguments[0] && now.runs == thread->runs;
  blocked_thread_close(&now);
  return same;
}

/* First all locks, then all threads: who has not run up to the end of the second has not released
 * anything since before the first. False: some waits are taken out, judge again. */
static bool confirm(const struct thread_dump *dump, struct wait_node *nodes) {
  bool all = true;
  for (size_t i = 0; i < dump->count; i++) {
    if (nodes[i].stuck == NOT_STUCK || holder_is_the_same(&dump->threads[i].need)) continue;
    nodes[i].holder = WAITS_FOR_NOBODY;
    all = false;
  }
  for (size_t i = 0; i < dump->count; i++) {
    if (nodes[i].stuck == NOT_STUCK || nodes[i].holder == WAITS_FOR_NOBODY) continue;
    if (has_not_moved(&dump->threads[i])) continue;
    nodes[i].holder = WAITS_FOR_NOBODY;
    all = false;
  }
  return all;
}

static void judge(struct thread_dump *dump, struct wait_node *nodes) {
  bool any = false;
  for (size_t i = 0; i < dump->count; i++) {
    nodes[i].holder = find_holder(dump, &dump->threads[i].need);
    any = any || nodes[i].holder != WAITS_FOR_NOBODY;
  }
  if (!any) return;
  do {
    dump->deadlock_count = wait_graph_judge(nodes, dump->count);
  } while (dump->deadlock_count && !confirm(dump, nodes));
}

void deadlocks_find(struct thread_dump *dump) {
  uint32_t count = 0;
  struct wait_node *nodes = agent_calloc(dump->count + 1, sizeof *nodes);
  if (nodes) judge(dump, nodes);
  for (size_t i = 0; i < dump->count && dump->deadlock_count; i++) {
    dump->threads[i].stuck = nodes[i].stuck;
    dump->threads[i].deadlock = nodes[i].deadlock;
    count += nodes[i].stuck != NOT_STUCK;
  }
  agent_free(nodes);
  deadlocks_found(count);
}

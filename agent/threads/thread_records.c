#include "thread_records.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "shim/cpu/cpu_sampling.h"
#include "shim/threads/thread_registry.h"
#include "shim/threads/threadcreate_table.h"
#include "agent/runtime/agent_lock.h"
#include "agent/runtime/agent_memory.h"

static struct agent_lock records_lock;

/* ---- which thread of the list has a number ---- */

/* Open addressing, at most half full; a place holds an index into ids + 1. */
struct tid_index {
  uint32_t mask;
  uint32_t *places;
  const struct thread_ids *ids;
};

static uint32_t hash_tid(int32_t tid) { return (uint32_t)tid * 0x9e3779b1u >> 7; }

static bool index_tids(struct tid_index *index, const struct thread_ids *ids) {
  uint32_t size = 16;
  while (size < ids->count * 2) size *= 2;
  *index = (struct tid_index){size - 1, agent_calloc(size, sizeof *index->places), ids};
  if (!index->places) return false;
  for (size_t i = 0; i < ids->count; i++) {
    uint32_t place = hash_tid(ids->tids[i]) & index->mask;
    while (index->places[place]) place = (place + 1) & index->mask;
    index->places[place] = (uint32_t)i + 1;
  }
  return true;
}

/* Its place in the list + 1, or 0. */
static uint32_t find_tid(const struct tid_index *index, int32_t tid) {
  uint32_t place = hash_tid(tid) & index->mask;
  for (; index->places[place]; place = (place + 1) & index->mask)
    if (index->ids->tids[index->places[place] - 1] == tid) return index->places[place];
  return 0;
}

/* ---- records of threads that are gone ---- */

static bool kernel_knows(int32_t tid) {
  return syscall(SYS_tgkill, getpid(), tid, 0) == 0 || errno != ESRCH;
}

static void give_back(uint32_t number, const struct thread_view *view) {
  if (!thread_registry_end_life(number, view->life)) return;
  cpu_sampling_disarm(number);
  thread_registry_recycle(number);
  if (view->origin == THREAD_CREATED) threadcreate_table_ended(view->creation_stack);
}

/* A thread gives its record back before it ends. So once the kernel has forgotten the thread, a
 * record that is still in the same life is nobody's but the agent's, and the lock makes it ours. */
static void give_back_if_gone(uint32_t number, const struct thread_view *seen) {
  struct thread_view now;
  if (!kernel_knows(seen->tid) && thread_registry_read(number, &now) && now.life == seen->life)
    give_back(number, &now);
}

/* ---- matching ---- */

/* Two records claim one thread: one was made for a thread that was found before its own was ready,
 * or has outlived its thread, whose number the kernel has used again. The younger one is the
 * thread's; the other is given back. The number of the one to keep. */
static uint32_t settle(uint32_t first, uint32_t second) {
  struct thread_view a, b;
  if (!thread_registry_read(first, &a)) return second;
  if (!thread_registry_read(second, &b)) return first;
  bool first_is_older = (int32_t)(a.birth - b.birth) < 0;
  if (first_is_older) give_back(first, &a);
  else give_back(second, &b);
  return first_is_older ? second : first;
}

/* Whether a record is taken for a thread that has not told its number yet. */
static bool is_starting(uint32_t number) {
  struct thread_record *record = thread_registry_at(number);
  return record && (atomic_load_explicit(&record->life, memory_order_acquire) & 1) &&
         atomic_load_explicit(&record->tid, memory_order_acquire) == 0;
}

/* False: an unmatched thread may be one that is starting and will have a record of its own. */
static bool match_once(const struct tid_index *index, uint32_t *records) {
  bool starting = false;
  memset(records, 0, index->ids->count * sizeof *records);
  uint32_t count = thread_registry_count();
  for (uint32_t number = 1; number <= count; number++) {
    struct thread_view view;
    if (!thread_registry_read(number, &view)) {
      starting |= is_starting(number);
      continue;
    }
    uint32_t place = find_tid(index, view.tid);
    if (!place) give_back_if_gone(number, &view); /* or born since the list was read */
    else records[place - 1] = records[place - 1] ? settle(records[place - 1], number) : number;
  }
  if (!starting) return true;
  for (size_t i = 0; i < index->ids->count; i++)
    if (!records[i] && kernel_knows(index->ids->tids[i])) return false;
  return true;
}

static uint32_t take_found(int32_t tid) {
  uint32_t number = thread_registry_take(THREAD_FOUND);
  struct thread_record *record = number ? thread_registry_at(number) : NULL;
  if (!record) return 0;
  record->start = record->argument = NULL;
  atomic_store_explicit(&record->has_state, tid == getpid(), memory_order_relaxed);
  thread_registry_tell_tid(record, tid);
  return number;
}

void thread_records_match(const struct thread_ids *ids, uint32_t *records) {
  enum { TRIES = 20, NAP_NANOSECONDS = 250 * 1000 };
  struct tid_index index;
  if (!index_tids(&index, ids)) {
    memset(records, 0, ids->count * sizeof *records);
    return;
  }
  agent_lock_take(&records_lock);
  bool certain = match_once(&index, records);
  for (int tries = 1; !certain && tries < TRIES; tries++) {
    struct timespec nap = {.tv_nsec = NAP_NANOSECONDS};
    nanosleep(&nap, NULL);
    certain = match_once(&index, records);
  }
  for (size_t i = 0; certain && i < ids->count; i++)
    if (!records[i] && kernel_knows(ids->tids[i])) records[i] = take_found(ids->tids[i]);
  agent_lock_release(&records_lock);
  agent_free(index.places);
}

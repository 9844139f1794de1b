#include "thread_registry.h"

#include "shim/base/at_fork.h"
#include "shim/base/counters.h"
#include "shim/base/table_memory.h"
#include "threadcreate_table.h"

enum { RECORDS_PER_SEGMENT = TABLE_SEGMENT_BYTES / sizeof(struct thread_record) };
enum {
  UNITS_PER_RECORD = sizeof(struct thread_record) / TABLE_UNIT,
  UNITS_PER_SEGMENT = TABLE_SEGMENT_BYTES / TABLE_UNIT,
  SEGMENTS = THREAD_RECORDS_MAX / RECORDS_PER_SEGMENT
};
_Static_assert(sizeof(struct thread_record) == 64,
               "a record is a cache line, and records fill a segment");

TABLE_MEMORY(memory, SEGMENTS);
static _Atomic uint32_t record_count;
/* Records given back, newest first: a tag in the upper half, raised by every change, so that a
 * record that comes back unchanged is noticed. */
static _Atomic uint64_t free_list;

struct thread_record *thread_registry_at(uint32_t number) {
  uint32_t index = number - 1;
  if (number == 0 || number > THREAD_RECORDS_MAX) return NULL;
  return table_memory_at(&memory, index / RECORDS_PER_SEGMENT * UNITS_PER_SEGMENT +
                                      index % RECORDS_PER_SEGMENT * UNITS_PER_RECORD);
}

static uint32_t take_used(void) {
  uint64_t head = atomic_load_explicit(&free_list, memory_order_acquire);
  while ((uint32_t)head) {
    uint64_t next =
        ((head >> 32) + 1) << 32 |
        atomic_load_explicit(&thread_registry_at((uint32_t)head)->free_next, memory_order_relaxed);
    if (atomic_compare_exchange_weak_explicit(&free_list, &head, next, memory_order_acquire,
                                              memory_order_acquire))
      return (uint32_t)head;
  }
  return 0;
}

static uint32_t take_fresh(void) {
  bool full;
  uint32_t position = table_memory_allocate(&memory, sizeof(struct thread_record), &full);
  if (position == UINT32_MAX) return 0;
  uint32_t number = position / UNITS_PER_SEGMENT * RECORDS_PER_SEGMENT +
                    position % UNITS_PER_SEGMENT / UNITS_PER_RECORD + 1;
  uint32_t count = atomic_load_explicit(&record_count, memory_order_relaxed);
  while (count < number &&
         !atomic_compare_exchange_weak_explicit(&record_count, &count, number, memory_order_release,
                                                memory_order_relaxed)) {}
  return number;
}

uint32_t thread_registry_take(enum thread_origin origin) {
  uint32_t number = take_used();
  if (!number) number = take_fresh();
  if (!number) {
    COUNT_LOSS(threads_lost);
    return 0;
  }
  struct thread_record *record = thread_registry_at(number);
  /* who reads any of what follows sees that the life before is over */
  atomic_thread_fence(memory_order_release);
  atomic_store_explicit(&record->tid, 0, memory_order_relaxed);
  atomic_store_explicit(&record->ticks, 0, memory_order_relaxed);
  atomic_store_explicit(&record->origin, origin, memory_order_relaxed);
  atomic_store_explicit(&record->has_state, origin == THREAD_CREATED, memory_order_relaxed);
  atomic_store_explicit(&record->creator, 0, memory_order_relaxed);
  atomic_store_explicit(&record->creation_stack, 0, memory_order_relaxed);
  atomic_fetch_add_explicit(&record->life, 1, memory_order_release); /* odd: in use */
  return number;
}

void thread_registry_tell_tid(struct thread_record *record, int32_t tid) {
  static _Atomic uint32_t births;
  atomic_store_explicit(&record->birth, atomic_fetch_add_explicit(&births, 1, memory_order_relaxed),
                        memory_order_relaxed);
  atomic_store_explicit(&record->tid, tid, memory_order_release);
}

bool thread_registry_end_life(uint32_t number, uint64_t life) {
  return atomic_compare_exchange_strong(&thread_registry_at(number)->life, &life, life + 1);
}

void thread_registry_recycle(uint32_t number) {
  struct thread_record *record = thread_registry_at(number);
  uint64_t head = atomic_load_explicit(&free_list, memory_order_relaxed), mine;
  do {
    atomic_store_explicit(&record->free_next, (uint32_t)head, memory_order_relaxed);
    mine = ((head >> 32) + 1) << 32 | number;
  } while (!atomic_compare_exchange_weak_explicit(&free_list, &head, mine, memory_order_release,
                                                  memory_order_relaxed));
}

/* Written in a forked child by its only thread, before any other is started. */
enum { FORKS_KEPT = 4 };
static int32_t forkers[FORKS_KEPT];
static uint32_t forker_count;

bool thread_registry_forked_here(int32_t tid) {
  for (uint32_t i = 0; i < forker_count && i < FORKS_KEPT; i++)
    if (forkers[i] == tid) return true;
  return forker_count > FORKS_KEPT;
}

AT_FORK void thread_registry_keep_only(int32_t tid_before, int32_t tid_now) {
  if (forker_count < FORKS_KEPT) forkers[forker_count] = tid_before;
  forker_count++;
  for (uint32_t number = thread_registry_count(); number > 0; number--) {
    struct thread_record *record = thread_registry_at(number);
    uint64_t life = record ? atomic_load_explicit(&record->life, memory_order_relaxed) : 0;
    if (!(life & 1)) continue;
    atomic_store_explicit(&record->timer, 0, memory_order_relaxed);
    if (atomic_load_explicit(&record->tid, memory_order_relaxed) == tid_before) {
      atomic_store_explicit(&record->creator, 0, memory_order_relaxed);
      atomic_store_explicit(&record->tid, tid_now, memory_order_release);
    } else if (thread_registry_end_life(number, life)) {
      if (atomic_load_explicit(&record->origin, memory_order_relaxed) == THREAD_CREATED)
        threadcreate_table_ended(
            atomic_load_explicit(&record->creation_stack, memory_order_relaxed));
      thread_registry_recycle(number);
    }
  }
}

uint32_t thread_registry_count(void) {
  return atomic_load_explicit(&record_count, memory_order_acquire);
}
uint64_t thread_registry_bytes(void) { return table_memory_mapped(&memory); }

bool thread_registry_read(uint32_t number, struct thread_view *out) {
  struct thread_record *record = thread_registry_at(number);
  if (!record) return false;
  uint64_t life = atomic_load_explicit(&record->life, memory_order_acquire);
  int32_t tid = atomic_load_explicit(&record->tid, memory_order_acquire);
  if (!(life & 1) || tid == 0) return false;
  *out = (struct thread_view){
      .life = life,
      .tid = tid,
      .birth = atomic_load_explicit(&record->birth, memory_order_relaxed),
      .creator = atomic_load_explicit(&record->creator, memory_order_relaxed),
      .creation_stack = atomic_load_explicit(&record->creation_stack, memory_order_relaxed),
      .start = (uintptr_t)__atomic_load_n(&record->start, __ATOMIC_RELAXED),
      .origin = (enum thread_origin)atomic_load_explicit(&record->origin, memory_order_relaxed)};
  atomic_thread_fence(memory_order_acquire);
  return atomic_load_explicit(&record->life, memory_order_relaxed) == life;
}

bool thread_registry_has_tid(int32_t tid) {
  for (uint32_t number = thread_registry_count(); number > 0; number--) {
    struct thread_record *record = thread_registry_at(number);
    if (record && atomic_load_explicit(&record->tid, memory_order_relaxed) == tid &&
        (atomic_load_explicit(&record->life, memory_order_acquire) & 1))
      return true;
  }
  return false;
}

#include "contention_table.h"

#include <stdatomic.h>
#include <stddef.h>

#include "shim/base/counters.h"
#include "shim/next/interposed.h"
#include "shim/stacks/module_registry.h"
#include "shim/stacks/stack_table.h"
#include "shim/base/table_memory.h"

/* One (kind, stack). The constants are written before the release CAS that publishes the entry in
 * its chain; count and delay are raised by any thread that has found it there, so a reader who sees
 * one of them above 0 (acquire) sees the constants. */
struct contention_entry {
  _Atomic uint64_t count, delay;
  uint32_t kind, stack;
  uint32_t next; /* entry number, 0: end */
  uint32_t reserved;
};

enum { CHAINS = 1 << 12, UNITS_PER_ENTRY = sizeof(struct contention_entry) / TABLE_UNIT };
_Static_assert(TABLE_SEGMENT_BYTES % sizeof(struct contention_entry) == 0,
               "entries fill segments without gaps, so numbers are positions");

static _Atomic uint32_t chains[CHAINS];
TABLE_MEMORY(memory,
             CONTENTION_ENTRIES_MAX / (TABLE_SEGMENT_BYTES / sizeof(struct contention_entry)));
static _Atomic uint32_t counts[2]; /* by kind */

static struct contention_entry *entry_at(uint32_t number) {
  return table_memory_at(&memory, (number - 1) * UNITS_PER_ENTRY);
}

static uint32_t find_in_chain(uint32_t number, uint32_t until, enum contention_kind kind,
                              uint32_t stack) {
  while (number != until) {
    const struct contention_entry *entry = entry_at(number);
    if (entry->stack == stack && entry->kind == (uint32_t)kind) return number;
    number = entry->next;
  }
  return 0;
}

static uint32_t find_or_add(enum contention_kind kind, uint32_t stack) {
  _Atomic uint32_t *chain = &chains[((stack * 2 + (uint32_t)kind) * 0x9e3779b1u) >> 20];
  uint32_t head = atomic_load_explicit(chain, memory_order_acquire);
  uint32_t found = find_in_chain(head, 0, kind, stack);
  if (found) return found;
  bool full;
  uint32_t position = table_memory_allocate(&memory, sizeof(struct contention_entry), &full);
  if (position == UINT32_MAX) {
    if (full) COUNT_LOSS(contention_lost_table_full);
    else COUNT_LOSS(contention_lost_no_memory);
    return 0;
  }
  uint32_t number = position / UNITS_PER_ENTRY + 1;
  struct contention_entry *entry = entry_at(number);
  entry->kind = (uint32_t)kind;
  entry->stack = stack;
  entry->next = head;
  while (!atomic_compare_exchange_weak_explicit(chain, &head, number, memory_order_release,
                                                memory_order_acquire)) {
    found = find_in_chain(head, entry->next, kind, stack);
    if (found) return found; /* ours stays empty */
    entry->next = head;
  }
  atomic_fetch_add_explicit(&counts[kind], 1, memory_order_relaxed);
  return number;
}
_Static_assert(CHAINS == 1 << (32 - 20), "the hash's upper bits");

uint32_t contention_table_entry(enum contention_kind kind, const uint64_t *frames,
                                uint32_t frame_count) {
  /* Once this table is full, stacks that are new would only fill the other one, which keeps them
   * for ever. */
  bool full = contention_table_count() >= CONTENTION_ENTRIES_MAX;
  uint32_t epoch = module_registry_epoch_of(frames, frame_count);
  uint32_t stack = full ? stack_table_find(frames, frame_count, epoch)
                        : stack_table_intern(frames, frame_count, epoch);
  if (stack) return find_or_add(kind, stack);
  if (full) COUNT_LOSS(contention_lost_table_full);
  else COUNT_LOSS(contention_lost_no_memory);
  return 0;
}

void contention_table_add(uint32_t number, uint64_t count, uint64_t delay) {
  if (!number) return;
  struct contention_entry *entry = entry_at(number);
  if (count) atomic_fetch_add_explicit(&entry->count, count, memory_order_release);
  if (delay) atomic_fetch_add_explicit(&entry->delay, delay, memory_order_release);
}

uint32_t contention_table_count(void) {
  uint64_t used =
      atomic_load_explicit(&memory.used, memory_order_acquire) / sizeof(struct contention_entry);
  return used < CONTENTION_ENTRIES_MAX ? (uint32_t)used : CONTENTION_ENTRIES_MAX;
}

bool contention_table_read(uint32_t number, struct contention_view *out) {
  if (number == 0 || number > contention_table_count()) return false;
  struct contention_entry *entry = entry_at(number);
  if (!entry) return false;
  uint64_t count = atomic_load_explicit(&entry->count, memory_order_acquire);
  uint64_t delay = atomic_load_explicit(&entry->delay, memory_order_acquire);
  if (count == 0 && delay == 0) return false;
  *out = (struct contention_view){(enum contention_kind)entry->kind, entry->stack,
                                  (double)count / CONTENTION_COUNT_UNIT, delay};
  return true;
}

uint32_t contention_table_count_of(enum contention_kind kind) {
  return atomic_load_explicit(&counts[kind], memory_order_relaxed);
}

uint64_t contention_table_bytes(void) { return table_memory_mapped(&memory) + sizeof chains; }

#include "threadcreate_table.h"

#include <stdatomic.h>
#include <stddef.h>

#include "shim/base/counters.h"

/* Open addressing. stack is written once, by a CAS of the first thread that counts for it. A reader
 * that loads ended before created never sees more ended than created. */
static struct threadcreate_entry {
  _Atomic uint32_t stack;
  _Atomic uint64_t created, ended;
} entries[THREADCREATE_STACKS_MAX];
static _Atomic uint64_t created_total, ended_total;

static struct threadcreate_entry *entry_of(uint32_t stack, bool add) {
  uint32_t hash = stack * 0x9e3779b1u;
  for (uint32_t i = 0; i < THREADCREATE_STACKS_MAX && stack; i++) {
    struct threadcreate_entry *entry = &entries[(hash + i) % THREADCREATE_STACKS_MAX];
    uint32_t found = atomic_load_explicit(&entry->stack, memory_order_relaxed);
    if (found == 0 && add &&
        atomic_compare_exchange_strong_explicit(&entry->stack, &found, stack, memory_order_relaxed,
                                                memory_order_relaxed))
      return entry;
    if (found == stack) return entry;
    if (found == 0) return NULL;
  }
  return NULL;
}

void threadcreate_table_created(uint32_t stack) {
  struct threadcreate_entry *entry = entry_of(stack, true);
  if (entry) atomic_fetch_add_explicit(&entry->created, 1, memory_order_relaxed);
  else COUNT_LOSS(threads_lost_stack);
  atomic_fetch_add_explicit(&created_total, 1, memory_order_relaxed);
}

void threadcreate_table_failed(uint32_t stack) {
  struct threadcreate_entry *entry = entry_of(stack, false);
  if (entry) atomic_fetch_sub_explicit(&entry->created, 1, memory_order_relaxed);
  atomic_fetch_sub_explicit(&created_total, 1, memory_order_relaxed);
}

void threadcreate_table_ended(uint32_t stack) {
  struct threadcreate_entry *entry = entry_of(stack, false);
  if (entry) atomic_fetch_add_explicit(&entry->ended, 1, memory_order_release);
  atomic_fetch_add_explicit(&ended_total, 1, memory_order_release);
}

bool threadcreate_table_read(uint32_t index, struct threadcreate_view *out) {
  struct threadcreate_entry *entry = &entries[index % THREADCREATE_STACKS_MAX];
  out->stack = atomic_load_explicit(&entry->stack, memory_order_relaxed);
  out->ended = atomic_load_explicit(&entry->ended, memory_order_acquire);
  out->created = atomic_load_explicit(&entry->created, memory_order_relaxed);
  if (out->ended > out->created) out->ended = out->created;
  return out->stack != 0;
}

void threadcreate_totals(uint64_t *created, uint64_t *ended) {
  *ended = atomic_load_explicit(&ended_total, memory_order_acquire);
  *created = atomic_load_explicit(&created_total, memory_order_relaxed);
}

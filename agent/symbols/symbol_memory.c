#include "symbol_memory.h"

#include <stdatomic.h>

#include "agent/runtime/memory_headroom.h"

/* Written and read by agent threads, each number for itself: relaxed. 0: not said yet. */
static _Atomic uint64_t budget;
static _Atomic uint64_t kept_back; /* of the budget: the host cannot spare it */
static _Atomic uint64_t used, peak;

static uint64_t load(_Atomic uint64_t *number) {
  return atomic_load_explicit(number, memory_order_relaxed);
}

void symbol_memory_set_budget(uint64_t bytes) {
  atomic_store_explicit(&budget, bytes, memory_order_relaxed);
}

uint64_t symbol_memory_budget(void) {
  uint64_t bytes = load(&budget);
  return bytes == 0 ? SYMBOL_MEMORY_DEFAULT : bytes;
}

static uint64_t limit(void) {
  uint64_t most = symbol_memory_budget(), less = load(&kept_back);
  return less < most ? most - less : 0;
}

void symbol_memory_look(void) {
  uint64_t spare = memory_headroom() / 2, most = symbol_memory_budget(), taken = load(&used);
  bool enough = taken >= most || spare >= most - taken;
  atomic_store_explicit(&kept_back, enough ? 0 : most - taken - spare, memory_order_relaxed);
}

bool symbol_memory_take(uint64_t bytes) {
  uint64_t most = limit(), taken = load(&used);
  do
    if (taken > most || bytes > most - taken) return false;
  while (!atomic_compare_exchange_weak_explicit(&used, &taken, taken + bytes, memory_order_relaxed,
                                                memory_order_relaxed));
  uint64_t highest = load(&peak);
  while (highest < taken + bytes &&
         !atomic_compare_exchange_weak_explicit(&peak, &highest, taken + bytes,
                                                memory_order_relaxed, memory_order_relaxed)) {}
  return true;
}

void symbol_memory_give(uint64_t bytes) {
  atomic_fetch_sub_explicit(&used, bytes, memory_order_relaxed);
}

uint64_t symbol_memory_used(void) { return load(&used); }
uint64_t symbol_memory_peak(void) { return load(&peak); }

uint64_t symbol_memory_left(void) {
  uint64_t most = limit(), taken = load(&used);
  return taken < most ? most - taken : 0;
}

void symbol_memory_forget(void) { atomic_store_explicit(&used, 0, memory_order_relaxed); }

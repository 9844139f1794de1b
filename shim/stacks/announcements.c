#include "announcements.h"

#include <stdatomic.h>

#include "shim/base/confinement.h"
#include "shim/base/raw_syscall.h"
#include "unwind_rule.h"

/* Written by the agent while version is even. A reader that has seen one odd version before and
 * after has read what belongs together. */
static _Atomic uint32_t version, head_count;
static struct {
  _Atomic uintptr_t address;
  _Atomic uint64_t words[ANNOUNCEMENT_WORDS];
} set[ANNOUNCEMENT_LISTS_MAX];

void announcements_unset(void) {
  uint32_t now = atomic_load_explicit(&version, memory_order_relaxed);
  atomic_store_explicit(&version, (now + 1) & ~1u, memory_order_relaxed);
  atomic_thread_fence(memory_order_release);
}

void announcements_set(const struct announcement_head *heads, uint32_t count) {
  announcements_unset();
  for (uint32_t i = 0; i < count; i++) {
    atomic_store_explicit(&set[i].address, heads[i].address, memory_order_relaxed);
    for (int word = 0; word < ANNOUNCEMENT_WORDS; word++)
      atomic_store_explicit(&set[i].words[word], heads[i].words[word], memory_order_relaxed);
  }
  atomic_store_explicit(&head_count, count, memory_order_relaxed);
  atomic_fetch_add_explicit(&version, 1, memory_order_release);
}

static bool is_as_it_was(uint32_t i) {
  uintptr_t address = atomic_load_explicit(&set[i].address, memory_order_relaxed);
  const volatile uint64_t *words = (const volatile uint64_t *)address;
  if (!raw_range_is_readable((const void *)address, ANNOUNCEMENT_WORDS * sizeof *words))
    return false;
  for (int word = 0; word < ANNOUNCEMENT_WORDS; word++)
    if (words[word] != atomic_load_explicit(&set[i].words[word], memory_order_relaxed))
      return false;
  return true;
}

bool announcements_hold(void) {
  uint32_t before = atomic_load_explicit(&version, memory_order_acquire);
  uint32_t count = atomic_load_explicit(&head_count, memory_order_relaxed);
  /* dlclose of the object that the words are in waits meanwhile. */
  if (!(before & 1) || confinement_forbids_calls() || !unwind_rule_try_borrow()) return false;
  bool hold = true;
  for (uint32_t i = 0; i < count && i < ANNOUNCEMENT_LISTS_MAX && hold; i++) hold = is_as_it_was(i);
  unwind_rule_borrow_end();
  atomic_thread_fence(memory_order_acquire);
  return hold && atomic_load_explicit(&version, memory_order_relaxed) == before;
}

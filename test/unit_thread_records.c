/* links: test/agent_memory_libc.c */
/* Two records claim one thread, because one has outlived its thread whose number the kernel used
 * again: the younger is kept, whichever is found first, and the other is given back with its
 * timer. */
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/threads/thread_records.h"
#include "shim/base/counters.h"
#include "shim/cpu/cpu_sampling.h"
#include "shim/threads/thread_registry.h"
#include "check.h"

struct shim_counters shim_counters;

static uint32_t disarmed;
void cpu_sampling_disarm(uint32_t number) { disarmed = number; }

static uint32_t lives(uint32_t number) {
  return (uint32_t)(atomic_load(&thread_registry_at(number)->life) & 1);
}

static void end(uint32_t number) {
  CHECK(thread_registry_end_life(number, atomic_load(&thread_registry_at(number)->life)));
  thread_registry_recycle(number);
}

static void test_the_younger_is_kept(enum thread_origin origin_of_stale,
                                     bool stale_has_lower_number) {
  int32_t tid = (int32_t)syscall(SYS_gettid);
  struct thread_ids ids = {1, &tid};
  uint32_t kept = 0, low = thread_registry_take(THREAD_CREATED),
           high = thread_registry_take(THREAD_CREATED);
  if (low > high) kept = low, low = high, high = kept;
  uint32_t stale = stale_has_lower_number ? low : high, young = stale_has_lower_number ? high : low;
  atomic_store(&thread_registry_at(stale)->origin, origin_of_stale);
  thread_registry_tell_tid(thread_registry_at(stale), tid);
  thread_registry_tell_tid(thread_registry_at(young), tid);
  disarmed = 0;
  thread_records_match(&ids, &kept);
  CHECK(kept == young && lives(young) && !lives(stale) && disarmed == stale);
  end(young);
}

int main(void) {
  for (int lower = 0; lower < 2; lower++) {
    test_the_younger_is_kept(THREAD_CREATED, lower);
    test_the_younger_is_kept(THREAD_FOUND, lower);
  }
  return failures != 0;
}

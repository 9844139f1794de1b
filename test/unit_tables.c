/* One thread: what goes in comes out, the bounds are kept and counted, and memory that cannot be
 * had costs a count, not a crash. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shim/base/counters.h"
#include "shim/allocation/heap_table.h"
#include "shim/allocation/live_table.h"
#include "shim/stacks/stack_table.h"
#include "check.h"

struct shim_counters shim_counters;

static void test_stacks(void) {
  uint64_t frames[STACK_DEFAULT_FRAMES + 1];
  for (int i = 0; i <= STACK_DEFAULT_FRAMES; i++) frames[i] = 0x400000 + (uint64_t)i * 16;
  uint32_t first = stack_table_intern(frames, 3, 1);
  CHECK(first != 0 && stack_table_intern(frames, 3, 1) == first);
  CHECK(stack_table_intern(frames, 4, 1) != first); /* longer */
  CHECK(stack_table_intern(frames, 3, 2) != first); /* another epoch */
  uint32_t longest = stack_table_intern(frames, STACK_DEFAULT_FRAMES + 1, 1);
  struct stack_view view;
  CHECK(stack_table_read(longest, &view) && view.frame_count == STACK_DEFAULT_FRAMES + 1 &&
        view.epoch == 1 && memcmp(view.frames, frames, sizeof frames) == 0);
  CHECK(!stack_table_read(0, &view) && !stack_table_read(UINT32_MAX, &view));
  CHECK(stack_table_count() == 4);
  for (uint64_t i = 0; i < 120000; i++) { /* distinct by their middle frame */
    frames[10] = i << 4;
    uint32_t id = stack_table_intern(frames, 20, 1);
    CHECK(id != 0 && stack_table_read(id, &view) && view.frames[10] == i << 4);
  }
  CHECK(stack_table_count() == 120004);
}

static struct heap_bucket_view bucket_of(uint32_t stack, uint64_t size) {
  struct heap_bucket_view view;
  for (uint32_t i = 1; i <= heap_bucket_count(); i++)
    if (heap_bucket_read(i, &view) && view.stack == stack && view.size == size) return view;
  return (struct heap_bucket_view){0};
}

static void test_live(void) {
  enum { COUNT = 2000000 };
  for (uintptr_t i = 1; i <= COUNT; i++) CHECK(heap_record_alloc(i * 48, 40, 1, 1));
  CHECK(heap_live_count() == COUNT);
  for (uintptr_t i = 1; i <= COUNT; i += 2) CHECK(heap_record_free(i * 48));
  for (uintptr_t i = 1; i <= COUNT; i += 2) CHECK(!heap_record_free(i * 48)); /* gone */
  CHECK(heap_live_count() == COUNT / 2);
  struct heap_bucket_view view = bucket_of(1, 40);
  CHECK(view.allocs == COUNT && view.frees == COUNT / 2 && view.rate == 1);

  /* The same pointer again without a free in between: the old record ends. */
  CHECK(heap_record_alloc(96, 7, 1, 2));
  CHECK(shim_counters.heap_stale_records == 1);
  CHECK(bucket_of(1, 40).frees == COUNT / 2 + 1 && bucket_of(2, 7).allocs == 1 &&
        bucket_of(2, 7).frees == 0);

  /* realloc: set aside, put back, ended. */
  uint64_t detached = heap_record_detach(96);
  CHECK(detached != 0 && !heap_record_free(96) && bucket_of(2, 7).frees == 0);
  heap_record_reattach(detached, 96);
  detached = heap_record_detach(96);
  heap_record_end(detached, 96);
  CHECK(bucket_of(2, 7).frees == 1 && !heap_record_free(96) && heap_record_detach(96) == 0);

  /* Slots are used again: no growth under churn. */
  uint64_t before = heap_table_bytes();
  for (int i = 0; i < 3000000; i++) {
    uintptr_t pointer = 0x700000000000 + (uintptr_t)i * 16;
    CHECK(heap_record_alloc(pointer, 40, 1, 1) && heap_record_free(pointer));
  }
  CHECK(heap_table_bytes() == before);
  for (uintptr_t i = 2; i <= COUNT; i += 2) heap_record_free(i * 48);
  CHECK(heap_live_count() == 0);
}

/* The filter is never wrong in the direction that matters, also where its counts saturate. */
static void test_filter(void) {
  for (uintptr_t i = 0; i < 4096 / 8; i++) heap_record_alloc(0x5000000 + i * 8, 8, 1, 3);
  for (uintptr_t i = 0; i < 4096 / 8; i++) {
    CHECK(live_table_may_contain((void *)(0x5000000 + i * 8)));
    CHECK(heap_record_free(0x5000000 + i * 8));
  }
  /* realloc(NULL) and free(NULL) are not tracked, also when a page with the same filter slot is. */
  uintptr_t like_null = (uintptr_t)1 << (LIVE_FILTER_BITS + LIVE_FILTER_PAGE_SHIFT);
  CHECK(heap_record_alloc(like_null, 8, 1, 3) && live_table_may_contain(NULL) &&
        !live_table_find(0).line);
  CHECK(heap_record_detach(0) == 0 && !heap_record_free(0) && heap_record_free(like_null));
  CHECK(heap_record_alloc(0x6000008, 8, 1, 3) && live_table_may_contain((void *)0x6000008) &&
        heap_record_free(0x6000008));
  CHECK(!live_table_may_contain((void *)0x6000008));
}

static void test_bounds(void) {
  /* Sizes that are all different: rounded from half of the table on, so that one stack cannot fill
   * it. */
  for (uint64_t size = 100000; size < 100000 + (uint64_t)heap_bucket_limit(); size++) {
    CHECK(heap_record_alloc(size * 16, size, 1, 5));
    heap_record_free(size * 16);
  }
  CHECK(heap_bucket_count() < heap_bucket_limit() / 2 + 5000);
  CHECK(shim_counters.heap_sizes_rounded > 0);
  uint64_t allocs = 0, bytes = 0;
  struct heap_bucket_view view;
  for (uint32_t i = 1; i <= heap_bucket_count(); i++)
    if (heap_bucket_read(i, &view) && view.stack == 5) {
      allocs += view.allocs;
      bytes += view.allocs * view.size;
    }
  double want = (double)heap_bucket_limit() * (100000 + (100000.0 + heap_bucket_limit() - 1)) / 2;
  CHECK(allocs == heap_bucket_limit());
  CHECK((double)bytes > want * 0.999 && (double)bytes < want * 1.001);

  /* Distinct stacks until the stack table is full: counted, and what was there stays. */
  uint64_t frames[2] = {1 << 20, 0};
  uint32_t id = 0;
  for (uint64_t i = 0; i < (uint64_t)stack_table_limit() + 1000; i++) {
    frames[1] = i * 16 + 0x1000000;
    id = stack_table_intern(frames, 2, 9);
  }
  CHECK(id == 0 && stack_table_count() <= stack_table_limit());
  frames[1] = 0x1000000;
  CHECK(stack_table_intern(frames, 2, 9) != 0);
}

int main(void) {
  test_stacks();
  test_live();
  test_filter();
  test_bounds();
  return failures != 0;
}

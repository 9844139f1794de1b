/* The ranges of the program's mappings against a plain map of its pages, as an address space would
 * do it: added, cut anywhere, moved; then by threads at once, each in addresses of its own that lie
 * among the others'. */
/* sanitizer: thread */
#include "shim/allocation/mmap_ranges.h"

#include <pthread.h>
#include <string.h>

#include "check.h"
#include "shim/base/counters.h"

struct shim_counters shim_counters;

enum { PAGE = MMAP_PAGE, PAGES = 4096, STEPS = 60000, THREADS = 4 };
static const uintptr_t base = (uintptr_t)0x7f1200000000;

/* Of each page: the bucket of the range that it is in, or -1. */
struct model {
  int32_t pages[PAGES];
  uint64_t random, cut_bytes;
  int64_t ranges;
  uintptr_t base;
  uint32_t stride; /* in pages: the threads' addresses take turns */
};

static uint32_t draw(struct model *model, uint32_t below) {
  model->random = model->random * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)((model->random >> 33) % below);
}

static void note_cut(void *argument, const struct mmap_range *cut, int more) {
  struct model *model = argument;
  CHECK(cut->start < cut->end && more >= -1 && more <= 1);
  for (uintptr_t at = cut->start; at < cut->end; at += PAGE) {
    uintptr_t page = (at - model->base) / PAGE;
    CHECK(page < PAGES && model->pages[page] == (int32_t)cut->bucket);
    model->pages[page] = -1;
  }
  model->cut_bytes += cut->end - cut->start;
  model->ranges += more;
}

static void cut(struct model *model, uint32_t first, uint32_t count) {
  mmap_ranges_cut(model->base + (uintptr_t)first * PAGE,
                  model->base + (uintptr_t)(first + count) * PAGE, note_cut, model);
  for (uint32_t i = first; i < first + count; i++) CHECK(model->pages[i] == -1);
}

static void step(struct model *model) {
  uint32_t count = 1 + draw(model, draw(model, 8) ? 64 : 1000), first = draw(model, PAGES - count);
  cut(model, first, count);
  if (count < 16 || draw(model, 3) == 0) return;
  uint32_t bucket = draw(model, 1000);
  const struct mmap_range range = {model->base + (uintptr_t)first * PAGE,
                                   model->base + (uintptr_t)(first + count) * PAGE, bucket};
  CHECK(mmap_ranges_add(&range));
  model->ranges++;
  for (uint32_t i = first; i < first + count; i++) model->pages[i] = (int32_t)bucket;
}

/* All that is there is what the model has, once. */
static uint64_t check_model(const struct model *model) {
  static int32_t seen[PAGES];
  memset(seen, -1, sizeof seen);
  struct mmap_cursor cursor = {0};
  struct mmap_range range;
  int64_t ranges = 0;
  uint64_t bytes = 0;
  while (mmap_ranges_next(&cursor, &range)) {
    if (range.start - model->base >= (uintptr_t)PAGES * PAGE) continue;
    ranges++;
    bytes += range.end - range.start;
    for (uintptr_t at = range.start; at < range.end; at += PAGE) {
      CHECK(seen[(at - model->base) / PAGE] == -1);
      seen[(at - model->base) / PAGE] = (int32_t)range.bucket;
    }
  }
  CHECK(ranges == model->ranges);
  CHECK(memcmp(seen, model->pages, sizeof seen) == 0);
  return bytes;
}

static struct model models[THREADS + 1];

static void begin(struct model *model, uintptr_t at) {
  memset(model->pages, -1, sizeof model->pages);
  model->base = at;
  model->random = at;
}

static void *run(void *argument) {
  for (int i = 0; i < STEPS / 2; i++) step(argument);
  return NULL;
}

/* Neighbours: where one's last page ends the other's first begins, so they share keys. */
static void test_threads(void) {
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) begin(&models[i], base + (uintptr_t)(i + 2) * PAGES * PAGE);
  for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, run, &models[i]) == 0);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  if (atomic_load(&shim_counters.mmap_lost_races)) return; /* counted: what they show is not all */
  for (int i = 0; i < THREADS; i++) check_model(&models[i]);
}

static void ignore(void *argument, const struct mmap_range *cut, int more) {
  (void)cut;
  *(int *)argument += more;
}

/* A great one is cut at many places, and gone at once. */
static void test_great(void) {
  const uintptr_t start = (uintptr_t)1 << 40, size = (uintptr_t)1 << 36;
  const struct mmap_range great = {start, start + size, 7};
  int more = 1;
  CHECK(mmap_ranges_add(&great));
  for (uintptr_t i = 1; i < 1000; i++)
    mmap_ranges_cut(start + i * (32 << 20), start + i * (32 << 20) + PAGE, ignore, &more);
  CHECK(more == 1000);
  mmap_ranges_cut(start - PAGE, start + size + PAGE, ignore, &more);
  CHECK(more == 0);
}

/* Full: counted, and what is there stays right. */
static void test_full(void) {
  uint64_t count = 0, limit = mmap_ranges_limit();
  const uintptr_t start = (uintptr_t)1 << 44;
  struct mmap_range range = {0, 0, 9};
  int more = 0;
  for (uint64_t i = 0; i < 2 * limit; i++) {
    range.start = start + i * MMAP_LEAST_BYTES;
    range.end = range.start + MMAP_LEAST_BYTES;
    count += mmap_ranges_add(&range);
  }
  CHECK(count <= limit && count > limit / 2);
  mmap_ranges_cut(start, start + 2 * limit * MMAP_LEAST_BYTES, ignore, &more);
  CHECK(more == -(int)count);
}

int main(void) {
  struct model *model = &models[THREADS];
  begin(model, base);
  for (int i = 0; i < STEPS; i++) {
    step(model);
    if (i % 500 == 0) CHECK(check_model(model) == mmap_ranges_mapped());
  }
  cut(model, 0, PAGES);
  CHECK(model->ranges == 0 && !mmap_ranges_any() && mmap_ranges_mapped() == 0);
  CHECK(!shim_counters.mmap_lost_races && !shim_counters.mmap_lost_ranges);
  test_great();
  test_threads();
  for (int i = 0; i < THREADS; i++) cut(&models[i], 0, PAGES);
  test_full();
  CHECK(!mmap_ranges_any() && mmap_ranges_mapped() == 0);
  return 0;
}

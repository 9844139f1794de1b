/* The heap at its highest moment against a plain copy made at each new high. */
#include "shim/allocation/heap_peak.h"

#include <pthread.h>
#include <string.h>

#include "agent/profiles/sampling_scale.h"
#include "check.h"
#include "shim/allocation/heap_table.h"
#include "shim/base/counters.h"

struct shim_counters shim_counters;

enum { STACKS = 40, BLOCKS = 3000, STEPS = 60000 };

static uint64_t size_of(uint32_t stack) { return 16 + stack * 37; }

static uint64_t peak_of(uint32_t stack) {
  struct heap_bucket_view view;
  for (uint32_t i = 1; i <= heap_bucket_count(); i++)
    if (heap_bucket_read(i, &view) && view.stack == stack) return view.peak;
  return 0;
}

static uint64_t random_state = 12345;
static uint32_t draw(uint32_t below) {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)((random_state >> 33) % below);
}

struct model {
  uint64_t live[STACKS + 1], at_peak[STACKS + 1], now, peak;
  uint32_t stack_of[BLOCKS]; /* 0: free */
};

static void step(struct model *model, bool grows) {
  uint32_t block = draw(BLOCKS), stack = model->stack_of[block];
  uintptr_t pointer = 0x10000 + (uintptr_t)block * 32;
  if (stack && (!grows || draw(4) == 0)) {
    CHECK(heap_record_free(pointer));
    model->live[stack]--;
    model->now -= size_of(stack);
    model->stack_of[block] = 0;
  } else if (!stack && (grows || draw(4) == 0)) {
    stack = 1 + draw(STACKS);
    CHECK(heap_record_alloc(pointer, size_of(stack), 1, stack));
    model->stack_of[block] = stack;
    model->live[stack]++;
    model->now += size_of(stack);
    if (model->now <= model->peak) return;
    model->peak = model->now;
    memcpy(model->at_peak, model->live, sizeof model->live);
  }
}

static void check_model(const struct model *model) {
  struct heap_levels levels = heap_peak_levels();
  CHECK(levels.now == model->now && levels.peak == model->peak);
  for (uint32_t stack = 1; stack <= STACKS; stack++) CHECK(peak_of(stack) == model->at_peak[stack]);
}

static struct model model;

static void test_against_copies(void) {
  for (int i = 0; i < STEPS; i++) {
    step(&model, i / 2500 % 2 == 0);
    if (i % 500 == 0) check_model(&model);
    if (i != STEPS / 2) continue;
    heap_peak_begin_anew();
    model.peak = model.now;
    memcpy(model.at_peak, model.live, sizeof model.live);
  }
  check_model(&model);
}

/* ---- threads that allocate at once, and free when all have ---- */

enum { THREADS = 4, EACH = 20000, COMMON = STACKS + 1 };
static pthread_barrier_t all;

static void *allocate(void *number) {
  uintptr_t base = 0x100000000 * ((uintptr_t)number + 1);
  for (int i = 0; i < EACH; i++) heap_record_alloc(base + (uintptr_t)i * 64, 32, 1, COMMON);
  pthread_barrier_wait(&all);
  for (int i = 0; i < EACH; i++) heap_record_free(base + (uintptr_t)i * 64);
  return NULL;
}

static void test_threads(void) {
  pthread_t threads[THREADS];
  pthread_barrier_init(&all, NULL, THREADS);
  heap_peak_begin_anew();
  for (uintptr_t i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, allocate, (void *)i);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  CHECK(peak_of(COMMON) == THREADS * EACH);
  for (uint32_t stack = 1; stack <= STACKS; stack++) CHECK(peak_of(stack) == model.live[stack]);
  CHECK(heap_peak_levels().peak == model.now + THREADS * EACH * 32);
  CHECK(heap_peak_levels().now == model.now);
}

static void test_weights(void) {
  static const uint64_t rates[] = {1, 2, 4096, 524288, (uint64_t)1 << 37};
  for (size_t r = 0; r < sizeof rates / sizeof *rates; r++)
    for (double part = 0.001; part < 20; part *= 1.07) {
      uint64_t size = (uint64_t)(part * (double)rates[r]);
      double exact = (double)(size ? size : 1) * sampling_scale(size, rates[r]);
      double weight = (double)heap_peak_weight(size, rates[r]);
      CHECK(weight > exact * 0.99 - 1.5 && weight < exact * 1.01 + 1.5);
    }
  CHECK(heap_peak_weight(UINT64_MAX, 524288) == UINT64_MAX);
}

int main(void) {
  test_against_copies();
  test_threads();
  test_weights();
  return failures != 0;
}

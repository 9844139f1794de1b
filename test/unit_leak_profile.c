/* links: test/fixture_profile.c test/stub_tables.c test/agent_memory_libc.c test/stub_clock.c */
/* flags: -lm */
/* leaks, of processes made by chance: a leak is listed, its growth is right, and what is said with
 * 95 % confidence holds in 95 % of them; what is no leak is not listed. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/profiles/leak_profile.h"
#include "agent/runtime/agent_thread.h"
#include "fixture_profile.h"
#include "stub_clock.h"
#include "stub_tables.h"
#include "check.h"

enum { PROCESSES = 2000, BLOCKS_MAX = 100000 };

static const double window = 3600; /* seconds */
static uint64_t state = 1;

static double uniform(void) { /* (0, 1) */
  state = state * 6364136223846793005u + 1442695040888963407u;
  return ((double)(state >> 11) + 0.5) / 9007199254740992.0;
}

/* Adds a block of bucket 1 that was born so many seconds after the start. */
static void born(double seconds) {
  if (stub.block_count < BLOCKS_MAX)
    stub.blocks[stub.block_count++] =
        (struct live_block){.bucket = 1, .birth = stub.recorded_since + (uint64_t)(seconds * 1e9)};
}

/* Sampled births at a rate per window, from..until, that live for an exponential lifetime (0: for
 * ever) or for a fixed one. */
static void arrive(double rate, double from, double until, double mean_life, double fixed_life) {
  for (double at = from; (at -= log(uniform()) * window / rate) < until;) {
    double life = mean_life ? -log(uniform()) * mean_life : fixed_life ? fixed_life : 1e9;
    if (at + life > window) born(at);
  }
}

static struct profile *ask_for(double of_it) {
  stub_clock_ahead = 0;
  stub_clock_ahead =
      (int64_t)stub.recorded_since + (int64_t)(window * 1e9) - agent_monotonic_nanoseconds();
  return leak_profile_build(of_it);
}

static struct profile *ask(void) { return ask_for(0); }

static bool is_listed(void) {
  struct profile *profile = ask();
  bool listed = profile && profile->sample_count > 0;
  profile_release(profile);
  stub.block_count = 0;
  return listed;
}

static void test_growth(double rate) {
  const struct heap_bucket_view *bucket = &stub.buckets[0];
  double scale = 1 / (1 - exp(-(double)bucket->size / (double)bucket->rate)),
         truth = rate * scale * (double)bucket->size, sum = 0;
  unsigned held = 0, listed = 0;
  for (int i = 0; i < PROCESSES; i++) {
    arrive(rate, 0, window, 0, 0);
    struct profile *profile = ask();
    CHECK(profile != NULL);
    if (profile && profile->sample_count == 1) {
      const struct profile_sample *sample = &profile->samples[0];
      listed++;
      sum += (double)sample->values[1];
      CHECK(strcmp(sample->labels[0].key, "at_least") == 0);
      held += (double)sample->labels[0].number <= truth;
    }
    profile_release(profile);
    stub.block_count = 0;
  }
  printf("rate %g: listed %u of %d, growth %.3f of the truth, at_least holds for %.3f\n", rate,
         listed, PROCESSES, sum / listed / truth, (double)held / listed);
  CHECK(listed > PROCESSES * 0.9);
  CHECK(fabs(sum / listed / truth - 1) < 0.02);
  CHECK((double)held / listed > 0.93);
}

static void test_no_leaks(void) {
  unsigned start = 0, churn = 0, queue = 0, burst = 0, stopped = 0, few = 0;
  for (int i = 0; i < PROCESSES; i++) {
    arrive(400, 0, window / 10, 0, 0); /* at the start, 40 samples */
    start += is_listed();
    arrive(4000, 0, window, window / 20, 0); /* lives of three minutes */
    churn += is_listed();
    arrive(400, 0, window, 0, window / 5); /* a queue of twelve minutes */
    queue += is_listed();
    arrive(4000, window * 0.3, window * 0.4, 0, 0); /* once */
    burst += is_listed();
    arrive(400, 0, window * 0.7, 0, 0); /* a cache that is full since */
    stopped += is_listed();
    arrive(8, 0, window, 0, 0); /* too few to tell */
    few += is_listed();
  }
  printf("listed wrongly: start %u, churn %u, queue %u, burst %u, stopped %u of %d; few: %u\n",
         start, churn, queue, burst, stopped, PROCESSES, few);
  CHECK(start == 0 && churn == 0 && queue == 0 && burst == 0);
  CHECK(stopped < PROCESSES / 100);
  CHECK(few < PROCESSES / 10);
}

static void test_window(void) {
  arrive(400, 0, window * 0.5, 0, 0); /* at the window's begin it has long ended */
  struct profile *profile = ask_for(600);
  CHECK(profile && profile->sample_count == 0);
  profile_release(profile);
  arrive(4000, window - 600, window, 0, 0); /* and this has begun there */
  profile = ask_for(600);
  CHECK(profile && profile->sample_count == 1);
  CHECK(profile->samples[0].labels[1].number > 3000); /* the oldest */
  profile_release(profile);
  stub.block_count = 0;
  profile = ask();
  CHECK(profile && profile->sample_count == 0 && profile->comment_count == 1);
  profile_release(profile);
}

int main(void) {
  fixture_small(524288, false);
  stub.blocks = calloc(BLOCKS_MAX, sizeof *stub.blocks);
  stub.recorded_since = 77;
  test_growth(40);
  test_growth(1000);
  test_no_leaks();
  test_window();
  free(stub.blocks);
  fixture_release();
  return failures != 0;
}

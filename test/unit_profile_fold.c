/* links: test/fixture_profile.c test/stub_tables.c test/agent_memory_libc.c test/stub_clock.c */
/* A profile that is folded until it fits: its size, its totals, what it says; what fits is left
 * alone; and memory that fails at any moment. */
#include <stdlib.h>
#include <string.h>

#include "agent/profiles/heap_profile.h"
#include "agent/profiles/profile_fold.h"
#include "check.h"
#include "fixture_profile.h"
#include "stub_tables.h"

extern int64_t agent_memory_fail_after;

static struct profile *heap_of_tables(void) {
  struct heap_snapshot *now = heap_snapshot_take();
  struct profile *profile =
      heap_profile_build("heap", now, &(struct heap_selection){0}, HEAP_PROFILE_SCALED);
  heap_snapshot_release(now);
  if (!profile) abort();
  return profile;
}

static size_t encoded_size(const struct profile *profile) {
  struct memory_sink sink;
  memory_sink_start(&sink);
  if (!profile_encode_proto(profile, &sink.base)) abort();
  size_t size = sink.size;
  memory_sink_release(&sink);
  return size;
}

struct sums {
  int64_t of[PROFILE_MAX_VALUES];
};

/* Of the samples whose leaf is the marker, or of all. */
static struct sums sums_of(const struct profile *profile, bool folded_only) {
  struct sums sums = {{0}};
  for (size_t s = 0; s < profile->sample_count; s++) {
    const struct profile_sample *sample = &profile->samples[s];
    const char *marker = profile->locations[sample->locations[0]].marker;
    if (folded_only && !(marker && strcmp(marker, PROFILE_FOLDED) == 0)) continue;
    for (uint32_t v = 0; v < profile->value_count; v++) sums.of[v] += sample->values[v];
  }
  return sums;
}

static void test_sizes(void) {
  static const size_t limits[] = {10000, 40000, 200000};
  fixture_many(6000, 24);
  struct profile *whole = heap_of_tables();
  struct sums all = sums_of(whole, false);
  size_t size = encoded_size(whole), samples = 0;
  CHECK(size > 250000);
  for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
    struct profile *profile = heap_of_tables();
    CHECK(profile_fold(profile, limits[i]));
    struct sums left = sums_of(profile, false), folded = sums_of(profile, true);
    CHECK(memcmp(&left, &all, sizeof all) == 0);
    CHECK(folded.of[0] > 0 && folded.of[0] <= all.of[0]);
    CHECK(encoded_size(profile) <= limits[i] && encoded_size(profile) > limits[i] / 8);
    CHECK(profile->sample_count > samples && profile->sample_count < whole->sample_count);
    samples = profile->sample_count;
    CHECK(profile->comment_count == whole->comment_count + 1 &&
          strstr(profile->comments[whole->comment_count], "folded to fit into "));
    profile_release(profile);
  }
  struct profile *fits = heap_of_tables();
  CHECK(profile_fold(fits, size) && fits->sample_count == whole->sample_count &&
        fits->comment_count == whole->comment_count);
  profile_release(fits);
  profile_release(whole);
  fixture_release();
}

/* It is whole, or as it was. */
static void test_memory_fails(void) {
  fixture_many(300, 24);
  struct profile *whole = heap_of_tables();
  struct sums all = sums_of(whole, false);
  profile_release(whole);
  bool done = false;
  for (int64_t after = 0; !done; after += 1 + after / 8) {
    struct profile *profile = heap_of_tables();
    agent_memory_fail_after = after;
    done = profile_fold(profile, 10000);
    agent_memory_fail_after = INT64_MAX;
    struct sums left = sums_of(profile, false);
    CHECK(memcmp(&left, &all, sizeof all) == 0);
    CHECK(!done || encoded_size(profile) <= 10000);
    profile_release(profile);
  }
  fixture_release();
}

int main(void) {
  test_sizes();
  test_memory_fails();
  return failures != 0;
}

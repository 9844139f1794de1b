/* links: test/fixture_profile.c test/stub_tables.c test/agent_memory_libc.c test/stub_clock.c */
/* The block and mutex profiles of a hand-made table: which entries they take, how values are
 * rounded and merged, what was lost, deltas. */
#include "agent/profiles/contention_profile.h"

#include <stdint.h>
#include <string.h>
#include <time.h>

#include "agent/profiles/profile_delta.h"
#include "shim/base/counters.h"
#include "check.h"
#include "fixture_profile.h"
#include "stub_clock.h"
#include "stub_tables.h"

extern int64_t agent_memory_fail_after;

enum {
  MAKE = 0x40120f,
  FOO = 0x7f000000101f,
  NEW = 0x7f1000001010,
  MARKER = 3,
  UNKNOWN = 0x7f0000005fff
};

/* The one sample with this leaf; NULL: there is none. */
static const struct profile_sample *sample_of(const struct profile *profile, uint64_t leaf) {
  const struct profile_sample *found = NULL;
  for (size_t i = 0; i < profile->sample_count; i++) {
    const struct profile_sample *sample = &profile->samples[i];
    if (profile->locations[sample->locations[0]].address != leaf) continue;
    CHECK(!found);
    found = sample;
  }
  return found;
}

static bool has(const struct profile *profile, uint64_t leaf, int64_t count, int64_t delay) {
  const struct profile_sample *sample = sample_of(profile, leaf);
  return sample && sample->values[0] == count && sample->values[1] == delay &&
         sample->label_count == 0;
}

static void check_types(const struct profile *profile, const char *name) {
  CHECK(strcmp(profile->name, name) == 0 && profile->value_count == 2 && profile->period == 1 &&
        profile->duration_nanos == 0);
  CHECK(strcmp(profile->value_types[0].type, "contentions") == 0 &&
        strcmp(profile->value_types[0].unit, "count") == 0);
  CHECK(strcmp(profile->value_types[1].type, "delay") == 0 &&
        strcmp(profile->value_types[1].unit, "nanoseconds") == 0);
  CHECK(strcmp(profile->period_type.type, "contentions") == 0 &&
        strcmp(profile->period_type.unit, "count") == 0);
  CHECK(!profile->default_sample_type && profile->time_nanos / 1000000000 + 60 > time(NULL));
}

static void test_kinds(void) {
  struct profile *block = contention_profile_build(CONTENTION_BLOCK),
                 *mutex = contention_profile_build(CONTENTION_MUTEX);
  check_types(block, "block");
  CHECK(block->sample_count == 3 && block->comment_count == 0);
  CHECK(has(block, MAKE, 3, 5001000)); /* 3 and 0.25 events of one stack, rounded once */
  CHECK(has(block, FOO, 0, 123456789) && has(block, MARKER, 2, 0));
  check_types(mutex, "mutex");
  CHECK(mutex->sample_count == 3 && mutex->comment_count == 0);
  CHECK(has(mutex, MAKE, 3, 7000) && has(mutex, UNKNOWN, 0, 1ll << 52) &&
        has(mutex, NEW, 1000000, 1));
  CHECK(sample_of(mutex, MAKE)->location_count == 3 && mutex->text_trailer == NULL);
  profile_release(block);
  profile_release(mutex);
}

static void test_nothing(void) {
  uint32_t count = stub.contention_count;
  stub.contention_count = 0;
  struct profile *block = contention_profile_build(CONTENTION_BLOCK);
  check_types(block, "block");
  CHECK(block->sample_count == 0);
  profile_release(block);
  stub.contention_count = count;
}

static bool comments(const struct profile *profile, const char *beginning) {
  for (uint32_t i = 0; i < profile->comment_count; i++)
    if (strncmp(profile->comments[i], beginning, strlen(beginning)) == 0) return true;
  return false;
}

static void test_losses(void) {
  atomic_store(&shim_counters.contention_lost_table_full, 7);
  atomic_store(&shim_counters.mutex_lost_waiters, 8);
  atomic_store(&shim_counters.mutex_waits_abandoned, 9);
  atomic_store(&shim_counters.stacks_truncated_depth, 10);
  atomic_store(&shim_counters.heap_lost_no_memory, 11);
  struct profile *block = contention_profile_build(CONTENTION_BLOCK),
                 *mutex = contention_profile_build(CONTENTION_MUTEX);
  CHECK(block->comment_count == 1 &&
        comments(block, "7 waits and releases dropped from block and mutex: the table of"));
  CHECK(strstr(block->text_trailer,
               "# contention_lost_table_full = 7 (waits and releases dropped from ") ==
            block->text_trailer ||
        strstr(block->text_trailer,
               "\n# contention_lost_table_full = 7 (waits and releases dropped from "));
  CHECK(strstr(block->text_trailer, "# stacks_truncated_depth = 10 (") &&
        !strstr(block->text_trailer, "mutex_lost"));
  CHECK(mutex->comment_count == 3 && comments(mutex, "7 waits and releases") &&
        comments(mutex, "8 waits whose releasers were not looked for"));
  CHECK(comments(mutex, "9 waits left out of mutex") &&
        strstr(mutex->text_trailer, "\n# mutex_lost_waiters = 8 ("));
  CHECK(strstr(mutex->text_trailer, "\n# mutex_waits_abandoned = 9 (") &&
        !strstr(mutex->text_trailer, "heap_lost"));
  profile_release(block);
  profile_release(mutex);
  memset(&shim_counters, 0, sizeof shim_counters);
}

static void test_delta(void) {
  struct profile *before = contention_profile_build(CONTENTION_BLOCK);
  struct profile *mutex_before = contention_profile_build(CONTENTION_MUTEX),
                 *same = contention_profile_build(CONTENTION_MUTEX);
  CHECK(profile_subtract(same, mutex_before) && same->sample_count == 0);
  profile_release(same);
  fixture_contention_later();
  stub_clock_ahead += 7 * INT64_C(1000000000);
  struct profile *now = contention_profile_build(CONTENTION_BLOCK);
  CHECK(profile_subtract(now, before) && now->sample_count == 2 &&
        now->duration_nanos >= 7 * INT64_C(1000000000));
  CHECK(has(now, MAKE, 2, 300) && has(now, NEW, 1, 40)); /* libold, at the same place as libnew */
  profile_release(now);
  fixture_contention();
}

static void test_without_memory(void) {
  bool done = false;
  atomic_store(&shim_counters.mutex_lost_releases, 1);
  for (int64_t n = 0; !done && n < 1000; n++) {
    agent_memory_fail_after = n;
    struct profile *profile = contention_profile_build(CONTENTION_MUTEX);
    agent_memory_fail_after = INT64_MAX;
    done = profile;
    CHECK(!profile ||
          (profile->sample_count == 3 && profile->comment_count == 1 && profile->text_trailer));
    profile_release(profile);
    CHECK(stub.sessions == 0);
  }
  CHECK(done);
  memset(&shim_counters, 0, sizeof shim_counters);
}

int main(void) {
  fixture_small(524288, false);
  fixture_contention();
  test_kinds();
  test_nothing();
  test_losses();
  test_delta();
  test_without_memory();
  CHECK(stub.sessions == 0);
  fixture_release();
  return failures != 0;
}

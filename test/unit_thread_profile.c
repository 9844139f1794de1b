/* links: test/stub_clock.c test/stub_tables.c test/agent_memory_libc.c */
/* The goroutine profile of a hand-made dump and the threadcreate profile of a hand-made table: what
 * is grouped, labelled, lost. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/threads/thread_profile.h"
#include "shim/threads/threadcreate_table.h"
#include "stub_tables.h"

extern int64_t agent_memory_fail_after;

static int failures;

#define CHECK(condition)                                             \
  do {                                                               \
    if (!(condition)) {                                              \
      failures++;                                                    \
      fprintf(stderr, "FAILED line %d: %s\n", __LINE__, #condition); \
    }                                                                \
  } while (0)

enum { MAIN = 0x401000, A = MAIN + 0x10, B = MAIN + 0x20, C = MAIN + 0x30 };

/* ---- shim/threads/threadcreate_table.h ---- */

static struct threadcreate_view table[THREADCREATE_STACKS_MAX];
static uint64_t created_total, ended_total;

bool threadcreate_table_read(uint32_t index, struct threadcreate_view *out) {
  *out = table[index];
  return out->stack != 0;
}
void threadcreate_totals(uint64_t *created, uint64_t *ended) {
  *created = created_total;
  *ended = ended_total;
}

/* ---- what a profile says ---- */

static const uint64_t creator_a[] = {A, C}, creator_b[] = {B, C};
static struct stack_view stacks[] = {{2, 1, creator_a}, {2, 1, creator_b}};

static void open_tables(void) {
  memset(&stub, 0, sizeof stub);
  stub.stacks = stacks;
  stub.stack_count = 2;
  stub.mapping_count = 1;
  stub.mappings[0] =
      (struct mapping){.start = MAIN, .limit = MAIN + 0x1000, .path = "/nonexistent/demo"};
}

static const struct profile_label *label(const struct profile_sample *sample, const char *key) {
  for (uint32_t i = 0; i < sample->label_count; i++)
    if (strcmp(sample->labels[i].key, key) == 0) return &sample->labels[i];
  return NULL;
}

static bool says(const struct profile_sample *sample, const char *key, const char *text) {
  const struct profile_label *found = label(sample, key);
  return found && found->text && strcmp(found->text, text) == 0;
}

/* The value of the sample with this leaf (a return address, or a marker) and this state, and *count
 * how many there are. */
static int64_t value_of(const struct profile *profile, uint64_t leaf, const char *state,
                        int *count) {
  int64_t value = 0;
  *count = 0;
  for (size_t i = 0; i < profile->sample_count; i++) {
    const struct profile_sample *sample = &profile->samples[i];
    const struct profile_location *location = &profile->locations[sample->locations[0]];
    if (location->address != (location->marker ? leaf : leaf - 1) || !says(sample, "state", state))
      continue;
    value += sample->values[0];
    ++*count;
  }
  return value;
}

static void check_value(const struct profile *profile, uint64_t leaf, const char *state,
                        int64_t want, int line) {
  int count;
  int64_t value = value_of(profile, leaf, state, &count);
  if (value == want && count == (want != 0)) return;
  failures++;
  fprintf(stderr, "FAILED line %d: %lld in %d samples, want %lld\n", line, (long long)value, count,
          (long long)want);
}

static void check_types(const struct profile *profile, const char *name) {
  CHECK(profile->value_count == 1 && profile->period == 1);
  CHECK(strcmp(profile->name, name) == 0 && strcmp(profile->value_types[0].type, name) == 0);
  CHECK(strcmp(profile->value_types[0].unit, "count") == 0);
  CHECK(strcmp(profile->period_type.type, name) == 0 &&
        strcmp(profile->period_type.unit, "count") == 0);
}

/* ---- goroutine ---- */

static const uint64_t stack_a[] = {A, C}, stack_b[] = {B, C, STACK_TRUNCATED_DEPTH};

static struct dumped_thread threads[] = {
    {.tid = 10,
     .name = "demo",
     .is_main = true,
     .state = "running",
     .frame_count = 2,
     .frames = stack_a,
     .epoch = 1},
    {.tid = 11,
     .name = "worker",
     .state = "IO wait",
     .frame_count = 2,
     .frames = stack_a,
     .epoch = 1},
    {.tid = 12,
     .name = "worker",
     .state = "IO wait",
     .frame_count = 2,
     .frames = stack_a,
     .epoch = 1},
    {.tid = 13,
     .name = "worker",
     .state = "sleep",
     .frame_count = 2,
     .frames = stack_a,
     .epoch = 1},
    {.tid = 14,
     .name = "other",
     .state = "IO wait",
     .frame_count = 2,
     .frames = stack_a,
     .epoch = 1},
    {.tid = 15,
     .name = "worker",
     .state = "IO wait",
     .frame_count = 3,
     .frames = stack_b,
     .epoch = 1},
    {.tid = 16, .name = "worker", .state = "running", .not_read = "gone"},
    {.tid = 17, .name = "worker", .state = "running", .not_read = "gone"},
};
static const struct thread_dump dump = {
    .time_nanos = 1234567, .count = sizeof threads / sizeof *threads, .threads = threads};

static void test_goroutine(void) {
  open_tables();
  struct profile *profile = thread_profile_build(&dump, false);
  check_types(profile, "goroutine");
  CHECK(profile->time_nanos == 1234567 && profile->sample_count == 6);
  check_value(profile, A, "running", 1, __LINE__);
  check_value(profile, A, "sleep", 1, __LINE__);
  check_value(profile, B, "IO wait", 1, __LINE__);
  check_value(profile, STACK_NOT_READ, "running", 2, __LINE__);
  int64_t workers = 0;
  for (size_t i = 0; i < profile->sample_count; i++) {
    const struct profile_sample *sample = &profile->samples[i];
    CHECK(sample->label_count == 2);
    if (!says(sample, "thread_name", "worker") || !says(sample, "state", "IO wait")) continue;
    if (sample->location_count == 2) workers += sample->values[0];
  }
  CHECK(workers == 2);
  CHECK(profile->comment_count == 1 &&
        strcmp(profile->comments[0], "2 of 8 threads could not be read") == 0);
  profile_release(profile);
}

static void test_goroutine_with_tid(void) {
  open_tables();
  struct profile *profile = thread_profile_build(&dump, true);
  CHECK(profile->sample_count == dump.count);
  for (size_t i = 0; i < profile->sample_count; i++) {
    const struct profile_label *tid = label(&profile->samples[i], "tid");
    CHECK(tid && !tid->text && tid->number == threads[i].tid && profile->samples[i].values[0] == 1);
  }
  profile_release(profile);
}

/* ---- threadcreate ---- */

static void test_threadcreate(void) {
  open_tables();
  memset(table, 0, sizeof table);
  table[7] = (struct threadcreate_view){1, 100, 97};
  table[THREADCREATE_STACKS_MAX - 1] = (struct threadcreate_view){2, 5, 0};
  created_total = 105, ended_total = 97;
  struct profile *profile = threadcreate_profile_build();
  check_types(profile, "threadcreate");
  CHECK(profile->sample_count == 3);
  check_value(profile, A, "live", 3, __LINE__);
  check_value(profile, A, "ended", 97, __LINE__);
  check_value(profile, B, "live", 5, __LINE__);
  check_value(profile, B, "ended", 0, __LINE__);
  CHECK(profile->comment_count == 1 &&
        strcmp(profile->comments[0], "105 threads created, 8 live") == 0);
  CHECK(profile->time_nanos > 0);
  profile_release(profile);

  created_total = 125, ended_total = 100; /* 20 whose stacks are lost, 3 of them ended */
  profile = threadcreate_profile_build();
  check_value(profile, STACK_NOT_KEPT, "live", 17, __LINE__);
  check_value(profile, STACK_NOT_KEPT, "ended", 3, __LINE__);
  CHECK(strcmp(profile->comments[0], "125 threads created, 25 live") == 0);
  profile_release(profile);

  created_total = 90,
  ended_total = 80; /* threads were created and ended since the totals were read */
  profile = threadcreate_profile_build();
  check_value(profile, STACK_NOT_KEPT, "live", 0, __LINE__);
  CHECK(strcmp(profile->comments[0], "105 threads created, 8 live") == 0);
  profile_release(profile);

  table[8] = (struct threadcreate_view){77, 2, 1}; /* a stack that cannot be found is not dropped */
  created_total = 107, ended_total = 98;
  profile = threadcreate_profile_build();
  check_value(profile, STACK_NOT_KEPT, "live", 1, __LINE__);
  check_value(profile, STACK_NOT_KEPT, "ended", 1, __LINE__);
  profile_release(profile);

  memset(table, 0, sizeof table);
  created_total = ended_total = 0;
  profile = threadcreate_profile_build();
  CHECK(profile->sample_count == 0 &&
        strcmp(profile->comments[0], "0 threads created, 0 live") == 0);
  profile_release(profile);
}

static void test_shortage(void) {
  open_tables();
  table[7] = (struct threadcreate_view){1, 100, 97};
  created_total = 105, ended_total = 97;
  for (int64_t n = 0; n < 60; n++)
    for (int which = 0; which < 2; which++) {
      agent_memory_fail_after = n;
      struct profile *profile =
          which ? threadcreate_profile_build() : thread_profile_build(&dump, true);
      bool spared = agent_memory_fail_after >= 0;
      agent_memory_fail_after = INT64_MAX;
      CHECK((profile != NULL) == spared);
      profile_release(profile);
    }
  CHECK(stub.sessions == 0);
}

int main(void) {
  test_goroutine();
  test_goroutine_with_tid();
  test_threadcreate();
  test_shortage();
  return failures != 0;
}

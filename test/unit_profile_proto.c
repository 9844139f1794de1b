/* links: test/fixture_profile.c test/stub_tables.c test/agent_memory_libc.c test/stub_clock.c */
/* flags: -lm */
/* The proto form of hand-made tables, read back with the generated parser; every allocation failing
 * in turn; 100,000 stacks. With an argument: writes the fixtures' profiles into that directory, for
 * test_wire.py to give to pprof. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zlib.h>

#include "agent/profiles/contention_profile.h"
#include "agent/profiles/heap_profile.h"
#include "agent/profiles/profile_builder.h"
#include "agent/profiles/profile_delta.h"
#include "shim/base/config.h"
#include "shim/base/counters.h"
#include "fixture_profile.h"
#include "stub_clock.h"
#include "profile.pb-c.h"
#include "stub_tables.h"
#include "check.h"

extern int64_t agent_memory_fail_after;

typedef Perftools__Profiles__Profile parsed_profile;

static parsed_profile *parse(const struct memory_sink *sink) {
  size_t capacity = 256 << 20;
  uint8_t *plain = malloc(capacity);
  z_stream stream = {.next_in = (uint8_t *)sink->bytes,
                     .avail_in = (uInt)sink->size,
                     .next_out = plain,
                     .avail_out = (uInt)capacity};
  CHECK(inflateInit2(&stream, 15 + 16) == Z_OK);
  CHECK(inflate(&stream, Z_FINISH) == Z_STREAM_END);
  CHECK(stream.avail_in == 0);
  parsed_profile *parsed = perftools__profiles__profile__unpack(NULL, stream.total_out, plain);
  inflateEnd(&stream);
  free(plain);
  CHECK(parsed != NULL);
  return parsed;
}

static struct profile *build(const char *name, const struct heap_snapshot *before,
                             enum heap_profile_form form) {
  struct heap_snapshot *now = heap_snapshot_take();
  struct profile *profile =
      now ? heap_profile_build(name, now, &(struct heap_selection){.before = before}, form) : NULL;
  heap_snapshot_release(now);
  return profile;
}

static parsed_profile *round_trip(const char *name, const struct heap_snapshot *before) {
  struct memory_sink sink;
  memory_sink_start(&sink);
  struct profile *profile = build(name, before, HEAP_PROFILE_SCALED);
  CHECK(profile && profile_encode_proto(profile, &sink.base));
  profile_release(profile);
  CHECK(stub.sessions == 0);
  parsed_profile *parsed = parse(&sink);
  memory_sink_release(&sink);
  return parsed;
}

/* The sample whose leaf has this name and whose bytes label is size; markers and unknown leaves by
 * their address. */
static const Perftools__Profiles__Sample *find(const parsed_profile *p, const char *leaf,
                                               int64_t size) {
  for (size_t i = 0; i < p->n_sample; i++) {
    const Perftools__Profiles__Location *location = p->location[p->sample[i]->location_id[0] - 1];
    const char *name = location->n_line
                           ? p->string_table[p->function[location->line[0]->function_id - 1]->name]
                           : "?";
    if (strcmp(name, leaf) == 0 && p->sample[i]->n_label == 1 &&
        p->sample[i]->label[0]->num == size)
      return p->sample[i];
  }
  fprintf(stderr, "no sample of %s, %lld bytes\n", leaf, (long long)size);
  failures++;
  return NULL;
}

static void check_sample(const parsed_profile *p, const char *leaf, int64_t size, double rate,
                         int64_t allocs, int64_t inuse) {
  const Perftools__Profiles__Sample *sample = find(p, leaf, size);
  if (!sample) return;
  double scale = rate <= 1 ? 1 : -1 / expm1(-(double)size / rate);
  const int64_t want[4] = {llround((double)allocs * scale),
                           llround((double)(allocs * size) * scale), llround((double)inuse * scale),
                           llround((double)(inuse * size) * scale)};
  CHECK(sample->n_value == 4 && memcmp(sample->value, want, sizeof want) == 0);
  CHECK(strcmp(p->string_table[sample->label[0]->key], "bytes") == 0 &&
        strcmp(p->string_table[sample->label[0]->num_unit], "bytes") == 0);
}

static void test_small(uint64_t rate) {
  fixture_small(rate, false);
  config.memprofile_rate = rate;
  parsed_profile *p = round_trip("heap", NULL);
  CHECK(p->n_sample == 8); /* 9 buckets, of which two are the same stack and size in two epochs */
  CHECK(stub.resolved == p->n_location - 3); /* once each; the three markers need no name */
  check_sample(p, "ns::make<int>(int)", 64, (double)rate, 12, 7);
  check_sample(p, "ns::make<int>(int)", 4096, (double)rate, 8, 0);
  check_sample(p, "foo_alloc", 1048576, (double)rate, 5, 3);
  check_sample(p, "?", 100, (double)rate, 3, 3);
  check_sample(p, "jit:<b>&\"x\"\n?caf\xc3\xa9", 48, (double)rate, 2, 1);
  check_sample(p, "[truncated: stack memory cannot be read]", 24, (double)rate, 1, 1);
  CHECK(p->period == (int64_t)rate && p->default_sample_type == 0 && p->duration_nanos == 0 &&
        p->time_nanos > 0);
  CHECK(strcmp(p->string_table[0], "") == 0);
  CHECK(p->n_mapping == 6 && p->mapping[0]->has_functions && p->mapping[0]->has_line_numbers &&
        p->mapping[0]->has_inline_frames);
  CHECK(!p->mapping[1]->has_functions &&
        !p->mapping[1]->has_filenames); /* one of its two addresses has no name */
  CHECK(strcmp(p->string_table[p->mapping[4]->filename], "//anon") == 0 &&
        p->mapping[4]->has_functions);
  CHECK(!p->mapping[5]->has_functions); /* nothing was looked up there */
  for (size_t i = 0; i < p->n_location; i++)
    CHECK(p->location[i]->id == i + 1 && p->location[i]->mapping_id <= p->n_mapping);
  for (size_t i = 0; i < p->n_function; i++) CHECK(p->function[i]->id == i + 1);

  const Perftools__Profiles__Sample *sample = find(p, "ns::make<int>(int)", 64);
  if (sample) {
    CHECK(sample->n_location_id == 3 &&
          p->location[sample->location_id[0] - 1]->address == 0x40120f);
    const Perftools__Profiles__Location *inlined = p->location[sample->location_id[1] - 1];
    CHECK(inlined->n_line == 2 && inlined->line[0]->line == 3 && inlined->line[1]->line == 40);
    const Perftools__Profiles__Function *made =
        p->function[p->location[sample->location_id[0] - 1]->line[0]->function_id - 1];
    CHECK(strcmp(p->string_table[made->system_name], "_ZN2ns4makeIiEEvi") == 0);
  }
  /* The same addresses meant libold before epoch 5 and libnew since. */
  unsigned old = 0, new = 0;
  for (size_t i = 0; i < p->n_location; i++)
    old += p->location[i]->mapping_id == 3, new += p->location[i]->mapping_id == 4;
  CHECK(old == 1 && new == 1);
  perftools__profiles__profile__free_unpacked(p, NULL);
  fixture_release();
}

static void test_delta(void) {
  fixture_small(1, false);
  struct heap_snapshot *before = heap_snapshot_take();
  parsed_profile *none = round_trip("heap", before);
  CHECK(none->n_sample == 0 && none->duration_nanos > 0);
  perftools__profiles__profile__free_unpacked(none, NULL);
  fixture_small_later();
  stub_clock_ahead += 7 * INT64_C(1000000000); /* as if the wall clock had been set back */
  parsed_profile *p = round_trip("allocs", before);
  CHECK(p->n_sample == 3 && p->duration_nanos >= 7 * INT64_C(1000000000));
  CHECK(strcmp(p->string_table[p->default_sample_type], "alloc_space") == 0);
  check_sample(p, "ns::make<int>(int)", 64, 1, 0, -6);
  check_sample(p, "foo_alloc", 1048576, 1, 3, 3);
  check_sample(p, "?", 200, 1, 2, 1);
  heap_snapshot_release(before);
  perftools__profiles__profile__free_unpacked(p, NULL);
  fixture_release();
}

static void test_losses_are_comments(void) {
  fixture_small(1, false);
  atomic_store(&shim_counters.heap_lost_no_memory, 12);
  atomic_store(&shim_counters.stacks_truncated_depth, 5); /* shown as frames: no comment */
  parsed_profile *p = round_trip("heap", NULL);
  CHECK(p->n_comment == 1 &&
        strncmp(p->string_table[p->comment[0]], "12 sampled allocations dropped", 30) == 0);
  atomic_store(&shim_counters.heap_lost_no_memory, 0);
  atomic_store(&shim_counters.stacks_truncated_depth, 0);
  perftools__profiles__profile__free_unpacked(p, NULL);
  fixture_release();
}

/* ---- stacks that are in no table, labels, deltas ---- */

enum { MAKE = 0x401210, MAIN = 0x401010, FOO = 0x7f0000001020, JITTED = 0x7f2000001011 };
static const uint64_t made[] = {MAKE, MAIN}, worked[] = {FOO, MAIN}, jitted[] = {JITTED, 2},
                      nothing_read[] = {STACK_NOT_READ};

static struct profile_stack frames_of(const uint64_t *frames, uint32_t count) {
  return (struct profile_stack){.frame_count = count, .epoch = 1, .frames = frames};
}

static bool add(struct profile_builder *builder, struct profile_stack stack, const char *name,
                int64_t tid, double value) {
  const struct profile_label labels[] = {{.key = "thread_name", .text = name},
                                         {.key = "tid", .number = tid, .unit = "number"}};
  return profile_builder_add(builder, &stack, name ? labels : labels + 1,
                             (name != NULL) + (tid != 0), &value);
}

/* Counts: one sample a line of the array, ended by one without frames. */
struct counted_stack {
  const uint64_t *frames;
  uint32_t frame_count;
  const char *name;
  int64_t tid;
  double value;
};

static struct profile *build_counts(const struct counted_stack *stacks, int64_t time_nanos) {
  struct profile_builder *builder = profile_builder_open("goroutine", 1);
  if (!builder) return NULL;
  struct profile *profile = profile_builder_profile(builder);
  profile->value_types[0] = profile->period_type =
      (struct profile_value_type){"goroutine", "count"};
  profile->period = 1;
  profile->time_nanos = time_nanos;
  profile->monotonic_nanos = 3 * time_nanos; /* goes its own way */
  for (; stacks->frames; stacks++) {
    char name[16] = ""; /* only as long as the call: texts are copied */
    if (stacks->name) snprintf(name, sizeof name, "%s", stacks->name);
    if (!add(builder, frames_of(stacks->frames, stacks->frame_count), stacks->name ? name : NULL,
             stacks->tid, stacks->value))
      break;
    memset(name, 'x', sizeof name);
  }
  return profile_builder_finish(builder);
}

static parsed_profile *encode(struct profile *profile) {
  struct memory_sink sink;
  memory_sink_start(&sink);
  CHECK(profile && profile_encode_proto(profile, &sink.base));
  profile_release(profile);
  parsed_profile *parsed = parse(&sink);
  memory_sink_release(&sink);
  return parsed;
}

static void test_contention(void) {
  fixture_small(1, false);
  fixture_contention();
  parsed_profile *p = encode(contention_profile_build(CONTENTION_MUTEX));
  CHECK(p->n_sample_type == 2 &&
        strcmp(p->string_table[p->sample_type[0]->type], "contentions") == 0);
  CHECK(strcmp(p->string_table[p->sample_type[0]->unit], "count") == 0 &&
        strcmp(p->string_table[p->sample_type[1]->type], "delay") == 0);
  CHECK(strcmp(p->string_table[p->sample_type[1]->unit], "nanoseconds") == 0 &&
        p->default_sample_type == 0 && p->period == 1);
  CHECK(strcmp(p->string_table[p->period_type->type], "contentions") == 0 &&
        strcmp(p->string_table[p->period_type->unit], "count") == 0);
  CHECK(p->n_sample == 3 && p->time_nanos > 0 && p->duration_nanos == 0 && p->n_comment == 0);
  int64_t counts = 0, delays = 0;
  for (size_t i = 0; i < p->n_sample; i++) {
    CHECK(p->sample[i]->n_value == 2 && p->sample[i]->n_label == 0);
    counts += p->sample[i]->value[0];
    delays += p->sample[i]->value[1];
  }
  CHECK(counts == 1000003 && delays == (1ll << 52) + 7001);
  perftools__profiles__profile__free_unpacked(p, NULL);
  fixture_release();
}

/* The value of the one sample with this leaf (its address; a marker: 0), name ("": none) and tid
 * (0: none); INT64_MIN when there is none. */
static int64_t count_of(const parsed_profile *p, uint64_t leaf, const char *name, int64_t tid) {
  int64_t found = INT64_MIN;
  for (size_t i = 0; i < p->n_sample; i++) {
    const Perftools__Profiles__Sample *sample = p->sample[i];
    const char *thread_name = "";
    int64_t number = 0;
    for (size_t l = 0; l < sample->n_label; l++) {
      const Perftools__Profiles__Label *label = sample->label[l];
      bool numeric = strcmp(p->string_table[label->key], "tid") == 0;
      CHECK(numeric ? label->str == 0 && strcmp(p->string_table[label->num_unit], "number") == 0
                    : strcmp(p->string_table[label->key], "thread_name") == 0 && label->num == 0 &&
                          label->num_unit == 0);
      if (numeric) number = label->num;
      else thread_name = p->string_table[label->str];
    }
    if (p->location[sample->location_id[0] - 1]->address != leaf ||
        strcmp(thread_name, name) != 0 || number != tid)
      continue;
    CHECK(found == INT64_MIN);
    found = sample->value[0];
  }
  return found;
}

static void test_frames_and_labels(void) {
  static const struct counted_stack stacks[] = {
      {made, 2, "worker", 7, 1}, {made, 2, "worker", 7, 2}, {made, 2, "worker", 8, 4},
      {made, 2, "other", 7, 8},  {made, 2, NULL, 7, 16},    {made, 2, NULL, 0, 32},
      {made, 2, "7", 0, 64},     {jitted, 2, "a", 0, 1},    {nothing_read, 1, "a", 0, 1},
      {worked, 2, "a", 0, 0},    {worked, 2, "b", 0, 0.5},  {0}};
  fixture_small(1, false);
  parsed_profile *p = encode(build_counts(stacks, 5));
  CHECK(p->n_sample == 9);
  CHECK(count_of(p, MAKE - 1, "worker", 7) == 3 && count_of(p, MAKE - 1, "worker", 8) == 4 &&
        count_of(p, MAKE - 1, "other", 7) == 8);
  CHECK(count_of(p, MAKE - 1, "", 7) == 16 && count_of(p, MAKE - 1, "", 0) == 32 &&
        count_of(p, MAKE - 1, "7", 0) == 64);
  CHECK(count_of(p, JITTED - 1, "a", 0) == 1 && count_of(p, 0, "a", 0) == 1 &&
        count_of(p, FOO - 1, "b", 0) == 1);
  CHECK(p->n_sample_type == 1 &&
        strcmp(p->string_table[p->sample_type[0]->type], "goroutine") == 0 && p->period == 1 &&
        p->time_nanos == 5);
  perftools__profiles__profile__free_unpacked(p, NULL);
  /* The same stack by its id and by its frames. */
  struct profile_builder *builder = profile_builder_open("goroutine", 1);
  profile_builder_profile(builder)->value_types[0] =
      (struct profile_value_type){"goroutine", "count"};
  CHECK(add(builder, (struct profile_stack){.id = 2}, NULL, 0, 1));
  CHECK(add(builder, frames_of(worked, 2), NULL, 0, 2) &&
        add(builder, (struct profile_stack){.id = 2}, NULL, 0, 4));
  CHECK(add(builder, (struct profile_stack){.id = 99}, NULL, 0, 8) &&
        add(builder, frames_of(worked, 0), NULL, 0, 16)); /* ignored */
  struct profile *profile = profile_builder_finish(builder);
  CHECK(profile && profile->sample_count == 1 && profile->samples[0].values[0] == 7);
  profile_release(profile);
  fixture_release();
}

static const struct counted_stack at_first[] = {
    {made, 2, "stays", 0, 3},  {made, 2, "shrinks", 0, 5},    {worked, 2, "goes", 0, 2},
    {jitted, 2, "goes", 9, 1}, {nothing_read, 1, NULL, 0, 1}, {0}};
static const struct counted_stack then[] = {{worked, 2, "comes", 0, 4},
                                            {made, 2, "shrinks", 0, 1},
                                            {made, 2, "stays", 0, 3},
                                            {nothing_read, 1, NULL, 0, 2},
                                            {0}};

static void test_subtraction(void) {
  fixture_small(1, false);
  struct profile *before = build_counts(at_first, 1000), *now = build_counts(then, 5000);
  CHECK(before && now && profile_subtract(now, before));
  CHECK(now->duration_nanos == 12000 && now->time_nanos == 5000);
  parsed_profile *p = encode(now);
  CHECK(p->n_sample == 5);
  CHECK(count_of(p, FOO - 1, "comes", 0) == 4 && count_of(p, MAKE - 1, "shrinks", 0) == -4 &&
        count_of(p, 0, "", 0) == 1);
  CHECK(count_of(p, FOO - 1, "goes", 0) == -2 && count_of(p, JITTED - 1, "goes", 9) == -1);
  for (size_t i = 0; i < p->n_location; i++) /* what went is still named, and is where it was */
    if (p->location[i]->address == JITTED - 1)
      CHECK(p->location[i]->n_line == 1 && p->location[i]->mapping_id == 5);
  perftools__profiles__profile__free_unpacked(p, NULL);
  before = build_counts(at_first, 1000);
  now = build_counts(at_first, 2000);
  CHECK(profile_subtract(now, before) && now->sample_count == 0);
  profile_release(now);
  CHECK(stub.sessions == 0);
  fixture_release();
}

static void test_subtraction_without_memory(void) {
  fixture_small(1, false);
  bool done = false;
  for (int64_t n = 0; !done && n < 1000; n++) {
    agent_memory_fail_after = n;
    struct profile *before = build_counts(at_first, 1000),
                   *now = before ? build_counts(then, 5000) : NULL;
    if (!now) profile_release(before);
    done = now && profile_subtract(now, before);
    agent_memory_fail_after = INT64_MAX;
    profile_release(now);
    CHECK(stub.sessions == 0);
  }
  CHECK(done);
  fixture_release();
}

enum source { HEAP, CONTENTION, COUNTS, SOURCES };

static struct profile *build_from(enum source source, bool text) {
  if (source == CONTENTION) return contention_profile_build(CONTENTION_MUTEX);
  if (source == COUNTS) return build_counts(at_first, 1000);
  return build("heap", NULL, text ? HEAP_PROFILE_AS_SAMPLED : HEAP_PROFILE_SCALED);
}

static bool encode_form(const struct profile *profile, bool text, struct memory_sink *sink) {
  return profile && (text ? profile_encode_text(profile, &sink->base)
                          : profile_encode_proto(profile, &sink->base));
}

/* Every allocation fails in turn, then the receiver gives up at every size: false, no leak (the
 * sanitizer looks), no crash. */
static void test_failures_of(enum source source, bool text) {
  bool done = false;
  for (int64_t n = 0; !done; n++) {
    struct memory_sink sink;
    memory_sink_start(&sink);
    agent_memory_fail_after = n;
    struct profile *profile = build_from(source, text);
    bool ok = encode_form(profile, text, &sink);
    done = ok && agent_memory_fail_after > 0;
    agent_memory_fail_after = INT64_MAX;
    profile_release(profile);
    memory_sink_release(&sink);
    CHECK(stub.sessions == 0 && n < 10000);
    if (n >= 10000) break;
  }
  struct profile *profile = build_from(source, text);
  struct memory_sink sink;
  memory_sink_start(&sink);
  sink.refuse_after = 10;
  CHECK(!encode_form(profile, text, &sink));
  memory_sink_release(&sink);
  profile_release(profile);
}

static void test_failures(void) {
  fixture_small(524288, true);
  fixture_contention();
  for (enum source source = HEAP; source < SOURCES; source++) {
    test_failures_of(source, false);
    test_failures_of(source, true);
  }
  fixture_release();
}

static double cpu_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void test_many(void) {
  fixture_many(100000, 20);
  for (int text = 0; text <= 1; text++) {
    struct memory_sink sink;
    memory_sink_start(&sink);
    double start = cpu_seconds();
    struct profile *profile =
        build("heap", NULL, text ? HEAP_PROFILE_AS_SAMPLED : HEAP_PROFILE_SCALED);
    double built = cpu_seconds();
    bool ok = profile && (text ? profile_encode_text(profile, &sink.base)
                               : profile_encode_proto(profile, &sink.base));
    double encoded = cpu_seconds();
    CHECK(ok && profile->sample_count == 100000);
    printf(
        "100000 stacks, %s: built in %.2f s, encoded in %.2f s of CPU, %zu locations, %zu bytes\n",
        text ? "text" : "proto", built - start, encoded - built, profile->location_count,
        sink.size);
    CHECK(encoded - start < 20); /* sanitized; what matters here is that nothing is quadratic */
    profile_release(profile);
    if (!text && ok) {
      parsed_profile *p = parse(&sink);
      CHECK(p->n_sample == 100000);
      perftools__profiles__profile__free_unpacked(p, NULL);
    }
    memory_sink_release(&sink);
  }
  fixture_release();
}

/* Releases the profile. */
static void write_profile(const char *directory, const char *stem, struct profile *profile,
                          bool text) {
  char path[512];
  snprintf(path, sizeof path, "%s/%s.%s", directory, stem, text ? "txt" : "pb.gz");
  struct memory_sink sink;
  memory_sink_start(&sink);
  CHECK(text ? profile_encode_text(profile, &sink.base)
             : profile_encode_proto(profile, &sink.base));
  profile_release(profile);
  FILE *file = fopen(path, "wb");
  CHECK(file && fwrite(sink.bytes, 1, sink.size, file) == sink.size);
  if (file) fclose(file);
  memory_sink_release(&sink);
}

static void write_form(const char *directory, const char *stem, const struct heap_snapshot *before,
                       bool text) {
  write_profile(directory, stem,
                build("heap", before, text ? HEAP_PROFILE_AS_SAMPLED : HEAP_PROFILE_SCALED), text);
}

static void write_contention(const char *directory) {
  static const char *const stems[2][2] = {{"block", "mutex"}, {"block-empty", "mutex-empty"}};
  fixture_small(1, false);
  fixture_contention();
  for (int empty = 0; empty <= 1; empty++) {
    if (empty) stub.contention_count = 0;
    for (int text = 0; text <= 1; text++) {
      atomic_store(&shim_counters.mutex_lost_waiters, 4); /* comments and a trailer too */
      write_profile(directory, stems[empty][0], contention_profile_build(CONTENTION_BLOCK), text);
      write_profile(directory, stems[empty][1], contention_profile_build(CONTENTION_MUTEX), text);
      atomic_store(&shim_counters.mutex_lost_waiters, 0);
    }
  }
  fixture_release();
}

static void write_fixtures(const char *directory) {
  write_contention(directory);
  static const struct {
    const char *stem;
    uint64_t rate;
    bool mixed;
  } cases[] = {{"default", 524288, false}, {"exact", 1, false}, {"mixed", 524288, true}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    fixture_small(cases[i].rate, cases[i].mixed);
    config.memprofile_rate = cases[i].rate;
    write_form(directory, cases[i].stem, NULL, false);
    write_form(directory, cases[i].stem, NULL, true);
    fixture_release();
  }
  fixture_small(524288, false);
  struct heap_snapshot *before = heap_snapshot_take();
  fixture_small_later();
  write_form(directory, "delta", before, false);
  write_form(directory, "later", NULL, false);
  heap_snapshot_release(before);
  fixture_release();
  fixture_small(524288, false); /* nothing allocated, nothing freed: alloc equals in use */
  stub.bucket_count = 0;
  write_form(directory, "empty", NULL, false);
  write_form(directory, "empty", NULL, true);
  stub.bucket_count = 3;
  for (uint32_t i = 0; i < 3; i++) stub.buckets[i].frees = 0;
  write_form(directory, "unfreed", NULL, false);
  write_form(directory, "unfreed", NULL, true);
  fixture_release();
}

int main(int argc, char **argv) {
  if (argc > 1) {
    write_fixtures(argv[1]);
    return failures != 0;
  }
  test_small(524288);
  test_small(1);
  test_delta();
  test_losses_are_comments();
  test_contention();
  test_frames_and_labels();
  test_subtraction();
  test_subtraction_without_memory();
  test_failures();
  test_many();
  return failures != 0;
}

#include "leak_profile.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "shim/allocation/heap_table.h"
#include "shim/allocation/live_table.h"
#include "agent/runtime/agent_memory.h"
#include "agent/runtime/growing_array.h"
#include "agent/runtime/agent_thread.h"
#include "agent/runtime/index_table.h"
#include "profile_builder.h"
#include "profile_losses.h"
#include "sampling_scale.h"

enum { QUARTERS = 4, BLOCKS_MIN = 8 };

/* What is there of a stack. */
struct stack_sums {
  uint32_t stack, blocks; /* blocks: samples of the second and third quarter */
  double bytes[QUARTERS], squares[QUARTERS]; /* by birth; of what is older than the window: none */
  double objects, live_objects, live_bytes; /* objects: of the second and third quarter */
  uint64_t oldest; /* birth */
};

struct search {
  uint64_t start, now;
  struct index_table index;
  struct stack_sums *stacks;
  uint32_t count, capacity, listed;
};

struct wanted {
  const struct search *search;
  uint32_t stack;
};

static bool is_wanted(const void *context, uint32_t position) {
  const struct wanted *wanted = context;
  return wanted->search->stacks[position].stack == wanted->stack;
}

/* NULL: out of memory. */
static struct stack_sums *sums_of(struct search *search, uint32_t stack) {
  struct wanted wanted = {search, stack};
  uint64_t hash = hash_mix(stack, 0);
  uint32_t found = index_table_find(&search->index, hash, is_wanted, &wanted);
  if (found != INDEX_TABLE_NONE) return &search->stacks[found];
  if (!growing_array_reserve(&search->stacks, search->count, &search->capacity,
                             sizeof *search->stacks) ||
      !index_table_add(&search->index, hash, search->count))
    return NULL;
  struct stack_sums *sums = &search->stacks[search->count++];
  *sums = (struct stack_sums){.stack = stack, .oldest = UINT64_MAX};
  return sums;
}

static bool count_block(struct search *search, const struct live_block *block) {
  struct heap_bucket_view bucket;
  if (block->birth > search->now || !heap_bucket_read(block->bucket, &bucket)) return true;
  struct stack_sums *sums = sums_of(search, bucket.stack);
  if (!sums) return false;
  double scale = sampling_scale(bucket.size, bucket.rate), bytes = scale * (double)bucket.size;
  sums->live_objects += scale;
  sums->live_bytes += bytes;
  if (block->birth < sums->oldest) sums->oldest = block->birth;
  if (block->birth < search->start) return true;
  uint64_t window = search->now - search->start + 1;
  unsigned quarter = (unsigned)((double)(block->birth - search->start) / (double)window * QUARTERS);
  if (quarter >= QUARTERS) quarter = QUARTERS - 1;
  sums->bytes[quarter] += bytes;
  sums->squares[quarter] += bytes * bytes;
  if (quarter != 1 && quarter != 2) return true;
  sums->objects += scale;
  sums->blocks++;
  return true;
}

/* To about 1e-12, by Newton's rule. */
static double root(double value) {
  if (value <= 0) return 0;
  double guess = value > 1 ? value : 1;
  for (int i = 0; i < 600; i++) {
    double next = (guess + value / guess) / 2;
    if (next >= guess * (1 - 1e-12)) return next;
    guess = next;
  }
  return guess;
}

static bool grows(const struct stack_sums *sums) {
  const double sigmas = 1.96;
  if (sums->blocks < BLOCKS_MIN) return false;
  for (int i = 1; i < QUARTERS; i++)
    for (int j = 1; j <= 2; j++)
      if (sums->bytes[j] / 2 - sums->bytes[i] >
          sigmas * root(sums->squares[i] + sums->squares[j] / 4))
        return false;
  return true;
}

static bool add_stack(struct search *search, struct profile_builder *builder,
                      const struct stack_sums *sums) {
  if (!grows(sums)) return true;
  search->listed++;
  double an_hour = 3600e9 / ((double)(search->now - search->start + 1) / 2),
         bytes = sums->bytes[1] + sums->bytes[2],
         at_least = bytes - 1.645 * root(sums->squares[1] + sums->squares[2]);
  const double values[4] = {sums->objects * an_hour, bytes * an_hour, sums->live_objects,
                            sums->live_bytes};
  const struct profile_label labels[] = {
      {.key = "at_least",
       .number = sampling_round(at_least > 0 ? at_least * an_hour : 0),
       .unit = "bytes"},
      {.key = "oldest",
       .number = (int64_t)((search->now - sums->oldest) / 1000000000),
       .unit = "seconds"}};
  const struct profile_stack stack = {.id = sums->stack};
  return profile_builder_add(builder, &stack, labels, 2, values);
}

/* What the figures rest on: a comment, and a line of the text form. */
static bool explain(struct profile *profile, const struct search *search) {
  enum { TEXT_MAX = 400 };
  char *text = profile_alloc(profile, TEXT_MAX);
  if (!text) return false;
  snprintf(text, TEXT_MAX,
           "\n# %" PRIu32 " of %" PRIu32
           " stacks with live memory have grown steadily in the last "
           "%.1f s. growth_*: an hour; at_least: with 95 %% confidence. A cache that still fills "
           "looks the same\n",
           search->listed, search->count, (double)(search->now - search->start) / 1e9);
  profile->text_trailer = text;
  const char *line = text + strlen("\n# ");
  return profile_add_comment(profile, "%.*s", (int)strcspn(line, "\n"), line);
}

static void describe(struct profile *profile) {
  static const struct profile_value_type types[4] = {{"growth_objects", "count"},
                                                     {"growth_space", "bytes"},
                                                     {"inuse_objects", "count"},
                                                     {"inuse_space", "bytes"}};
  memcpy(profile->value_types, types, sizeof types);
  profile->period_type = (struct profile_value_type){"space", "bytes"};
  profile->period = 1;
  profile->default_sample_type = "growth_space";
  profile->text_has_labels = true;
  profile_taken_now(profile);
}

static struct profile *build(struct search *search) {
  struct live_cursor cursor = {0};
  struct live_block block;
  while (live_table_next(&cursor, &block))
    if (!count_block(search, &block)) return NULL;
  struct profile_builder *builder = profile_builder_open("leaks", 4);
  if (!builder) return NULL;
  describe(profile_builder_profile(builder));
  for (uint32_t i = 0; i < search->count; i++)
    if (!add_stack(search, builder, &search->stacks[i])) break; /* finish gives NULL */
  struct profile *profile = profile_builder_finish(builder);
  if (!profile) return NULL;
  if (profile_losses_comment(profile, (const char *const[]){"heap_lost_", NULL}) &&
      explain(profile, search))
    return profile;
  profile_release(profile);
  return NULL;
}

struct profile *leak_profile_build(double window) {
  struct search search = {.now = (uint64_t)agent_monotonic_nanoseconds()};
  search.start = heap_recorded_since();
  if (search.start == 0 || search.start > search.now) search.start = search.now;
  if (window > 0 && window * 1e9 < (double)(search.now - search.start))
    search.start = search.now - (uint64_t)(window * 1e9);
  struct profile *profile = build(&search);
  index_table_release(&search.index);
  agent_free(search.stacks);
  return profile;
}

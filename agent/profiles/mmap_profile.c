#include "mmap_profile.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/runtime/agent_memory.h"
#include "profile_builder.h"
#include "profile_losses.h"
#include "resident_pages.h"
#include "sampling_scale.h"
#include "shim/allocation/mmap_ranges.h"
#include "shim/allocation/mmap_table.h"

enum { ALLOC_OBJECTS, ALLOC_SPACE, INUSE_OBJECTS, INUSE_SPACE, RESIDENT_SPACE, VALUES };
_Static_assert((int)VALUES <= (int)PROFILE_MAX_VALUES, "one each");

static void describe(struct profile *profile) {
  static const struct profile_value_type types[VALUES] = {{"alloc_objects", "count"},
                                                          {"alloc_space", "bytes"},
                                                          {"inuse_objects", "count"},
                                                          {"inuse_space", "bytes"},
                                                          {"resident_space", "bytes"}};
  memcpy(profile->value_types, types, sizeof types);
  profile->period_type = (struct profile_value_type){"space", "bytes"};
  profile->period = 1; /* readers of the text form scale by it, and the values are scaled */
  profile->default_sample_type = "inuse_space";
  profile_taken_now(profile);
}

struct resident {
  uint64_t unknown; /* bytes of sampled ranges that could not be looked at */
  uint64_t bytes[]; /* bytes[i] are of bucket number i + 1 */
};

/* Of each bucket's ranges, as they are found. */
static struct resident *find_resident(uint32_t count) {
  struct resident *found = agent_calloc(1, sizeof *found + count * sizeof *found->bytes);
  struct resident_pages *pages = found ? resident_pages_open() : NULL;
  struct mmap_cursor cursor = {0};
  struct mmap_range range;
  if (!found) return NULL;
  while (mmap_ranges_next(&cursor, &range)) {
    uint64_t bytes;
    if (!range.bucket || range.bucket > count) continue;
    if (pages && resident_pages_count(pages, range.start, range.end, &bytes))
      found->bytes[range.bucket - 1] += bytes;
    else found->unknown += range.end - range.start;
  }
  resident_pages_close(pages);
  return found;
}

/* Below 0 while a range is changed: what was taken is seen, not yet what is put back. */
static double at_least_none(int64_t value) { return value > 0 ? (double)value : 0; }

static bool add_bucket(struct profile_builder *builder, const struct mmap_bucket_view *b,
                       uint64_t resident) {
  const struct profile_stack stack = {.id = b->stack};
  const struct profile_label label = {.key = "bytes", .number = (int64_t)b->size, .unit = "bytes"};
  double scale = sampling_scale(b->size, b->rate), bytes = at_least_none(b->bytes);
  double values[VALUES] = {
      [ALLOC_OBJECTS] = (double)b->allocs * scale,
      [ALLOC_SPACE] = (double)b->allocs * (double)b->size * scale,
      [INUSE_OBJECTS] = at_least_none(b->ranges) * scale,
      [INUSE_SPACE] = bytes * scale,
      [RESIDENT_SPACE] = (double)resident * scale,
  };
  return profile_builder_add(builder, &stack, &label, 1, values);
}

/* The text form has no column for it. */
static bool add_trailer(struct profile *profile) {
  enum { LINE = 64 };
  char *text = profile_alloc(profile, LINE);
  int64_t resident = 0;
  if (!text) return false;
  for (size_t i = 0; i < profile->sample_count; i++)
    resident += profile->samples[i].values[RESIDENT_SPACE];
  snprintf(text, LINE, "# resident_space = %" PRId64 "\n", resident);
  profile->text_trailer = text;
  return profile_losses_trail(profile, (const char *const[]){"mmap_lost_", "stacks_", NULL});
}

static bool explain(struct profile *profile, uint64_t unknown) {
  return profile_add_comment(profile,
                             "anonymous mappings of 64 KB and more that the program made by mmap "
                             "and mremap; %" PRIu64 " bytes are mapped so now, sampled or not",
                             mmap_ranges_mapped()) &&
         (unknown == 0 ||
          profile_add_comment(profile,
                              "resident_space lacks what is in memory of %" PRIu64
                              " bytes: /proc/self/pagemap cannot be read, or they are too many",
                              unknown)) &&
         profile_losses_comment(profile, (const char *const[]){"mmap_lost_", NULL});
}

struct profile *mmap_profile_build(void) {
  struct profile_builder *builder = profile_builder_open("mmap", VALUES);
  if (!builder) return NULL;
  describe(profile_builder_profile(builder));
  uint32_t count = mmap_table_count();
  struct resident *resident = find_resident(count);
  for (uint32_t i = 0; resident && i < count; i++) {
    struct mmap_bucket_view view;
    if (mmap_table_read(i + 1, &view) && !add_bucket(builder, &view, resident->bytes[i]))
      break; /* finish gives NULL */
  }
  struct profile *profile = profile_builder_finish(builder);
  bool ok = profile && resident && explain(profile, resident->unknown) && add_trailer(profile);
  agent_free(resident);
  if (ok) return profile;
  profile_release(profile);
  return NULL;
}

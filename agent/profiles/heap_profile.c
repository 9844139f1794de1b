#include "heap_profile.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "shim/base/config.h"
#include "shim/allocation/heap_peak.h"
#include "shim/allocation/heap_table.h"
#include "agent/runtime/agent_memory.h"
#include "agent/runtime/agent_thread.h"
#include "profile_builder.h"
#include "profile_losses.h"
#include "sampling_scale.h"

struct heap_snapshot {
  int64_t time_nanos, monotonic_nanos;
  uint32_t count; /* buckets[i] is bucket number i + 1 */
  struct heap_bucket_view buckets[];
};

struct heap_snapshot *heap_snapshot_take(void) {
  uint32_t count = heap_bucket_count();
  struct heap_snapshot *snapshot =
      agent_malloc(sizeof *snapshot + (size_t)count * sizeof snapshot->buckets[0]);
  if (!snapshot) return NULL;
  snapshot->time_nanos = profile_wall_clock();
  snapshot->monotonic_nanos = agent_monotonic_nanoseconds();
  snapshot->count = count;
  for (uint32_t i = 0; i < count; i++)
    if (!heap_bucket_read(i + 1, &snapshot->buckets[i]))
      memset(&snapshot->buckets[i], 0, sizeof snapshot->buckets[i]);
  return snapshot;
}

void heap_snapshot_release(struct heap_snapshot *snapshot) { agent_free(snapshot); }

struct bucket_change {
  double allocs, inuse; /* sampled allocations; exact, being below 2^53 */
};

static struct bucket_change change_of(const struct heap_snapshot *before,
                                      const struct heap_snapshot *now, uint32_t i, bool at_peak) {
  const struct heap_bucket_view *b = &now->buckets[i];
  int64_t allocs = (int64_t)b->allocs, inuse = (int64_t)(at_peak ? b->peak : b->allocs - b->frees);
  if (before && i < before->count) {
    const struct heap_bucket_view *a = &before->buckets[i];
    allocs -= (int64_t)a->allocs;
    inuse -= (int64_t)(a->allocs - a->frees);
  }
  return (struct bucket_change){(double)allocs, (double)inuse};
}

/* The one rate of all buckets (the configured one when there is none); *mixed when they differ. */
static uint64_t common_rate(const struct heap_snapshot *now, bool *mixed) {
  uint64_t rate = 0;
  bool seen = false;
  *mixed = false;
  for (uint32_t i = 0; i < now->count; i++) {
    const struct heap_bucket_view *b = &now->buckets[i];
    if (b->allocs == 0) continue;
    *mixed = *mixed || (seen && b->rate != rate);
    rate = b->rate;
    seen = true;
  }
  return seen ? rate : config.memprofile_rate;
}

static struct heap_totals round_totals(const double *totals) {
  return (struct heap_totals){sampling_round(totals[0]), sampling_round(totals[1]),
                              sampling_round(totals[2]), sampling_round(totals[3])};
}

static bool add_trailer(struct profile *profile, const double *totals, bool mixed) {
  struct heap_totals rounded = round_totals(totals);
  char *text = profile_alloc(profile, MEMSTATS_MAX);
  if (!text) return false;
  memstats_render(&rounded, mixed, text, MEMSTATS_MAX);
  profile->text_trailer = text;
  return profile_losses_trail(profile, (const char *const[]){"heap_", "stacks_", "modules_", NULL});
}

/* How high the heap was and is, as one comment more. */
static bool add_levels(struct profile *profile) {
  enum { LINE_MAX = 160 };
  struct heap_levels levels = heap_peak_levels();
  const char **comments = profile_alloc(profile, (profile->comment_count + 1) * sizeof *comments);
  char *line = profile_alloc(profile, LINE_MAX);
  if (!comments || !line) return false;
  snprintf(line, LINE_MAX, "about %" PRIu64 " bytes in use at the highest moment, %" PRIu64 " now",
           levels.peak, levels.now);
  for (uint32_t i = 0; i < profile->comment_count; i++) comments[i + 1] = profile->comments[i];
  comments[0] = line;
  profile->comments = comments;
  profile->comment_count++;
  return true;
}

static void describe(struct profile *profile, const struct heap_snapshot *before,
                     const struct heap_snapshot *now) {
  static const struct profile_value_type types[4] = {{"alloc_objects", "count"},
                                                     {"alloc_space", "bytes"},
                                                     {"inuse_objects", "count"},
                                                     {"inuse_space", "bytes"}};
  memcpy(profile->value_types, types, sizeof types);
  profile->period_type = (struct profile_value_type){"space", "bytes"};
  if (strcmp(profile->name, "allocs") == 0) profile->default_sample_type = "alloc_space";
  profile->time_nanos = now->time_nanos;
  if (before) profile->duration_nanos = now->monotonic_nanos - before->monotonic_nanos;
}

struct profile *heap_profile_build(const char *name, const struct heap_snapshot *before,
                                   const struct heap_snapshot *now, enum heap_profile_form form) {
  struct profile_builder *builder = profile_builder_open(name, 4);
  if (!builder) return NULL;
  struct profile *profile = profile_builder_profile(builder);
  describe(profile, before, now);
  bool mixed;
  uint64_t rate = common_rate(now, &mixed);
  bool scaled = form == HEAP_PROFILE_SCALED || mixed, at_peak = strcmp(name, "peak") == 0;
  if (form == HEAP_PROFILE_SCALED) profile->period = (int64_t)config.memprofile_rate;
  else profile->period = mixed ? 1 : (int64_t)rate;

  double totals[4] = {0};
  for (uint32_t i = 0; i < now->count; i++) {
    const struct heap_bucket_view *b = &now->buckets[i];
    struct bucket_change change = change_of(before, now, i, at_peak);
    if (change.allocs == 0 && change.inuse == 0) continue;
    double estimate = sampling_scale(b->size, b->rate), size = (double)b->size,
           factor = scaled ? estimate : 1;
    double values[4] = {change.allocs * factor, change.allocs * factor * size,
                        change.inuse * factor, change.inuse * factor * size};
    for (int v = 0; v < 4; v++) totals[v] += scaled ? values[v] : values[v] * estimate;
    const struct profile_stack stack = {.id = b->stack};
    const struct profile_label label = {
        .key = "bytes", .number = (int64_t)b->size, .unit = "bytes"};
    if (!profile_builder_add(builder, &stack, &label, b->size != 0, values))
      break; /* finish gives NULL */
  }
  profile = profile_builder_finish(builder);
  if (profile && !(profile_losses_comment(profile, (const char *const[]){"heap_lost_", NULL}) &&
                   (!at_peak || add_levels(profile)) &&
                   (form == HEAP_PROFILE_SCALED || add_trailer(profile, totals, mixed)))) {
    profile_release(profile);
    profile = NULL;
  }
  return profile;
}

void heap_totals_read(struct heap_totals *out) {
  double totals[4] = {0};
  struct heap_bucket_view b;
  for (uint32_t i = 1, count = heap_bucket_count(); i <= count; i++) {
    if (!heap_bucket_read(i, &b)) continue;
    double scale = sampling_scale(b.size, b.rate), allocs = (double)b.allocs * scale,
           inuse = (double)(b.allocs - b.frees) * scale;
    totals[0] += allocs;
    totals[1] += allocs * (double)b.size;
    totals[2] += inuse;
    totals[3] += inuse * (double)b.size;
  }
  *out = round_totals(totals);
}

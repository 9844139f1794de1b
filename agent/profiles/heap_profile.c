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

int64_t heap_snapshot_moment(const struct heap_snapshot *snapshot) {
  return snapshot->monotonic_nanos;
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
  return seen ? rate : config_rate(&config.memprofile_rate);
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

/* ---- samples ---- */

struct building {
  struct profile_builder *builder;
  const struct heap_selection *selection;
  bool scaled;
  double totals[4];
  uint32_t next_group; /* of selection->live: the first that is not of a bucket before */
  struct {
    int32_t tid;
    char name[LIVE_THREAD_NAME_MAX];
  } named[64]; /* lately, by tid */
};

static const char *thread_name(struct building *building, int32_t tid) {
  size_t place = (uint32_t)tid % (sizeof building->named / sizeof *building->named);
  if (building->named[place].tid != tid) live_thread_name(tid, building->named[place].name);
  building->named[place].tid = tid;
  return building->named[place].name;
}

/* group: NULL, or whose labels the sample has. False: out of memory. */
static bool add_sample(struct building *building, const struct heap_bucket_view *b,
                       struct bucket_change change, const struct live_group *group) {
  if (change.allocs == 0 && change.inuse == 0) return true;
  double estimate = sampling_scale(b->size, b->rate), size = (double)b->size,
         factor = building->scaled ? estimate : 1;
  double values[4] = {change.allocs * factor, change.allocs * factor * size, change.inuse * factor,
                      change.inuse * factor * size};
  for (int v = 0; v < 4; v++)
    building->totals[v] += building->scaled ? values[v] : values[v] * estimate;
  const struct profile_stack stack = {.id = b->stack};
  struct profile_label labels[PROFILE_MAX_LABELS];
  uint32_t count = 0;
  if (b->size != 0)
    labels[count++] =
        (struct profile_label){.key = "bytes", .number = (int64_t)b->size, .unit = "bytes"};
  if (group && group->age_seconds >= 0)
    labels[count++] =
        (struct profile_label){.key = "age", .number = group->age_seconds, .unit = "seconds"};
  if (group && group->tid) {
    labels[count++] = (struct profile_label){.key = "tid", .number = group->tid};
    const char *name = thread_name(building, group->tid);
    if (*name) labels[count++] = (struct profile_label){.key = "thread_name", .text = name};
  }
  return profile_builder_add(building->builder, &stack, labels, count, values);
}

static bool add_bucket(struct building *building, const struct heap_bucket_view *b, uint32_t number,
                       struct bucket_change change) {
  const struct live_groups *live = building->selection->live;
  if (!live) return add_sample(building, b, change, NULL);
  bool ok = true;
  double there = 0;
  for (; building->next_group < live->count; building->next_group++) {
    const struct live_group *group = &live->items[building->next_group];
    if (group->bucket != number) break;
    double count = group->count;
    there += count;
    if (ok && building->selection->use != HEAP_LIVE_LEFT_OUT)
      ok = add_sample(building, b, (struct bucket_change){count, count},
                      building->selection->labels ? group : NULL);
  }
  if (!ok || building->selection->use == HEAP_LIVE_ONLY) return ok;
  /* Below 0: allocations that were under way at the window's start. */
  double rest = change.allocs > there ? change.allocs - there : 0;
  return add_sample(building, b, (struct bucket_change){rest, 0}, NULL);
}

static bool add_comments(struct profile *profile, const struct heap_selection *selection,
                         bool at_peak) {
  struct heap_levels levels = heap_peak_levels();
  if (at_peak &&
      !profile_add_comment(profile,
                           "about %" PRIu64 " bytes in use at the highest moment, %" PRIu64 " now",
                           levels.peak, levels.now))
    return false;
  uint64_t unlabelled = selection->live ? selection->live->without_labels : 0;
  if (unlabelled > 0 &&
      !profile_add_comment(profile,
                           "%" PRIu64 " sampled blocks have no age and thread: too many groups",
                           unlabelled))
    return false;
  return profile_losses_comment(profile, (const char *const[]){"heap_lost_", NULL});
}

struct profile *heap_profile_build(const char *name, const struct heap_snapshot *now,
                                   const struct heap_selection *selection,
                                   enum heap_profile_form form) {
  struct building building = {.builder = profile_builder_open(name, 4), .selection = selection};
  if (!building.builder) return NULL;
  struct profile *profile = profile_builder_profile(building.builder);
  describe(profile, selection->before, now);
  bool mixed;
  uint64_t rate = common_rate(now, &mixed);
  bool at_peak = strcmp(name, "peak") == 0;
  building.scaled = form == HEAP_PROFILE_SCALED || mixed;
  if (form == HEAP_PROFILE_SCALED) profile->period = (int64_t)config_rate(&config.memprofile_rate);
  else profile->period = mixed ? 1 : (int64_t)rate;

  for (uint32_t i = 0; i < now->count; i++)
    if (!add_bucket(&building, &now->buckets[i], i + 1,
                    change_of(selection->before, now, i, at_peak)))
      break; /* finish gives NULL */
  profile = profile_builder_finish(building.builder);
  if (profile && !(add_comments(profile, selection, at_peak) &&
                   (form == HEAP_PROFILE_SCALED || add_trailer(profile, building.totals, mixed)))) {
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

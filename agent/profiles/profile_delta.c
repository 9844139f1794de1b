#include "profile_delta.h"

#include <string.h>

#include "agent/runtime/agent_memory.h"
#include "agent/runtime/index_table.h"

struct delta {
  struct profile *now;
  const struct profile *before;
  uint32_t
      *translated; /* locations of before as locations of now; INDEX_TABLE_NONE: not asked yet */
  struct index_table location_index, sample_index;
  size_t sample_capacity, location_capacity;
};

static const struct mapping *same_mapping(const struct mappings *set, const struct mapping *map) {
  for (size_t i = 0; map && i < set->count; i++) {
    const struct mapping *other = &set->items[i];
    if (other->start == map->start && other->limit == map->limit && other->offset == map->offset &&
        other->first_epoch == map->first_epoch && strcmp(other->path, map->path) == 0)
      return other;
  }
  return NULL;
}

static uint64_t location_hash(const struct profile_location *location) {
  return hash_mix(hash_mix(location->address, (uintptr_t)location->map), location->marker != NULL);
}

struct location_key {
  const struct profile *profile;
  struct profile_location location;
};

static bool location_equal(const void *context, uint32_t position) {
  const struct location_key *key = context;
  const struct profile_location *a = &key->profile->locations[position], *b = &key->location;
  return a->address == b->address && a->map == b->map && !a->marker == !b->marker;
}

/* INDEX_TABLE_NONE: out of memory. */
static uint32_t translate(struct delta *delta, uint32_t from) {
  struct profile *now = delta->now;
  if (delta->translated[from] != INDEX_TABLE_NONE) return delta->translated[from];
  struct location_key key = {now, delta->before->locations[from]};
  key.location.map = same_mapping(now->mappings, key.location.map);
  uint64_t hash = location_hash(&key.location);
  uint32_t position = index_table_find(&delta->location_index, hash, location_equal, &key);
  if (position == INDEX_TABLE_NONE) {
    if (now->location_count == delta->location_capacity) {
      size_t capacity = now->location_count * 2 + 64;
      struct profile_location *locations =
          agent_realloc(now->locations, capacity * sizeof *locations);
      if (!locations) return INDEX_TABLE_NONE;
      now->locations = locations;
      delta->location_capacity = capacity;
    }
    position = (uint32_t)now->location_count;
    if (!index_table_add(&delta->location_index, hash, position)) return INDEX_TABLE_NONE;
    now->locations[now->location_count++] = key.location;
  }
  return delta->translated[from] = position;
}

struct sample_key {
  const struct profile *profile;
  struct profile_sample sample;
};

static bool sample_equal(const void *context, uint32_t position) {
  const struct sample_key *key = context;
  const struct profile_sample *a = &key->profile->samples[position], *b = &key->sample;
  return a->location_count == b->location_count && a->label_count == b->label_count &&
         memcmp(a->locations, b->locations, a->location_count * sizeof *a->locations) == 0 &&
         profile_labels_equal(a->labels, b->labels, a->label_count);
}

static uint64_t sample_hash(const struct profile_sample *sample) {
  return hash_mix(hash_bytes(sample->locations, sample->location_count * sizeof *sample->locations),
                  profile_labels_hash(sample->labels, sample->label_count));
}

static bool subtract_sample(struct delta *delta, const struct profile_sample *from) {
  struct profile *now = delta->now;
  struct sample_key key = {now, *from};
  uint32_t *locations = profile_alloc(now, from->location_count * sizeof *locations);
  if (!locations) return false;
  for (uint32_t i = 0; i < from->location_count; i++)
    if ((locations[i] = translate(delta, from->locations[i])) == INDEX_TABLE_NONE) return false;
  key.sample.locations = locations;
  uint64_t hash = sample_hash(&key.sample);
  uint32_t position = index_table_find(&delta->sample_index, hash, sample_equal, &key);
  if (position == INDEX_TABLE_NONE) { /* room was made for all of before's */
    position = (uint32_t)now->sample_count++;
    now->samples[position] = key.sample;
    memset(now->samples[position].values, 0, sizeof key.sample.values);
    if (!index_table_add(&delta->sample_index, hash, position)) return false;
  }
  for (uint32_t v = 0; v < now->value_count; v++) {
    int64_t *value = &now->samples[position].values[v];
    if (__builtin_sub_overflow(*value, from->values[v], value))
      *value = from->values[v] > 0 ? INT64_MIN : INT64_MAX;
  }
  return true;
}

static bool subtract_all(struct delta *delta) {
  struct profile *now = delta->now;
  const struct profile *before = delta->before;
  struct profile_sample *samples =
      agent_realloc(now->samples, (now->sample_count + before->sample_count + 1) * sizeof *samples);
  delta->translated = agent_malloc((before->location_count + 1) * sizeof *delta->translated);
  if (samples) now->samples = samples;
  if (!samples || !delta->translated) return false;
  memset(delta->translated, 0xff,
         (before->location_count + 1) * sizeof *delta->translated); /* INDEX_TABLE_NONE */
  delta->location_capacity = now->location_count;
  for (size_t i = 0; i < now->location_count; i++)
    if (!index_table_add(&delta->location_index, location_hash(&now->locations[i]), (uint32_t)i))
      return false;
  for (size_t i = 0; i < now->sample_count; i++)
    if (!index_table_add(&delta->sample_index, sample_hash(&now->samples[i]), (uint32_t)i))
      return false;
  for (size_t i = 0; i < before->sample_count; i++)
    if (!subtract_sample(delta, &before->samples[i])) return false;
  return true;
}

static void drop_zero_samples(struct profile *profile) {
  size_t kept = 0;
  for (size_t i = 0; i < profile->sample_count; i++) {
    bool zero = true;
    for (uint32_t v = 0; v < profile->value_count; v++)
      zero = zero && profile->samples[i].values[v] == 0;
    if (!zero) profile->samples[kept++] = profile->samples[i];
  }
  profile->sample_count = kept;
}

bool profile_subtract(struct profile *now, struct profile *before) {
  if (!before) return false;
  now->subtracted = before;
  now->duration_nanos = now->monotonic_nanos - before->monotonic_nanos;
  struct delta delta = {.now = now, .before = before};
  bool ok = subtract_all(&delta);
  index_table_release(&delta.location_index);
  index_table_release(&delta.sample_index);
  agent_free(delta.translated);
  if (ok) drop_zero_samples(now);
  return ok;
}

#include "profile_builder.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "shim/stacks/stack_table.h"
#include "agent/runtime/agent_memory.h"
#include "agent/runtime/growing_array.h"
#include "agent/runtime/index_table.h"
#include "agent/stacks/own_frames.h"
#include "sampling_scale.h"

struct frame_entry { /* one frame as it stands in the stack table, and the location that it became
                      */
  uint64_t frame;
  uint32_t epoch, location;
};

struct stack_entry { /* one list of locations; stacks that differ in their epoch alone share it */
  uint32_t count, guessed; /* of its frames */
  uint32_t *locations;
};

struct label_set { /* samples with the same labels share it */
  uint32_t count;
  struct profile_label *labels;
};

struct sample_entry {
  uint32_t stack, label_set; /* indexes */
  double values[PROFILE_MAX_VALUES];
};

struct id_entry {
  uint32_t id, stack;
};

/* An array that doubles. */
struct growing {
  void *items;
  uint32_t count, capacity;
};

struct profile_builder {
  struct profile *profile;
  enum profile_names names;
  bool failed;
  uint32_t value_count;
  struct growing frames, stacks, ids, label_sets, samples, locations;
  struct index_table frame_index, location_index, stack_index, id_index, label_index, sample_index;
};

static void *append(struct growing *array, size_t item_size) {
  if (!growing_array_reserve(&array->items, array->count, &array->capacity, item_size)) return NULL;
  void *item = (char *)array->items + (size_t)array->count++ * item_size;
  return memset(item, 0, item_size);
}

static const char *marker_text(uint64_t frame) {
  switch (frame) {
    case STACK_TRUNCATED_DEPTH: return "[truncated: deeper than 2048 frames]";
    case STACK_TRUNCATED_NO_UNWIND: return "[truncated: no unwind information]";
    case STACK_TRUNCATED_MEMORY: return "[truncated: stack memory cannot be read]";
    case STACK_TRUNCATED_SMALL: return "[truncated: no room on that stack to follow it]";
    case STACK_NOT_READ: return "[thread not read: goroutine?debug=2 says why]";
    case STACK_NOT_KEPT: return "[stack not kept: the table of stacks is full]";
    default: return "[truncated]";
  }
}

static const char *missing_text(struct profile_builder *builder, uint64_t frame) {
  enum { SIZE = 32 };
  char *text = profile_alloc(builder->profile, SIZE);
  if (text) snprintf(text, SIZE, "[%u frames left out]", (unsigned)(frame - STACK_MISSING));
  return text ? text : marker_text(frame);
}

/* enum profile_names; relaxed: each builder goes by what it has read when it was opened. */
static _Atomic uint32_t names_are;

void profile_builder_names_are(enum profile_names names) {
  atomic_store_explicit(&names_are, names, memory_order_relaxed);
}

enum profile_names profile_builder_names(void) {
  return atomic_load_explicit(&names_are, memory_order_relaxed);
}

struct profile_builder *profile_builder_open(const char *name, uint32_t value_count) {
  struct profile_builder *builder = agent_calloc(1, sizeof *builder);
  if (!builder) return NULL;
  builder->value_count = value_count;
  builder->names = profile_builder_names();
  builder->profile = profile_new(name);
  if (builder->profile) {
    builder->profile->value_count = value_count;
    builder->profile->mappings = mappings_collect();
    builder->profile->symbols = symbolizer_open();
  }
  if (!builder->profile || !builder->profile->mappings || !builder->profile->symbols) {
    builder->failed = true;
    profile_builder_finish(builder);
    return NULL;
  }
  return builder;
}

struct profile *profile_builder_profile(struct profile_builder *builder) {
  return builder->profile;
}

struct location_key {
  const struct profile_builder *builder;
  const struct mapping *map;
  uint64_t address;
  const char *marker;
};

static bool location_equal(const void *context, uint32_t position) {
  const struct location_key *key = context;
  const struct profile_location *location =
      (const struct profile_location *)key->builder->locations.items + position;
  return location->address == key->address && location->map == key->map &&
         !location->marker == !key->marker;
}

/* Of an own frame the function that the program has called: of those inlined there the outermost.
 * NULL: out of memory. */
static const struct symbol_location *own_symbol(struct profile_builder *builder,
                                                const struct symbol_location *found) {
  if (found->frame_count == 0) return found;
  struct symbol_location *own = profile_alloc(builder->profile, sizeof *own + sizeof *own->frames);
  if (!own) return NULL;
  own->symbol_start = found->symbol_start;
  own->frame_count = 1;
  own->frames[0] = found->frames[found->frame_count - 1];
  const char *name = own_frame_public_name(own->frames[0].system_name);
  if (name) own->frames[0].function = own->frames[0].system_name = name;
  return own;
}

/* False: out of memory, or nobody wants the profile any more. */
static bool name_location(struct profile_builder *builder, struct profile_location *location) {
  location->symbol =
      symbolizer_resolve(builder->profile->symbols, location->map, location->address);
  if (symbolizer_given_up(builder->profile->symbols)) return false;
  if (own_frame_is(location->address, location->symbol))
    location->symbol = own_symbol(builder, location->symbol);
  return location->symbol != NULL;
}

/* INDEX_TABLE_NONE: out of memory, or nobody wants the profile any more. */
static uint32_t location_of(struct profile_builder *builder, uint64_t frame, uint32_t epoch) {
  struct location_key key = {.builder = builder};
  if (frame < STACK_MARKER_LIMIT) {
    key.address = frame;
    key.marker = marker_text(frame);
  } else {
    key.address = frame - 1;
    key.map = mappings_find(builder->profile->mappings, key.address, epoch);
  }
  uint64_t hash = hash_mix(hash_mix(key.address, (uintptr_t)key.map), key.marker != NULL);
  uint32_t found = index_table_find(&builder->location_index, hash, location_equal, &key);
  if (found != INDEX_TABLE_NONE) return found;
  uint32_t position = builder->locations.count;
  struct profile_location *location = append(&builder->locations, sizeof *location);
  if (!location || !index_table_add(&builder->location_index, hash, position))
    return INDEX_TABLE_NONE;
  location->address = key.address;
  location->map = key.map;
  location->marker = stack_marker_is_missing(frame) ? missing_text(builder, frame) : key.marker;
  if (key.marker) return position;
  if (builder->names == NAMES_ALL ||
      (builder->names == NAMES_OF_PROGRAM && key.map == builder->profile->mappings->items))
    return name_location(builder, location) ? position : INDEX_TABLE_NONE;
  location->symbol = symbolizer_resolve(NULL, NULL, 0);
  builder->profile->lacks_names = true;
  return position;
}

struct frame_key {
  const struct frame_entry *items;
  uint64_t frame;
  uint32_t epoch;
};

static bool frame_equal(const void *context, uint32_t position) {
  const struct frame_key *key = context;
  return key->items[position].frame == key->frame && key->items[position].epoch == key->epoch;
}

static uint32_t cached_location_of(struct profile_builder *builder, uint64_t frame,
                                   uint32_t epoch) {
  struct frame_key key = {builder->frames.items, frame, epoch};
  uint64_t hash = hash_mix(frame, epoch);
  uint32_t found = index_table_find(&builder->frame_index, hash, frame_equal, &key);
  if (found != INDEX_TABLE_NONE) return key.items[found].location;
  uint32_t location = location_of(builder, frame, epoch), position = builder->frames.count;
  if (location == INDEX_TABLE_NONE) return INDEX_TABLE_NONE;
  struct frame_entry *entry = append(&builder->frames, sizeof *entry);
  if (!entry || !index_table_add(&builder->frame_index, hash, position)) return INDEX_TABLE_NONE;
  *entry = (struct frame_entry){frame, epoch, location};
  return location;
}

struct stack_key {
  const struct stack_entry *items;
  const uint32_t *locations;
  uint32_t count, guessed;
};

static bool stack_equal(const void *context, uint32_t position) {
  const struct stack_key *key = context;
  const struct stack_entry *entry = &key->items[position];
  return entry->count == key->count && entry->guessed == key->guessed &&
         memcmp(entry->locations, key->locations, key->count * sizeof *key->locations) == 0;
}

struct id_key {
  const struct id_entry *items;
  uint32_t id;
};

static bool id_equal(const void *context, uint32_t position) {
  const struct id_key *key = context;
  return key->items[position].id == key->id;
}

/* How many frames were found without unwind information. */
static uint32_t guessed_frames(const struct stack_view *stack) {
  uint64_t last = stack->frames[stack->frame_count - 1];
  return stack_marker_is_guess(last) ? (uint32_t)(last - STACK_GUESSED) : 0;
}

/* A frame at which the unwinder found nothing was in no known module then: JIT code, perhaps where
 * a module had been before. Which frames of a guessed stack are of that kind it does not say. */
static uint32_t epoch_of_frame(const struct profile_builder *builder,
                               const struct stack_view *stack, uint32_t i) {
  bool last = i + 1 >= stack->frame_count;
  if (!guessed_frames(stack) && (last || stack->frames[i + 1] != STACK_TRUNCATED_NO_UNWIND))
    return stack->epoch;
  const struct mapping *now =
      mappings_find(builder->profile->mappings, stack->frames[i] - 1, UINT32_MAX);
  return now && now->kind == MAPPING_ANONYMOUS ? UINT32_MAX : stack->epoch;
}

/* Whether a frame of a guessed stack is in nothing that is executed: what was guessed was wrong, or
 * the code is gone. */
static bool is_no_code(const struct profile_builder *builder, uint32_t location) {
  const struct profile_location *found =
      (const struct profile_location *)builder->locations.items + location;
  return !found->marker && !found->map;
}

/* Of own frames that called one another only the outermost stays. */
static uint32_t without_inner_own(const struct profile_builder *builder, uint32_t *locations,
                                  uint32_t count) {
  const struct profile_location *items = builder->locations.items;
  uint32_t kept = 0;
  for (uint32_t i = 0; i < count; i++) {
    const struct profile_location *here = &items[locations[i]], *next = NULL;
    if (i + 1 < count) next = &items[locations[i + 1]];
    bool inner = next && !here->marker && !next->marker &&
                 own_frame_is(here->address, here->symbol) &&
                 own_frame_is(next->address, next->symbol);
    if (!inner) locations[kept++] = locations[i];
  }
  return kept;
}

/* The stack_entry of these frames; INDEX_TABLE_NONE: out of memory. */
static uint32_t stack_of_frames(struct profile_builder *builder, const struct stack_view *view) {
  uint32_t locations[STACK_MOST_FRAMES + 1], guessed = guessed_frames(view), count = 0;
  for (bool cut = false; count < view->frame_count - (guessed > 0) && !cut; count++) {
    locations[count] =
        cached_location_of(builder, view->frames[count], epoch_of_frame(builder, view, count));
    if (locations[count] == INDEX_TABLE_NONE) return INDEX_TABLE_NONE;
    cut = guessed && count > 0 && is_no_code(builder, locations[count]);
    if (cut) locations[count] = cached_location_of(builder, STACK_TRUNCATED_NO_UNWIND, 0);
    if (locations[count] == INDEX_TABLE_NONE) return INDEX_TABLE_NONE;
  }
  count = without_inner_own(builder, locations, count);
  struct stack_key key = {builder->stacks.items, locations, count, guessed};
  size_t size = count * sizeof *locations;
  uint64_t hash = hash_mix(hash_bytes(locations, size), guessed);
  uint32_t found = index_table_find(&builder->stack_index, hash, stack_equal, &key);
  if (found != INDEX_TABLE_NONE) return found;
  uint32_t position = builder->stacks.count;
  struct stack_entry *entry = append(&builder->stacks, sizeof *entry);
  if (!entry || !(entry->locations = profile_alloc(builder->profile, size)))
    return INDEX_TABLE_NONE;
  entry->count = count;
  entry->guessed = guessed;
  memcpy(entry->locations, locations, size);
  return index_table_add(&builder->stack_index, hash, position) ? position : INDEX_TABLE_NONE;
}

/* False: out of memory. *out is INDEX_TABLE_NONE when there is no such stack. */
static bool stack_of(struct profile_builder *builder, const struct profile_stack *stack,
                     uint32_t *out) {
  *out = INDEX_TABLE_NONE;
  struct stack_view view = {stack->frame_count, stack->epoch, stack->frames};
  struct id_key id_key = {builder->ids.items, stack->id};
  uint64_t id_hash = hash_mix(stack->id, 0);
  if (!stack->frames) {
    uint32_t known = index_table_find(&builder->id_index, id_hash, id_equal, &id_key);
    if (known != INDEX_TABLE_NONE) {
      *out = id_key.items[known].stack;
      return true;
    }
    if (!stack_table_read(stack->id, &view)) return true;
  }
  if (view.frame_count == 0) return true;
  if (view.frame_count > STACK_MOST_FRAMES + 1) view.frame_count = STACK_MOST_FRAMES + 1;
  *out = stack_of_frames(builder, &view);
  if (*out == INDEX_TABLE_NONE) return false;
  if (stack->frames) return true;
  uint32_t position = builder->ids.count;
  struct id_entry *entry = append(&builder->ids, sizeof *entry);
  if (!entry || !index_table_add(&builder->id_index, id_hash, position)) return false;
  *entry = (struct id_entry){stack->id, *out};
  return true;
}

struct label_key {
  const struct label_set *items;
  const struct profile_label *labels;
  uint32_t count;
};

static bool label_set_equal(const void *context, uint32_t position) {
  const struct label_key *key = context;
  const struct label_set *set = &key->items[position];
  return set->count == key->count && profile_labels_equal(set->labels, key->labels, key->count);
}

/* INDEX_TABLE_NONE: out of memory. */
static uint32_t label_set_of(struct profile_builder *builder, const struct profile_label *labels,
                             uint32_t count) {
  if (count > PROFILE_MAX_LABELS) count = PROFILE_MAX_LABELS;
  uint64_t hash = profile_labels_hash(labels, count);
  struct label_key key = {builder->label_sets.items, labels, count};
  uint32_t found = index_table_find(&builder->label_index, hash, label_set_equal, &key),
           position = builder->label_sets.count;
  if (found != INDEX_TABLE_NONE) return found;
  struct label_set *set = append(&builder->label_sets, sizeof *set);
  if (!set || !(set->labels = profile_alloc(builder->profile, count * sizeof *labels)))
    return INDEX_TABLE_NONE;
  for (; set->count < count; set->count++) {
    struct profile_label *label = &set->labels[set->count];
    *label = labels[set->count];
    if (!label->text) continue;
    size_t size = strlen(label->text) + 1;
    char *text = profile_alloc(builder->profile, size);
    if (!text) return INDEX_TABLE_NONE;
    label->text = memcpy(text, label->text, size);
  }
  return index_table_add(&builder->label_index, hash, position) ? position : INDEX_TABLE_NONE;
}

struct sample_key {
  const struct sample_entry *items;
  uint32_t stack, label_set;
};

static bool sample_equal(const void *context, uint32_t position) {
  const struct sample_key *key = context;
  return key->items[position].stack == key->stack &&
         key->items[position].label_set == key->label_set;
}

/* NULL: out of memory. */
static struct sample_entry *sample_of(struct profile_builder *builder, uint32_t stack,
                                      uint32_t label_set) {
  struct sample_key key = {builder->samples.items, stack, label_set};
  uint64_t hash = hash_mix(stack, label_set);
  uint32_t found = index_table_find(&builder->sample_index, hash, sample_equal, &key),
           position = builder->samples.count;
  if (found != INDEX_TABLE_NONE) return (struct sample_entry *)builder->samples.items + found;
  struct sample_entry *sample = append(&builder->samples, sizeof *sample);
  if (!sample || !index_table_add(&builder->sample_index, hash, position)) return NULL;
  sample->stack = stack;
  sample->label_set = label_set;
  return sample;
}

/* With one more for a stack that was guessed in part. INDEX_TABLE_NONE: out of memory. */
static uint32_t label_set_of_stack(struct profile_builder *builder, uint32_t stack,
                                   const struct profile_label *labels, uint32_t count) {
  uint32_t guessed = ((const struct stack_entry *)builder->stacks.items)[stack].guessed;
  if (!guessed || count >= PROFILE_MAX_LABELS) return label_set_of(builder, labels, count);
  struct profile_label more[PROFILE_MAX_LABELS];
  for (uint32_t i = 0; i < count; i++) more[i] = labels[i];
  more[count] =
      (struct profile_label){.key = "guessed_frames", .number = guessed, .unit = "frames"};
  return label_set_of(builder, more, count + 1);
}

bool profile_builder_add(struct profile_builder *builder, const struct profile_stack *stack,
                         const struct profile_label *labels, uint32_t label_count,
                         const double *values) {
  uint32_t stack_index = INDEX_TABLE_NONE, label_set = INDEX_TABLE_NONE;
  struct sample_entry *sample = NULL;
  if (!builder->failed && stack_of(builder, stack, &stack_index)) {
    if (stack_index == INDEX_TABLE_NONE) return true;
    label_set = label_set_of_stack(builder, stack_index, labels, label_count);
    if (label_set != INDEX_TABLE_NONE) sample = sample_of(builder, stack_index, label_set);
  }
  if (!sample) {
    builder->failed = true;
    return false;
  }
  for (uint32_t i = 0; i < builder->value_count; i++) sample->values[i] += values[i];
  return true;
}

/* False: out of memory. */
static bool emit_samples(struct profile_builder *builder) {
  struct profile *profile = builder->profile;
  const struct stack_entry *stacks = builder->stacks.items;
  const struct label_set *label_sets = builder->label_sets.items;
  profile->samples = agent_calloc(builder->samples.count + 1, sizeof *profile->samples);
  if (!profile->samples) return false;
  for (uint32_t i = 0; i < builder->samples.count; i++) {
    const struct sample_entry *entry = (const struct sample_entry *)builder->samples.items + i;
    struct profile_sample *sample = &profile->samples[profile->sample_count];
    bool zero = true;
    for (uint32_t v = 0; v < builder->value_count; v++) {
      sample->values[v] = sampling_round(entry->values[v]);
      zero = zero && sample->values[v] == 0;
    }
    if (zero) continue;
    sample->location_count = stacks[entry->stack].count;
    sample->locations = stacks[entry->stack].locations;
    sample->labels = label_sets[entry->label_set].labels;
    sample->label_count = label_sets[entry->label_set].count;
    profile->sample_count++;
  }
  return true;
}

struct profile *profile_builder_finish(struct profile_builder *builder) {
  struct profile *profile = builder->profile;
  if (profile) {
    profile->locations = builder->locations.items;
    profile->location_count = builder->locations.count;
    if (builder->failed || !emit_samples(builder)) {
      profile_release(profile);
      profile = NULL;
    }
  }
  struct index_table *tables[] = {&builder->frame_index, &builder->location_index,
                                  &builder->stack_index, &builder->id_index,
                                  &builder->label_index, &builder->sample_index};
  for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) index_table_release(tables[i]);
  agent_free(builder->frames.items);
  agent_free(builder->stacks.items);
  agent_free(builder->ids.items);
  agent_free(builder->label_sets.items);
  agent_free(builder->samples.items);
  agent_free(builder);
  return profile;
}

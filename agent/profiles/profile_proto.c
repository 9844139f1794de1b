/* struct profile -> gzip'ed profile.proto (profile_emitter.h). */
#include <string.h>

#include "agent/runtime/agent_memory.h"
#include "agent/runtime/growing_array.h"
#include "agent/runtime/index_table.h"
#include "profile.h"
#include "profile_emitter.h"

typedef Perftools__Profiles__Profile profile_message;
typedef Perftools__Profiles__Line line_message;

struct function_key {
  int64_t name, system_name, filename;
};

/* What the locations of one mapping have, for its has_* flags. has_functions promises that every
 * one has a name, so that pprof looks for none itself; where one is missing it may look, in the
 * file or at /symbol. The other flags say that debug information was read: pprof then does not read
 * the same file's again, by which C++ names would lose their scope and inlined frames would go. */
struct mapping_use {
  uint32_t locations, without_function, with_filename, with_line, with_inlines;
};

struct encoder {
  const struct profile *profile;
  struct profile_emitter emitter;
  struct index_table function_index;
  struct function_key *functions;
  uint32_t function_count, function_capacity;
  struct mapping_use *mapping_uses;
  uint64_t *location_ids; /* scratch for one sample or location */
  line_message *lines;
  line_message **line_pointers;
  uint32_t scratch_capacity;
};

static bool emit(struct encoder *encoder, const profile_message *message) {
  return profile_emit(&encoder->emitter, message);
}

static bool reserve_scratch(struct encoder *encoder, uint32_t count) {
  if (count <= encoder->scratch_capacity) return true;
  uint32_t capacity = count < 256 ? 256 : count * 2;
  agent_free(encoder->location_ids);
  agent_free(encoder->lines);
  agent_free(encoder->line_pointers);
  encoder->location_ids = agent_malloc(capacity * sizeof *encoder->location_ids);
  encoder->lines = agent_malloc(capacity * sizeof *encoder->lines);
  encoder->line_pointers = agent_malloc(capacity * sizeof *encoder->line_pointers);
  encoder->scratch_capacity =
      encoder->location_ids && encoder->lines && encoder->line_pointers ? capacity : 0;
  return encoder->scratch_capacity != 0;
}

static bool emit_header(struct encoder *encoder) {
  const struct profile *profile = encoder->profile;
  struct string_table *strings = &encoder->emitter.strings;
  profile_message message = PERFTOOLS__PROFILES__PROFILE__INIT;
  Perftools__Profiles__ValueType types[PROFILE_MAX_VALUES], *type_pointers[PROFILE_MAX_VALUES];
  Perftools__Profiles__ValueType period_type = PERFTOOLS__PROFILES__VALUE_TYPE__INIT;
  int64_t *comments = agent_malloc((profile->comment_count + 1) * sizeof *comments);
  if (!comments) return false;

  for (uint32_t i = 0; i < profile->value_count; i++) {
    perftools__profiles__value_type__init(&types[i]);
    types[i].type = string_table_number(strings, profile->value_types[i].type);
    types[i].unit = string_table_number(strings, profile->value_types[i].unit);
    type_pointers[i] = &types[i];
  }
  period_type.type = string_table_number(strings, profile->period_type.type);
  period_type.unit = string_table_number(strings, profile->period_type.unit);
  for (uint32_t i = 0; i < profile->comment_count; i++)
    comments[i] = string_table_number(strings, profile->comments[i]);

  message.n_sample_type = profile->value_count;
  message.sample_type = type_pointers;
  message.period_type = &period_type;
  message.period = profile->period;
  message.default_sample_type = string_table_number(strings, profile->default_sample_type);
  message.time_nanos = profile->time_nanos;
  message.duration_nanos = profile->duration_nanos;
  message.n_comment = profile->comment_count;
  message.comment = comments;
  bool ok = emit(encoder, &message);
  agent_free(comments);
  return ok;
}

static bool emit_sample(struct encoder *encoder, const struct profile_sample *sample) {
  enum { MAX_LABELS = 8 };
  profile_message message = PERFTOOLS__PROFILES__PROFILE__INIT;
  Perftools__Profiles__Sample out = PERFTOOLS__PROFILES__SAMPLE__INIT, *out_pointer = &out;
  Perftools__Profiles__Label labels[MAX_LABELS], *label_pointers[MAX_LABELS];
  if (!reserve_scratch(encoder, sample->location_count)) return false;
  for (uint32_t i = 0; i < sample->location_count; i++)
    encoder->location_ids[i] = sample->locations[i] + UINT64_C(1);
  out.n_location_id = sample->location_count;
  out.location_id = encoder->location_ids;
  out.n_value = encoder->profile->value_count;
  out.value = (int64_t *)(uintptr_t)sample->values;
  for (uint32_t i = 0; i < sample->label_count && i < MAX_LABELS; i++) {
    const struct profile_label *label = &sample->labels[i];
    if (!label->key || !*label->key) continue; /* readers refuse labels without a key */
    Perftools__Profiles__Label *to = &labels[out.n_label];
    perftools__profiles__label__init(to);
    to->key = string_table_number(&encoder->emitter.strings, label->key);
    if (label->text) {
      to->str = string_table_number(&encoder->emitter.strings, label->text);
    } else {
      to->num = label->number;
      to->num_unit = string_table_number(&encoder->emitter.strings, label->unit);
    }
    label_pointers[out.n_label++] = to;
  }
  out.label = label_pointers;
  message.n_sample = 1;
  message.sample = &out_pointer;
  return emit(encoder, &message);
}

struct function_lookup {
  const struct function_key *items, *key;
};

static bool function_equal(const void *context, uint32_t position) {
  const struct function_lookup *lookup = context;
  return memcmp(&lookup->items[position], lookup->key, sizeof *lookup->key) == 0;
}

/* The function's id, emitting it when it is new; 0: out of memory or the receiver is gone. */
static uint64_t function_id(struct encoder *encoder, const char *name, const char *system_name,
                            const char *filename) {
  struct function_key key = {string_table_number(&encoder->emitter.strings, name),
                             string_table_number(&encoder->emitter.strings, system_name),
                             string_table_number(&encoder->emitter.strings, filename)};
  uint64_t hash =
      hash_mix(hash_mix((uint64_t)key.name, (uint64_t)key.system_name), (uint64_t)key.filename);
  struct function_lookup lookup = {encoder->functions, &key};
  uint32_t found = index_table_find(&encoder->function_index, hash, function_equal, &lookup);
  if (found != INDEX_TABLE_NONE) return found + UINT64_C(1);
  if (!growing_array_reserve(&encoder->functions, encoder->function_count,
                             &encoder->function_capacity, sizeof *encoder->functions) ||
      !index_table_add(&encoder->function_index, hash, encoder->function_count))
    return 0;
  encoder->functions[encoder->function_count++] = key;
  profile_message message = PERFTOOLS__PROFILES__PROFILE__INIT;
  Perftools__Profiles__Function out = PERFTOOLS__PROFILES__FUNCTION__INIT, *out_pointer = &out;
  out.id = encoder->function_count;
  out.name = key.name;
  out.system_name = key.system_name;
  out.filename = key.filename;
  message.n_function = 1;
  message.function = &out_pointer;
  return emit(encoder, &message) ? out.id : 0;
}

static bool add_line(struct encoder *encoder, Perftools__Profiles__Location *location,
                     uint64_t function, uint32_t line) {
  if (function == 0) return false;
  line_message *to = &encoder->lines[location->n_line];
  perftools__profiles__line__init(to);
  to->function_id = function;
  to->line = line;
  encoder->line_pointers[location->n_line++] = to;
  return true;
}

/* pprof demangles, and cuts template arguments and parentheses out of, a name whose system name is
 * the same: C++ names that come from debug information as they are, and our markers, have none. */
static const char *raw_name(const struct symbol_frame *frame) {
  if (!frame->system_name || !frame->function) return frame->system_name;
  return strcmp(frame->system_name, frame->function) == 0 && strpbrk(frame->function, "(<[")
             ? NULL
             : frame->system_name;
}

static bool emit_location(struct encoder *encoder, uint32_t index) {
  const struct profile_location *location = &encoder->profile->locations[index];
  const struct symbol_location *symbol = location->symbol;
  uint32_t frames = symbol ? symbol->frame_count : 0;
  profile_message message = PERFTOOLS__PROFILES__PROFILE__INIT;
  Perftools__Profiles__Location out = PERFTOOLS__PROFILES__LOCATION__INIT, *out_pointer = &out;
  if (!reserve_scratch(encoder, frames + 1)) return false;
  out.id = index + UINT64_C(1);
  out.address = location->marker ? 0 : location->address;
  if (location->map)
    out.mapping_id = (uint64_t)(location->map - encoder->profile->mappings->items) + 1;

  bool named = frames > 0, filed = false, lined = false;
  for (uint32_t i = 0; i < frames; i++) {
    const struct symbol_frame *frame = &symbol->frames[i];
    named = named && frame->function;
    filed = filed || frame->filename;
    lined = lined || frame->line;
    if (!frame->function && !frame->filename) continue;
    if (!add_line(encoder, &out,
                  function_id(encoder, frame->function, raw_name(frame), frame->filename),
                  frame->line))
      return false;
  }
  if (location->marker &&
      !add_line(encoder, &out, function_id(encoder, location->marker, NULL, NULL), 0))
    return false;
  if (location->map) {
    struct mapping_use *use = &encoder->mapping_uses[out.mapping_id - 1];
    use->locations++;
    use->without_function += !named;
    use->with_filename += filed;
    use->with_line += filed && lined;
    use->with_inlines += frames > 1;
  }
  out.line = encoder->line_pointers;
  message.n_location = 1;
  message.location = &out_pointer;
  return emit(encoder, &message);
}

static bool emit_mapping(struct encoder *encoder, size_t index) {
  const struct mapping *map = &encoder->profile->mappings->items[index];
  const struct mapping_use *use = &encoder->mapping_uses[index];
  profile_message message = PERFTOOLS__PROFILES__PROFILE__INIT;
  Perftools__Profiles__Mapping out = PERFTOOLS__PROFILES__MAPPING__INIT, *out_pointer = &out;
  out.id = index + 1;
  out.memory_start = map->start;
  out.memory_limit = map->limit;
  out.file_offset = map->offset;
  /* A name in brackets is one that pprof looks for in no file, and so does not warn about. */
  const char *path = map->kind == MAPPING_ANONYMOUS ? MAPPING_ANONYMOUS_NAME : map->path;
  out.filename = string_table_number(&encoder->emitter.strings, path);
  out.build_id = string_table_number(&encoder->emitter.strings, map->build_id);
  out.has_functions = use->locations > 0 && use->without_function == 0;
  out.has_filenames = use->with_filename > 0;
  out.has_line_numbers = use->with_line > 0;
  out.has_inline_frames = use->with_inlines > 0;
  message.n_mapping = 1;
  message.mapping = &out_pointer;
  return emit(encoder, &message);
}

static bool emit_all(struct encoder *encoder) {
  const struct profile *profile = encoder->profile;
  if (!emit_header(encoder)) return false;
  for (size_t i = 0; i < profile->sample_count; i++)
    if (!emit_sample(encoder, &profile->samples[i])) return false;
  for (size_t i = 0; i < profile->location_count; i++)
    if (!emit_location(encoder, (uint32_t)i)) return false;
  for (size_t i = 0; i < profile->mappings->count; i++)
    if (!emit_mapping(encoder, i)) return false;
  return true;
}

bool profile_encode_proto(const struct profile *profile, struct byte_sink *sink) {
  struct encoder encoder = {.profile = profile};
  encoder.mapping_uses = agent_calloc(profile->mappings->count + 1, sizeof *encoder.mapping_uses);
  bool ok =
      profile_emitter_open(&encoder.emitter, sink) && encoder.mapping_uses && emit_all(&encoder);
  ok = profile_emitter_close(&encoder.emitter, ok);
  index_table_release(&encoder.function_index);
  agent_free(encoder.functions);
  agent_free(encoder.mapping_uses);
  agent_free(encoder.location_ids);
  agent_free(encoder.lines);
  agent_free(encoder.line_pointers);
  return ok;
}

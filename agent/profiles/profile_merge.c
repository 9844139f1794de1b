#include "profile_merge.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "agent/runtime/agent_memory.h"
#include "agent/runtime/growing_array.h"
#include "profile.h"
#include "profile_emitter.h"

enum {
  PLAIN_MAX = 128 << 20, /* bytes of one profile */
  TYPES_MAX = PROFILE_MAX_VALUES,
  COMMENTS_MAX = 1000,
  COMMENT_MAX = 640
};

typedef Perftools__Profiles__Profile profile_message;
typedef Perftools__Profiles__ValueType type_message;

/* Of profile.proto's message Profile. */
enum { SAMPLE_TYPE = 1, SAMPLE, MAPPING, LOCATION, FUNCTION, STRING };

struct profile_merge {
  struct profile_emitter emitter;
  bool failed; /* out of memory, or the receiver is gone */
  uint32_t profiles;
  uint64_t mappings, locations, functions; /* ids given so far */
  uint32_t type_count;
  type_message types[TYPES_MAX]; /* as of the first, in this one's strings */
  type_message period_type;
  int64_t period, default_type, begin, end;
  bool has_duration; /* else all are moments */
  int64_t comments[COMMENTS_MAX];
  uint32_t comment_count;
  char **texts; /* copies that the string table points to */
  uint32_t text_count, text_capacity;
};

/* One profile on its way in. */
struct part {
  struct profile_merge *merge;
  const struct profile_merge_source *source;
  uint8_t *plain;
  size_t size;
  int64_t *strings; /* their numbers in the merged one */
  uint32_t string_count, string_capacity;
  uint64_t mappings, locations, functions; /* how many it has */
  uint64_t mappings_seen, locations_seen, functions_seen;
  uint32_t type_count;
  bool is_checked; /* all of it: from here on it is emitted */
  int64_t pid_key, process_key, process;
};

/* ---- the wire ---- */

struct field {
  uint32_t number;
  uint64_t value; /* of a number */
  const uint8_t *bytes; /* NULL: a number */
  size_t size;
};

static bool read_varint(const uint8_t **at, const uint8_t *end, uint64_t *out) {
  *out = 0;
  for (unsigned shift = 0; shift < 64 && *at < end; shift += 7) {
    uint8_t byte = *(*at)++;
    *out |= (uint64_t)(byte & 0x7f) << shift;
    if (!(byte & 0x80)) return true;
  }
  return false;
}

/* False: it is no such message, or one with fields of fixed width, which the format has none of. */
static bool read_field(const uint8_t **at, const uint8_t *end, struct field *out) {
  enum { VARINT = 0, BYTES = 2 };
  uint64_t key;
  if (!read_varint(at, end, &key) || key >> 3 > UINT32_MAX || !read_varint(at, end, &out->value))
    return false;
  out->number = (uint32_t)(key >> 3);
  out->bytes = NULL;
  if ((key & 7) == VARINT) return true;
  if ((key & 7) != BYTES || out->value > (uint64_t)(end - *at)) return false;
  out->bytes = *at;
  out->size = (size_t)out->value;
  *at += out->size;
  return true;
}

/* Calls it for each field of the profile. False: it is malformed, or one call was false. */
static bool each_field(struct part *part,
                       bool (*take)(struct part *part, const struct field *field)) {
  const uint8_t *at = part->plain, *end = part->plain + part->size;
  struct field field;
  while (at < end)
    if (!read_field(&at, end, &field) || !take(part, &field)) return false;
  return true;
}

/* NULL, or why not. */
static const char *unzip(struct part *part, const void *bytes, size_t size) {
  enum { GZIP = 16 + MAX_WBITS, FIRST = 64 * 1024 };
  z_stream stream = {.next_in = (Bytef *)(uintptr_t)bytes, .avail_in = (uInt)size};
  if (size > UINT32_MAX || inflateInit2(&stream, GZIP) != Z_OK) return "no memory";
  size_t capacity = FIRST;
  int result = Z_OK;
  part->plain = agent_malloc(capacity);
  while (part->plain && result == Z_OK && part->size < PLAIN_MAX) {
    if (part->size == capacity) {
      uint8_t *larger = agent_realloc(part->plain, capacity *= 2);
      if (!larger) break;
      part->plain = larger;
    }
    stream.next_out = part->plain + part->size;
    stream.avail_out = (uInt)(capacity - part->size);
    result = inflate(&stream, Z_NO_FLUSH);
    part->size = capacity - stream.avail_out;
  }
  inflateEnd(&stream);
  if (result == Z_STREAM_END) return NULL;
  if (!part->plain || part->size == capacity) return "no memory for its profile";
  return part->size >= PLAIN_MAX ? "its profile is too large" : "its answer is no whole profile";
}

/* ---- strings ---- */

/* The text's number; the string table keeps texts, so it is given a copy. */
static int64_t number_of(struct profile_merge *merge, const void *bytes, size_t size) {
  struct string_table *strings = &merge->emitter.strings;
  char *copy = growing_array_reserve(&merge->texts, merge->text_count, &merge->text_capacity,
                                     sizeof *merge->texts)
                   ? agent_malloc(size + 1)
                   : NULL;
  if (!copy) return merge->failed = true, 0;
  memcpy(copy, bytes, size);
  copy[size] = 0;
  uint32_t before = strings->count;
  int64_t number = string_table_number(strings, copy);
  if (strings->count == before) agent_free(copy); /* it was there */
  else merge->texts[merge->text_count++] = copy;
  merge->failed = merge->failed || strings->failed;
  return number;
}

static int64_t number_of_text(struct profile_merge *merge, const char *text) {
  return number_of(merge, text, strlen(text));
}

static bool add_string(struct part *part, const struct field *field) {
  if (!growing_array_reserve(&part->strings, part->string_count, &part->string_capacity,
                             sizeof *part->strings))
    return part->merge->failed = true, false;
  part->strings[part->string_count++] = number_of(part->merge, field->bytes, field->size);
  return !part->merge->failed;
}

/* First look: the strings, and how many of the rest there are. */
static bool count_field(struct part *part, const struct field *field) {
  if (!field->bytes) return true;
  switch (field->number) {
    case STRING: return add_string(part, field);
    case MAPPING: part->mappings++; break;
    case LOCATION: part->locations++; break;
    case FUNCTION: part->functions++; break;
  }
  return true;
}

/* From a number in the part's string table to ours. False: it has no such string. */
static bool translate(const struct part *part, int64_t *number) {
  if (*number < 0 || *number >= part->string_count) return false;
  *number = part->strings[*number];
  return true;
}

/* ---- the header ---- */

static bool same_type(const type_message *a, const type_message *b) {
  return a->type == b->type && a->unit == b->unit;
}

static bool translate_type(const struct part *part, type_message *type) {
  return translate(part, &type->type) && translate(part, &type->unit);
}

void profile_merge_comment(struct profile_merge *merge, const char *text) {
  if (merge->comment_count < COMMENTS_MAX)
    merge->comments[merge->comment_count++] = number_of_text(merge, text);
}

/* All fields but the repeated large ones; in our strings from here on. False: malformed, or other
 * types than those before. */
static bool check_header(struct part *part, profile_message *header) {
  const struct profile_merge *merge = part->merge;
  size_t count = header->n_sample_type;
  if (count == 0 || count > TYPES_MAX || (merge->profiles > 0 && count != merge->type_count))
    return false;
  for (size_t i = 0; i < count; i++) {
    if (!translate_type(part, header->sample_type[i])) return false;
    if (merge->profiles > 0 && !same_type(header->sample_type[i], &merge->types[i])) return false;
  }
  for (size_t i = 0; i < header->n_comment; i++)
    if (!translate(part, &header->comment[i])) return false;
  part->type_count = (uint32_t)count;
  return (!header->period_type || translate_type(part, header->period_type)) &&
         translate(part, &header->default_sample_type);
}

/* Not its fields that we do not know: they are the message's, which is freed. */
static type_message type_of(const type_message *type) {
  type_message copy = PERFTOOLS__PROFILES__VALUE_TYPE__INIT;
  copy.type = type->type;
  copy.unit = type->unit;
  return copy;
}

static void take_header(struct part *part, const profile_message *header) {
  struct profile_merge *merge = part->merge;
  int64_t begin = header->time_nanos, end;
  if (__builtin_add_overflow(begin, header->duration_nanos, &end)) end = begin;
  if (merge->profiles == 0) {
    for (uint32_t i = 0; i < part->type_count; i++)
      merge->types[i] = type_of(header->sample_type[i]);
    merge->type_count = part->type_count;
    if (header->period_type) merge->period_type = type_of(header->period_type);
    merge->period = header->period;
    merge->default_type = header->default_sample_type;
    merge->begin = begin;
    merge->end = end;
  }
  merge->has_duration = merge->has_duration || header->duration_nanos;
  if (begin < merge->begin) merge->begin = begin;
  if (end > merge->end) merge->end = end;
  for (size_t i = 0; i < header->n_comment; i++) {
    char text[COMMENT_MAX];
    snprintf(text, sizeof text, "%s %d: %s", part->source->name, part->source->pid,
             merge->emitter.strings.items[header->comment[i]]);
    profile_merge_comment(merge, text);
  }
}

/* The profile without its large fields, unpacked; NULL: malformed, or out of memory. */
static profile_message *read_header(const struct part *part) {
  uint8_t *small = agent_malloc(part->size);
  const uint8_t *at = part->plain, *end = at + part->size, *start = at;
  struct field field;
  size_t used = 0;
  for (; small && at < end; start = at) {
    if (!read_field(&at, end, &field)) break;
    if (field.number >= SAMPLE && field.number <= STRING) continue;
    memcpy(small + used, start, (size_t)(at - start));
    used += (size_t)(at - start);
  }
  profile_message *header =
      small && at == end ? perftools__profiles__profile__unpack(NULL, used, small) : NULL;
  agent_free(small);
  return header;
}

/* ---- the rest ---- */

/* Ids are numbered from 1 in the order of the messages; a reference may be to what comes later. */
static bool is_next(uint64_t id, uint64_t *seen) { return id == ++*seen; }

static bool refer(uint64_t *id, uint64_t count, uint64_t base) {
  if (*id == 0 || *id > count) return false;
  *id += base;
  return true;
}

static bool emit(struct part *part, const profile_message *message) {
  if (part->is_checked && !profile_emit(&part->merge->emitter, message)) part->merge->failed = true;
  return !part->merge->failed;
}

static bool take_mapping(struct part *part, Perftools__Profiles__Mapping *mapping) {
  profile_message message = PERFTOOLS__PROFILES__PROFILE__INIT;
  if (!is_next(mapping->id, &part->mappings_seen) || !translate(part, &mapping->filename) ||
      !translate(part, &mapping->build_id))
    return false;
  mapping->id += part->merge->mappings;
  message.n_mapping = 1;
  message.mapping = &mapping;
  return emit(part, &message);
}

static bool take_function(struct part *part, Perftools__Profiles__Function *function) {
  profile_message message = PERFTOOLS__PROFILES__PROFILE__INIT;
  if (!is_next(function->id, &part->functions_seen) || !translate(part, &function->name) ||
      !translate(part, &function->system_name) || !translate(part, &function->filename))
    return false;
  function->id += part->merge->functions;
  message.n_function = 1;
  message.function = &function;
  return emit(part, &message);
}

static bool take_location(struct part *part, Perftools__Profiles__Location *location) {
  profile_message message = PERFTOOLS__PROFILES__PROFILE__INIT;
  if (!is_next(location->id, &part->locations_seen)) return false;
  if (location->mapping_id && !refer(&location->mapping_id, part->mappings, part->merge->mappings))
    return false;
  for (size_t i = 0; i < location->n_line; i++)
    if (!refer(&location->line[i]->function_id, part->functions, part->merge->functions))
      return false;
  location->id += part->merge->locations;
  message.n_location = 1;
  message.location = &location;
  return emit(part, &message);
}

static bool take_sample(struct part *part, const Perftools__Profiles__Sample *sample) {
  enum { LABELS_MAX = 16 };
  profile_message message = PERFTOOLS__PROFILES__PROFILE__INIT;
  Perftools__Profiles__Label pid = PERFTOOLS__PROFILES__LABEL__INIT,
                             process = PERFTOOLS__PROFILES__LABEL__INIT, *labels[LABELS_MAX + 2];
  if (sample->n_value != part->type_count || sample->n_label > LABELS_MAX) return false;
  for (size_t i = 0; i < sample->n_location_id; i++)
    if (!refer(&sample->location_id[i], part->locations, part->merge->locations)) return false;
  for (size_t i = 0; i < sample->n_label; i++) {
    labels[i] = sample->label[i];
    if (!translate(part, &labels[i]->key) || !translate(part, &labels[i]->str) ||
        !translate(part, &labels[i]->num_unit))
      return false;
  }
  pid.key = part->pid_key;
  pid.num = part->source->pid;
  process.key = part->process_key;
  process.str = part->process;
  Perftools__Profiles__Sample out = *sample, *pointer = &out;
  out.label = labels;
  labels[out.n_label++] = &process;
  labels[out.n_label++] = &pid;
  message.n_sample = 1;
  message.sample = &pointer;
  return emit(part, &message);
}

static bool take_message(struct part *part, uint32_t number, void *message) {
  switch (number) {
    case SAMPLE: return take_sample(part, message);
    case MAPPING: return take_mapping(part, message);
    case LOCATION: return take_location(part, message);
    default: return take_function(part, message);
  }
}

static bool take_field(struct part *part, const struct field *field) {
  const ProtobufCMessageDescriptor *kind = NULL;
  switch (field->bytes ? field->number : 0) {
    case SAMPLE: kind = &perftools__profiles__sample__descriptor; break;
    case MAPPING: kind = &perftools__profiles__mapping__descriptor; break;
    case LOCATION: kind = &perftools__profiles__location__descriptor; break;
    case FUNCTION: kind = &perftools__profiles__function__descriptor; break;
  }
  if (!kind) return true;
  ProtobufCMessage *message = protobuf_c_message_unpack(kind, NULL, field->size, field->bytes);
  bool taken = message && take_message(part, field->number, message);
  if (message) protobuf_c_message_free_unpacked(message, NULL);
  return taken;
}

/* Once to look whether all of it is right, once for good. */
static bool take_rest(struct part *part, bool is_checked) {
  part->is_checked = is_checked;
  part->mappings_seen = part->locations_seen = part->functions_seen = 0;
  return each_field(part, take_field);
}

/* ---- a profile ---- */

static const char *add(struct part *part, const void *bytes, size_t size) {
  struct profile_merge *merge = part->merge;
  const char *fault = unzip(part, bytes, size);
  if (fault) return fault;
  part->pid_key = number_of_text(merge, "pid");
  part->process_key = number_of_text(merge, "process");
  part->process = number_of_text(merge, part->source->name);
  bool whole = each_field(part, count_field) && part->string_count > 0 && part->strings[0] == 0;
  profile_message *header = whole ? read_header(part) : NULL;
  if (!header || !check_header(part, header) || !take_rest(part, false)) {
    fault = merge->failed ? "no memory for its profile" : "its profile is of another form";
  } else {
    take_header(part, header);
    take_rest(part, true);
    merge->profiles++;
    merge->mappings += part->mappings;
    merge->locations += part->locations;
    merge->functions += part->functions;
  }
  if (header) perftools__profiles__profile__free_unpacked(header, NULL);
  return fault;
}

const char *profile_merge_add(struct profile_merge *merge, const void *bytes, size_t size,
                              const struct profile_merge_source *source) {
  struct part part = {.merge = merge, .source = source};
  const char *fault = merge->failed ? "no memory" : add(&part, bytes, size);
  agent_free(part.plain);
  agent_free(part.strings);
  return fault;
}

/* ---- the whole ---- */

struct profile_merge *profile_merge_open(struct byte_sink *sink) {
  struct profile_merge *merge = agent_calloc(1, sizeof *merge);
  if (!merge) return NULL;
  perftools__profiles__value_type__init(&merge->period_type);
  merge->failed = !profile_emitter_open(&merge->emitter, sink);
  return merge;
}

uint32_t profile_merge_count(const struct profile_merge *merge) { return merge->profiles; }

static bool emit_header(struct profile_merge *merge) {
  profile_message message = PERFTOOLS__PROFILES__PROFILE__INIT;
  type_message *types[TYPES_MAX];
  for (uint32_t i = 0; i < merge->type_count; i++) types[i] = &merge->types[i];
  message.n_sample_type = merge->type_count;
  message.sample_type = types;
  message.period_type = &merge->period_type;
  message.period = merge->period;
  message.default_sample_type = merge->default_type;
  message.time_nanos = merge->begin;
  if (merge->has_duration) message.duration_nanos = merge->end - merge->begin;
  message.n_comment = merge->comment_count;
  message.comment = merge->comments;
  return profile_emit(&merge->emitter, &message);
}

bool profile_merge_close(struct profile_merge *merge, bool complete) {
  bool ok = complete && !merge->failed && emit_header(merge);
  ok = profile_emitter_close(&merge->emitter, ok);
  for (uint32_t i = 0; i < merge->text_count; i++) agent_free(merge->texts[i]);
  agent_free(merge->texts);
  agent_free(merge);
  return ok;
}

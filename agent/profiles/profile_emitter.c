#include "profile_emitter.h"

#include "agent/runtime/agent_memory.h"

bool profile_emitter_open(struct profile_emitter *emitter, struct byte_sink *sink) {
  *emitter = (struct profile_emitter){.gzip = gzip_sink_open(sink)};
  return string_table_start(&emitter->strings) && emitter->gzip;
}

bool profile_emit(struct profile_emitter *emitter, const Perftools__Profiles__Profile *message) {
  enum { SMALLEST = 64 * 1024 };
  size_t size = perftools__profiles__profile__get_packed_size(message);
  if (size > emitter->packed_capacity) {
    size_t capacity = size < SMALLEST ? SMALLEST : size * 2;
    uint8_t *packed = agent_realloc(emitter->packed, capacity);
    if (!packed) return false;
    emitter->packed = packed;
    emitter->packed_capacity = capacity;
  }
  perftools__profiles__profile__pack(message, emitter->packed);
  return gzip_sink_write(emitter->gzip, emitter->packed, size);
}

static bool emit_strings(struct profile_emitter *emitter) {
  enum { CHUNK = 256 };
  const struct string_table *strings = &emitter->strings;
  if (strings->failed) return false;
  for (uint32_t i = 0; i < strings->count; i += CHUNK) {
    Perftools__Profiles__Profile message = PERFTOOLS__PROFILES__PROFILE__INIT;
    message.n_string_table = strings->count - i < CHUNK ? strings->count - i : CHUNK;
    message.string_table = strings->items + i;
    if (!profile_emit(emitter, &message)) return false;
  }
  return true;
}

bool profile_emitter_close(struct profile_emitter *emitter, bool complete) {
  bool ok = complete && emit_strings(emitter);
  if (emitter->gzip) ok = gzip_sink_close(emitter->gzip, ok) && ok;
  string_table_release(&emitter->strings);
  agent_free(emitter->packed);
  *emitter = (struct profile_emitter){0};
  return ok;
}

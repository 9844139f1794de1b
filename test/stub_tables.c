#include "stub_tables.h"

#include <stdlib.h>
#include <string.h>

#include "agent/runtime/agent_status.h"
#include "agent/runtime/agent_thread.h"
#include "shim/base/config.h"
#include "shim/base/dump_config.h"
#include "shim/base/counters.h"
#include "shim/allocation/heap_peak.h"
#include "shim/allocation/heap_status.h"
#include "shim/allocation/mmap_ranges.h"
#include "shim/allocation/mmap_table.h"
#include "shim/locks/lock_status.h"
#include "shim/stacks/module_registry.h"

struct stub_tables stub;
struct config config = {.address = "127.0.0.1:6060",
                        .memprofile_rate = 524288,
                        .blockprofile_rate = 100000,
                        .mutexprofile_fraction = 10,
                        .cpuprofile_rate = 100};
struct dump_config dump_config;
struct shim_counters shim_counters;

/* shim/allocation/heap_table.h, shim/allocation/heap_status.h */
uint32_t heap_bucket_count(void) { return stub.bucket_count; }
bool heap_bucket_read(uint32_t index, struct heap_bucket_view *out) {
  if (index == 0 || index > stub.bucket_count) return false;
  *out = stub.buckets[index - 1];
  return true;
}
uint32_t heap_bucket_limit(void) { return 1u << 20; }
uint64_t heap_live_count(void) { return 7; }
uint64_t heap_live_limit(void) { return 1u << 22; }
uint64_t heap_table_bytes(void) { return 1u << 20; }
uint64_t heap_recorded_since(void) { return stub.recorded_since; }
const char *heap_off_reason(void) { return stub.heap_off_reason; }
const char *heap_allocator_path(void) { return "/usr/lib/libjemalloc.so.2"; }

/* shim/allocation/mmap_table.h, mmap_ranges.h: nothing is mapped */
_Atomic uint32_t mmap_range_count;
uint32_t mmap_table_count(void) { return 0; }
bool mmap_table_read(uint32_t number, struct mmap_bucket_view *out) {
  (void)number, (void)out;
  return false;
}
uint32_t mmap_table_limit(void) { return 1u << 17; }
uint64_t mmap_table_bytes(void) { return 0; }
bool mmap_ranges_next(struct mmap_cursor *cursor, struct mmap_range *out) {
  (void)cursor, (void)out;
  return false;
}
uint64_t mmap_ranges_mapped(void) { return 0; }
uint64_t mmap_ranges_limit(void) { return 1u << 16; }
uint64_t mmap_ranges_bytes(void) { return 0; }
const char *mmap_off_reason(void) { return stub.heap_off_reason; }

/* shim/allocation/live_table.h */
bool live_table_next(struct live_cursor *cursor, struct live_block *out) {
  if (cursor->line >= stub.block_count) return false;
  *out = stub.blocks[cursor->line++];
  return true;
}

/* shim/allocation/heap_peak.h */
struct heap_levels heap_peak_levels(void) {
  return (struct heap_levels){stub.level_now, stub.level_peak};
}
void heap_peak_begin_anew(void) { stub.peaks_begun_anew++; }

/* shim/stacks/stack_table.h */
bool stack_table_read(uint32_t id, struct stack_view *out) {
  if (id == 0 || id > stub.stack_count) return false;
  *out = stub.stacks[id - 1];
  return true;
}
uint32_t stack_table_count(void) { return stub.stack_count; }
uint32_t stack_table_limit(void) { return 1u << 18; }
uint64_t stack_table_limit_bytes(void) { return 1u << 28; }
uint64_t stack_table_bytes(void) { return 1u << 20; }

/* shim/locks/contention_table.h, shim/locks/lock_status.h */
uint32_t contention_table_count(void) { return stub.contention_count; }
bool contention_table_read(uint32_t entry, struct contention_view *out) {
  if (entry == 0 || entry > stub.contention_count) return false;
  *out = stub.contention[entry - 1];
  return out->count > 0 || out->delay > 0;
}
uint32_t contention_table_count_of(enum contention_kind kind) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < stub.contention_count; i++) count += stub.contention[i].kind == kind;
  return count;
}
uint64_t contention_table_bytes(void) { return 1u << 16; }
const char *block_off_reason(void) { return stub.block_off_reason; }
const char *mutex_off_reason(void) { return stub.mutex_off_reason; }
uint32_t lock_waiters_now(void) { return 2; }
uint32_t lock_waiters_places(void) { return 9; }
uint64_t lock_waiters_bytes(void) { return 1u << 17; }

/* shim/stacks/registered_frames.h */
uint32_t registered_frames_count(void) { return 0; }
uint64_t registered_frames_bytes(void) { return 0; }

/* shim/stacks/module_registry.h */
uint32_t module_registry_count(void) { return 3; }
uint64_t module_registry_bytes(void) { return 4096; }

/* agent/runtime/agent_status.h, agent/runtime/agent_thread.h */
const char *agent_status_address(char out[SHARED_TEXT_MAX]) { return (void)out, "127.0.0.1:6060"; }
bool agent_status_was_forked(void) { return false; }
const char *agent_status_descriptor_isolation(void) { return NULL; }
bool civetweb_is_alone(void) { return false; }
const char civetweb_alone_text[] = "";
unsigned agent_thread_count(void) { return 5; }

/* agent/symbols/mappings.h */
struct mappings *mappings_collect(void) {
  struct mappings *set = malloc(sizeof *set);
  set->count = stub.mapping_count;
  set->items = stub.mappings;
  return set;
}
void mappings_release(struct mappings *set) { free(set); }
const struct mapping *mappings_find(const struct mappings *set, uint64_t address, uint32_t epoch) {
  const struct mapping *found = NULL;
  for (size_t i = 0; i < set->count; i++) {
    const struct mapping *map = &set->items[i];
    if (address < map->start || address >= map->limit || map->first_epoch > epoch) continue;
    if (!found || map->first_epoch > found->first_epoch) found = map;
  }
  return found;
}

/* agent/symbols/symbolizer.h: locations live until the session ends */
struct symbolizer_session {
  void **locations;
  size_t count, capacity;
};

struct symbolizer_session *symbolizer_open(void) {
  stub.sessions++;
  return calloc(1, sizeof(struct symbolizer_session));
}

void symbolizer_close(struct symbolizer_session *session) {
  stub.sessions--;
  for (size_t i = 0; i < session->count; i++) free(session->locations[i]);
  free(session->locations);
  free(session);
}

static const struct stub_symbol *find_symbol(uint64_t address) {
  size_t low = 0, high = stub.symbol_count;
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (stub.symbols[middle].end <= address) low = middle + 1;
    else high = middle;
  }
  return low < stub.symbol_count && stub.symbols[low].start <= address ? &stub.symbols[low] : NULL;
}

const struct symbol_location *symbolizer_resolve(struct symbolizer_session *session,
                                                 const struct mapping *map, uint64_t address) {
  const struct stub_symbol *symbol = map ? find_symbol(address) : NULL;
  uint32_t frames = symbol ? symbol->frame_count : 0;
  struct symbol_location *location =
      calloc(1, sizeof *location + frames * sizeof location->frames[0]);
  location->frame_count = frames;
  if (symbol) {
    location->symbol_start = symbol->start;
    memcpy(location->frames, symbol->frames, frames * sizeof location->frames[0]);
  }
  if (session->count == session->capacity) {
    session->capacity = session->capacity ? session->capacity * 2 : 64;
    session->locations = realloc(session->locations, session->capacity * sizeof(void *));
  }
  session->locations[session->count++] = location;
  stub.resolved++;
  return location;
}

void symbolizer_read_counters(struct symbolizer_counters *out) { memset(out, 0, sizeof *out); }
uint64_t symbolizer_cache_bytes(void) { return 0; }
bool symbolizer_given_up(struct symbolizer_session *session) { return session == NULL; }
uint64_t symbol_memory_budget(void) { return 0; }
uint64_t symbol_memory_used(void) { return 0; }
uint64_t symbol_memory_peak(void) { return 0; }

/* byte sinks */
static bool memory_sink_write(struct byte_sink *base, const void *bytes, size_t size) {
  struct memory_sink *sink = (struct memory_sink *)base;
  if (sink->refuse_after && sink->size + size > sink->refuse_after) return false;
  if (sink->size + size + 1 > sink->capacity) {
    sink->capacity = (sink->size + size + 1) * 2;
    sink->bytes = realloc(sink->bytes, sink->capacity);
  }
  memcpy(sink->bytes + sink->size, bytes, size);
  sink->size += size;
  sink->bytes[sink->size] = 0;
  return true;
}

void memory_sink_start(struct memory_sink *sink) {
  *sink = (struct memory_sink){.base = {memory_sink_write}};
}
void memory_sink_release(struct memory_sink *sink) { free(sink->bytes); }

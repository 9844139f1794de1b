#include "symbol_cache.h"

#include <stddef.h>
#include <string.h>

#include "agent/runtime/agent_memory.h"
#include "libbacktrace_region.h"
#include "symbol_memory.h"

enum { FIRST_SLOTS = 1024 };

struct cached_string {
  const char *readable;
  uint32_t hash;
  char text[];
};

struct cached_location {
  const char *owner;
  uint64_t address;
  struct symbol_location location; /* last: ends with its frames */
};

/* Open addressing, at most three quarters full. */
struct table {
  void **slots;
  size_t capacity, count;
};

struct symbol_cache {
  struct region *region;
  struct table strings, locations;
};

struct symbol_cache *symbol_cache_create(uint64_t byte_limit) {
  struct symbol_cache *cache = agent_calloc(1, sizeof *cache);
  if (cache == NULL) return NULL;
  cache->region = region_create(byte_limit);
  if (cache->region == NULL) {
    agent_free(cache);
    return NULL;
  }
  return cache;
}

static uint64_t slot_bytes(const struct symbol_cache *cache) {
  return (cache->strings.capacity + cache->locations.capacity) * sizeof(void *);
}

void symbol_cache_destroy(struct symbol_cache *cache) {
  if (cache == NULL) return;
  region_destroy(cache->region);
  symbol_memory_give(slot_bytes(cache));
  agent_free(cache->strings.slots);
  agent_free(cache->locations.slots);
  agent_free(cache);
}

uint64_t symbol_cache_bytes(const struct symbol_cache *cache) {
  if (cache == NULL) return 0;
  return region_bytes(cache->region) + slot_bytes(cache);
}

static uint64_t mix(uint64_t value) {
  value ^= value >> 31;
  value *= 0x9e3779b97f4a7c15ULL;
  return value ^ value >> 29;
}

static uint32_t hash_text(const char *text, size_t *length) {
  uint64_t hash = 0xcbf29ce484222325ULL;
  const char *at = text;
  for (; *at != '\0'; at++) hash = (hash ^ (unsigned char)*at) * 0x100000001b3ULL;
  *length = (size_t)(at - text);
  return (uint32_t)mix(hash);
}

static uint64_t hash_address(const char *owner, uint64_t address) {
  return mix(mix((uintptr_t)owner) + address);
}

static uint64_t rehash_string(const void *entry) {
  return ((const struct cached_string *)entry)->hash;
}
static uint64_t rehash_location(const void *entry) {
  const struct cached_location *location = entry;
  return hash_address(location->owner, location->address);
}

static bool make_room(struct table *table, uint64_t (*rehash)(const void *)) {
  if (4 * (table->count + 1) <= 3 * table->capacity) return true;
  void **slots;
  size_t capacity = table->capacity == 0 ? FIRST_SLOTS : 2 * table->capacity;
  if (!symbol_memory_take(capacity * sizeof *slots)) return false;
  slots = agent_calloc(capacity, sizeof *slots);
  symbol_memory_give((slots == NULL ? capacity : table->capacity) * sizeof *slots);
  if (slots == NULL) return false;
  for (size_t i = 0; i < table->capacity; i++) {
    if (table->slots[i] == NULL) continue;
    size_t at = rehash(table->slots[i]) & (capacity - 1);
    while (slots[at] != NULL) at = (at + 1) & (capacity - 1);
    slots[at] = table->slots[i];
  }
  agent_free(table->slots);
  table->slots = slots;
  table->capacity = capacity;
  return true;
}

const char *symbol_cache_intern(struct symbol_cache *cache, const char *text) {
  size_t length;
  uint32_t hash = hash_text(text, &length);
  if (!make_room(&cache->strings, rehash_string)) return NULL;
  size_t mask = cache->strings.capacity - 1, at = hash & mask;
  for (; cache->strings.slots[at] != NULL; at = (at + 1) & mask) {
    const struct cached_string *string = cache->strings.slots[at];
    if (string->hash == hash && strcmp(string->text, text) == 0) return string->text;
  }
  struct cached_string *string = region_alloc(cache->region, sizeof *string + length + 1);
  if (string == NULL) return NULL;
  string->readable = NULL;
  string->hash = hash;
  memcpy(string->text, text, length + 1);
  cache->strings.slots[at] = string;
  cache->strings.count++;
  return string->text;
}

static struct cached_string *string_of(const char *name) {
  return (struct cached_string *)(uintptr_t)(name - offsetof(struct cached_string, text));
}

const char *symbol_cache_readable(const char *name) { return string_of(name)->readable; }

void symbol_cache_set_readable(const char *name, const char *readable) {
  string_of(name)->readable = readable;
}

const struct symbol_location *symbol_cache_find(const struct symbol_cache *cache, const char *owner,
                                                uint64_t address) {
  if (cache->locations.capacity == 0) return NULL;
  size_t mask = cache->locations.capacity - 1;
  for (size_t at = hash_address(owner, address) & mask; cache->locations.slots[at] != NULL;
       at = (at + 1) & mask) {
    const struct cached_location *location = cache->locations.slots[at];
    if (location->address == address && location->owner == owner) return &location->location;
  }
  return NULL;
}

const struct symbol_location *symbol_cache_add(struct symbol_cache *cache, const char *owner,
                                               uint64_t address, uint64_t symbol_start,
                                               const struct symbol_frame *frames,
                                               uint32_t frame_count) {
  if (!make_room(&cache->locations, rehash_location)) return NULL;
  struct cached_location *location =
      region_alloc(cache->region, sizeof *location + frame_count * sizeof *frames);
  if (location == NULL) return NULL;
  location->owner = owner;
  location->address = address;
  location->location.symbol_start = symbol_start;
  location->location.frame_count = frame_count;
  if (frame_count > 0) memcpy(location->location.frames, frames, frame_count * sizeof *frames);
  size_t mask = cache->locations.capacity - 1, at = hash_address(owner, address) & mask;
  while (cache->locations.slots[at] != NULL) at = (at + 1) & mask;
  cache->locations.slots[at] = location;
  cache->locations.count++;
  return &location->location;
}

#include "index_table.h"

#include <string.h>

#include "agent_memory.h"

static uint32_t fold(uint64_t hash) { return (uint32_t)(hash ^ (hash >> 32)); }

uint32_t index_table_find(const struct index_table *table, uint64_t hash,
                          bool (*equal)(const void *context, uint32_t position),
                          const void *context) {
  if (table->capacity == 0) return INDEX_TABLE_NONE;
  uint32_t h = fold(hash), mask = table->capacity - 1;
  for (uint32_t i = h & mask;; i = (i + 1) & mask) { /* ends: at most 3 of 4 slots are taken */
    const struct index_slot *slot = &table->slots[i];
    if (slot->position == INDEX_TABLE_NONE) return INDEX_TABLE_NONE;
    if (slot->hash == h && equal(context, slot->position)) return slot->position;
  }
}

static void place(struct index_slot *slots, uint32_t mask, struct index_slot item) {
  uint32_t i = item.hash & mask;
  while (slots[i].position != INDEX_TABLE_NONE) i = (i + 1) & mask;
  slots[i] = item;
}

static bool grow(struct index_table *table) {
  uint32_t capacity = table->capacity ? table->capacity * 2 : 64;
  if (capacity < table->capacity) return false;
  struct index_slot *slots = agent_malloc(capacity * sizeof *slots);
  if (!slots) return false;
  memset(slots, 0xff, capacity * sizeof *slots); /* position = INDEX_TABLE_NONE */
  for (uint32_t i = 0; i < table->capacity; i++)
    if (table->slots[i].position != INDEX_TABLE_NONE) place(slots, capacity - 1, table->slots[i]);
  agent_free(table->slots);
  table->slots = slots;
  table->capacity = capacity;
  return true;
}

bool index_table_add(struct index_table *table, uint64_t hash, uint32_t position) {
  if (table->count >= table->capacity / 4 * 3 && !grow(table)) return false;
  place(table->slots, table->capacity - 1, (struct index_slot){fold(hash), position});
  table->count++;
  return true;
}

void index_table_release(struct index_table *table) {
  agent_free(table->slots);
  *table = (struct index_table){0};
}

uint64_t hash_bytes(const void *bytes, size_t size) {
  const unsigned char *p = bytes;
  uint64_t h = size;
  for (; size >= 8; p += 8, size -= 8) {
    uint64_t word;
    memcpy(&word, p, 8);
    h = hash_mix(h, word);
  }
  uint64_t rest = 0;
  memcpy(&rest, p, size);
  return hash_mix(h, rest);
}

/* A hash index over items that live in an array of the caller's: it stores (hash, position) pairs
 * and compares through a callback. Context: agent threads; locks: none (one owner). */
#ifndef AGENT_INDEX_TABLE_H
#define AGENT_INDEX_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { INDEX_TABLE_NONE = UINT32_MAX };

struct index_slot {
  uint32_t hash;
  uint32_t position; /* INDEX_TABLE_NONE: free */
};

struct index_table {
  struct index_slot *slots;
  uint32_t capacity, count; /* capacity is a power of two, or 0 before the first insertion */
};

/* The position for which equal(context, position) holds, or INDEX_TABLE_NONE. */
uint32_t index_table_find(const struct index_table *table, uint64_t hash,
                          bool (*equal)(const void *context, uint32_t position),
                          const void *context);
/* Adds a position that index_table_find did not find. False: out of memory. */
bool index_table_add(struct index_table *table, uint64_t hash, uint32_t position);
void index_table_release(struct index_table *table);

/* Hashes for its users. */
uint64_t hash_bytes(const void *bytes, size_t size);
static inline uint64_t hash_mix(uint64_t a, uint64_t b) {
  uint64_t h = (a ^ (b + 0x9e3779b97f4a7c15u)) * 0xff51afd7ed558ccdu;
  h ^= h >> 32;
  h *= 0xc4ceb9fe1a85ec53u;
  return h ^ (h >> 29);
}

#endif

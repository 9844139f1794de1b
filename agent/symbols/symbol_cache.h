/* What addresses have been found to mean, with every string stored once.
 *
 * Nothing is ever removed: the whole cache is dropped (symbol_cache_destroy) by its owner, when
 * nobody uses its contents. Context: agent threads; locks: the owner's.
 */
#ifndef AGENT_SYMBOL_CACHE_H
#define AGENT_SYMBOL_CACHE_H

#include <stdbool.h>

#include "symbolizer.h"

struct symbol_cache;

struct symbol_cache *symbol_cache_create(uint64_t byte_limit);
void symbol_cache_destroy(struct symbol_cache *cache);
uint64_t symbol_cache_bytes(const struct symbol_cache *cache);

/* The one copy of that text, or NULL when memory is out. */
const char *symbol_cache_intern(struct symbol_cache *cache, const char *text);

/* What an interned name reads as, itself interned; NULL: that has not been said yet. */
const char *symbol_cache_readable(const char *name);
void symbol_cache_set_readable(const char *name, const char *readable);

/* owner: an interned string that says whose address it is. */
const struct symbol_location *symbol_cache_find(const struct symbol_cache *cache, const char *owner,
                                                uint64_t address);
/* Keeps a copy of the frames, whose strings must be interned here. NULL: memory is out. */
const struct symbol_location *symbol_cache_add(struct symbol_cache *cache, const char *owner,
                                               uint64_t address, uint64_t symbol_start,
                                               const struct symbol_frame *frames,
                                               uint32_t frame_count);

#endif

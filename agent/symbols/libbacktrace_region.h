/* A region: memory that is taken piece by piece, bounded, and given back whole. Everything that is
 * read from one object file (its symbols, its debug information, libbacktrace's tables) lies in one
 * or two, so a huge or malformed file ends at its own limit, or at that of all (symbol_memory.h).
 * Context: agent threads; locks: none (one owner a region).
 */
#ifndef AGENT_LIBBACKTRACE_REGION_H
#define AGENT_LIBBACKTRACE_REGION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct region;
struct backtrace_state;

struct region *region_create(uint64_t byte_limit);
void region_destroy(struct region *region);
void region_empty(struct region *region);
/* The same, but one block may stay for what comes next. */
void region_rewind(struct region *region);
/* Where libbacktrace puts what may be read again. */
void region_set_details(struct region *region, struct region *details);

/* Aligned to 16 bytes; small blocks are zeroed. NULL when the limit is reached or memory is out;
 * region_exhausted tells so later. */
void *region_alloc(struct region *region, size_t size);
/* Gives the block back if it was large or the latest one; otherwise it waits for region_destroy. */
void region_free(struct region *region, void *block, size_t size);
bool region_exhausted(const struct region *region);
uint64_t region_bytes(const struct region *region);

/* A libbacktrace state whose memory is this region. */
struct backtrace_state *region_backtrace_state(struct region *region);

#endif

/* libbacktrace's memory interface (internal.h) over regions, in place of its alloc.c and mmap.c:
 * nothing of the host's allocator, a limit for each file, and all of it given back when the session
 * ends. */
#include "libbacktrace_region.h"

#include <string.h>
#include <sys/types.h>

#include "agent/runtime/agent_memory.h"
#include "symbol_memory.h"

/* from libbacktrace */
#include "backtrace.h"
#include "internal.h"

enum {
  REGION_CHUNK = 1 << 20, /* small blocks are cut from chunks of this size */
  REGION_FIRST_CHUNK =
      1 << 14, /* most files need little: the first chunk is small, each next one larger */
  REGION_LARGE = 1 << 17, /* larger blocks get a chunk of their own, which region_free can return */
  REGION_ALIGNMENT = 16,
  DETAILS_BETWEEN_UNITS = 1 << 20
};

struct region_chunk {
  struct region_chunk *next, *previous;
  size_t size, used; /* bytes after this header */
  _Alignas(REGION_ALIGNMENT) unsigned char bytes[];
};

struct region {
  struct backtrace_state state; /* first: region_of() */
  struct region_chunk *small; /* the chunk that is being filled, then older ones */
  struct region_chunk *large;
  size_t next_chunk;
  uint64_t bytes, limit;
  bool exhausted;
  struct region *details; /* for what may be read again; NULL: this one */
};

static struct region *region_of(struct backtrace_state *state) {
  return (struct region *)(void *)state;
}

struct region *region_create(uint64_t byte_limit) {
  struct region *region = agent_calloc(1, sizeof *region);
  if (region == NULL) return NULL;
  region->limit = byte_limit;
  region->next_chunk = REGION_FIRST_CHUNK;
  return region;
}

static void free_chunk(struct region_chunk *chunk) {
  symbol_memory_give(sizeof *chunk + chunk->size);
  agent_free(chunk);
}

static void free_chunks(struct region_chunk *chunk) {
  while (chunk != NULL) {
    struct region_chunk *next = chunk->next;
    free_chunk(chunk);
    chunk = next;
  }
}

void region_empty(struct region *region) {
  free_chunks(region->small);
  free_chunks(region->large);
  region->small = region->large = NULL;
  region->next_chunk = REGION_FIRST_CHUNK;
  region->bytes = 0;
  region->exhausted = false;
}

void region_rewind(struct region *region) {
  struct region_chunk *chunk = region->small;
  if (region->large != NULL || region->exhausted || (chunk != NULL && chunk->next != NULL))
    region_empty(region);
  else if (chunk != NULL) chunk->used = 0;
}

void region_destroy(struct region *region) {
  if (region == NULL) return;
  region_empty(region);
  agent_free(region);
}

void region_set_details(struct region *region, struct region *details) {
  region->details = details;
}

static struct region_chunk *add_chunk(struct region *region, struct region_chunk **list,
                                      size_t size) {
  struct region_chunk *chunk = NULL;
  bool taken = size <= region->limit - region->bytes && symbol_memory_take(sizeof *chunk + size);
  if (taken) chunk = agent_malloc(sizeof *chunk + size);
  if (chunk == NULL) {
    if (taken) symbol_memory_give(sizeof *chunk + size);
    region->exhausted = true;
    return NULL;
  }
  region->bytes += size;
  chunk->size = size;
  chunk->used = 0;
  chunk->previous = NULL;
  chunk->next = *list;
  if (*list != NULL) (*list)->previous = chunk;
  *list = chunk;
  return chunk;
}

void *region_alloc(struct region *region, size_t size) {
  if (size > region->limit) {
    region->exhausted = true;
    return NULL;
  }
  size = (size + REGION_ALIGNMENT - 1) & ~(size_t)(REGION_ALIGNMENT - 1);
  if (size == 0) size = REGION_ALIGNMENT;
#ifdef REGION_SEPARATE_BLOCKS /* fuzzing: a block of its own for each request, so that the address \
                                 sanitizer sees its end */
  struct region_chunk *own = add_chunk(region, &region->large, size);
  if (own == NULL) return NULL;
  memset(own->bytes, 0, size);
  return own->bytes;
#else
  if (size >= REGION_LARGE) {
    struct region_chunk *own = add_chunk(region, &region->large, size);
    return own == NULL ? NULL : own->bytes;
  }
  struct region_chunk *chunk = region->small;
  if (chunk == NULL || chunk->size - chunk->used < size) {
    size_t wanted = region->next_chunk, left = (size_t)(region->limit - region->bytes);
    if (wanted > left) wanted = left;
    if (wanted < size) wanted = size;
    chunk = add_chunk(region, &region->small, wanted);
    if (chunk == NULL) return NULL;
    if (region->next_chunk < REGION_CHUNK) region->next_chunk *= 4;
    if (region->next_chunk > REGION_CHUNK) region->next_chunk = REGION_CHUNK;
  }
  void *block = chunk->bytes + chunk->used;
  chunk->used += size;
  memset(block, 0, size);
  return block;
#endif
}

static struct region_chunk *large_chunk_of(void *block) {
  return (struct region_chunk *)(void *)((unsigned char *)block -
                                         offsetof(struct region_chunk, bytes));
}

void region_free(struct region *region, void *block, size_t size) {
  if (block == NULL) return;
  size = (size + REGION_ALIGNMENT - 1) & ~(size_t)(REGION_ALIGNMENT - 1);
  if (size == 0) size = REGION_ALIGNMENT;
#ifdef REGION_SEPARATE_BLOCKS
  bool own_chunk = true;
#else
  bool own_chunk = size >= REGION_LARGE;
#endif
  if (own_chunk) {
    struct region_chunk *chunk = large_chunk_of(block);
    if (chunk->size != size) return; /* a vector gives back a part of its block */
    if (chunk->next != NULL) chunk->next->previous = chunk->previous;
    if (chunk->previous != NULL) chunk->previous->next = chunk->next;
    else region->large = chunk->next;
    region->bytes -= size;
    free_chunk(chunk);
    return;
  }
  struct region_chunk *chunk = region->small;
  if (chunk != NULL && (unsigned char *)block + size == chunk->bytes + chunk->used &&
      size <= chunk->used)
    chunk->used -= size;
}

bool region_exhausted(const struct region *region) { return region->exhausted; }
uint64_t region_bytes(const struct region *region) { return region->bytes; }
struct backtrace_state *region_backtrace_state(struct region *region) {
  return &region->state;
}

/* Called by libbacktrace. */
struct backtrace_state *backtrace_details(struct backtrace_state *state) {
  struct region *details = region_of(state)->details;
  return details == NULL ? state : &details->state;
}

/* Called by libbacktrace. */
int backtrace_details_forget(struct backtrace_state *state) {
  struct region *details = region_of(state)->details;
  if (details == NULL || details->bytes < DETAILS_BETWEEN_UNITS) return 0;
  region_empty(details);
  return 1;
}

void *backtrace_alloc(struct backtrace_state *state, size_t size,
                      backtrace_error_callback error_callback, void *data) {
  void *block = region_alloc(region_of(state), size);
  if (block == NULL && error_callback != NULL) error_callback(data, "no memory", 0);
  return block;
}

void backtrace_free(struct backtrace_state *state, void *block, size_t size,
                    backtrace_error_callback error_callback, void *data) {
  (void)error_callback;
  (void)data;
  region_free(region_of(state), block, size);
}

void *backtrace_vector_grow(struct backtrace_state *state, size_t size,
                            backtrace_error_callback error_callback, void *data,
                            struct backtrace_vector *vector) {
  if (size > vector->alc) {
    size_t capacity = vector->size == 0 ? 16 * size : 2 * vector->size;
    if (capacity < vector->size + size) capacity = vector->size + size;
    void *base = backtrace_alloc(state, capacity, error_callback, data);
    if (base == NULL) return NULL;
    if (vector->size > 0) {
      memcpy(base, vector->base, vector->size);
      region_free(region_of(state), vector->base, vector->size + vector->alc);
    }
    vector->base = base;
    vector->alc = capacity - vector->size;
  }
  void *grown = (char *)vector->base + vector->size;
  vector->size += size;
  vector->alc -= size;
  return grown;
}

/* Finished entries stay where they are; the spare rest of their block is not worth tracking. */
void *backtrace_vector_finish(struct backtrace_state *state, struct backtrace_vector *vector,
                              backtrace_error_callback error_callback, void *data) {
  (void)state;
  (void)error_callback;
  (void)data;
  void *finished = vector->base;
  vector->base = NULL;
  vector->size = 0;
  vector->alc = 0;
  return finished;
}

int backtrace_vector_release(struct backtrace_state *state, struct backtrace_vector *vector,
                             backtrace_error_callback error_callback, void *data) {
  (void)error_callback;
  (void)data;
  if (vector->size == 0) {
    region_free(region_of(state), vector->base, vector->alc);
    vector->base = NULL;
  }
  vector->alc = 0;
  return 1;
}

/* elf.c's reading side is not used (agent/symbols/elf_file.c reads, checks and decompresses): these
 * only let its xz decoder link. */
int backtrace_open(const char *filename, backtrace_error_callback error_callback, void *data,
                   int *does_not_exist) {
  (void)filename;
  (void)error_callback;
  (void)data;
  if (does_not_exist != NULL) *does_not_exist = 1;
  return -1;
}

int backtrace_close(int descriptor, backtrace_error_callback error_callback, void *data) {
  (void)descriptor;
  (void)error_callback;
  (void)data;
  return 0;
}

int backtrace_get_view(struct backtrace_state *state, int descriptor, off_t offset, uint64_t size,
                       backtrace_error_callback error_callback, void *data,
                       struct backtrace_view *view) {
  (void)state;
  (void)descriptor;
  (void)offset;
  (void)size;
  (void)error_callback;
  (void)data;
  memset(view, 0, sizeof *view);
  return 0;
}

void backtrace_release_view(struct backtrace_state *state, struct backtrace_view *view,
                            backtrace_error_callback error_callback, void *data) {
  (void)state;
  (void)error_callback;
  (void)data;
  (void)view;
}

void backtrace_syminfo_to_full_callback(void *data, uintptr_t pc, const char *name, uintptr_t value,
                                        uintptr_t size) {
  (void)data;
  (void)pc;
  (void)name;
  (void)value;
  (void)size;
}

void backtrace_syminfo_to_full_error_callback(void *data, const char *message, int number) {
  (void)data;
  (void)message;
  (void)number;
}

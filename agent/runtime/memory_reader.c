#include "memory_reader.h"

#include <string.h>

#include "agent_memory.h"
#include "own_memory.h"

/* A stack is read upwards and mostly ends within the first block; code is read in bits of a few
 * bytes, far from one another. */
enum { PAGE = 4096, BLOCK_PAGES = 4, BLOCK_SIZE = PAGE * BLOCK_PAGES, BLOCKS = 8 };

struct block {
  uintptr_t start; /* page-aligned */
  size_t size; /* readable bytes from start; 0: none, or not in use */
  uint64_t used; /* reader->reads when last used */
  uint8_t bytes[BLOCK_SIZE];
};

struct memory_reader {
  uint64_t reads;
  struct block *latest;
  struct block blocks[BLOCKS];
};

struct memory_reader *memory_reader_new(void) {
  struct memory_reader *reader = agent_malloc(sizeof *reader);
  if (reader) {
    reader->reads = 0;
    memory_reader_forget(reader);
  }
  return reader;
}

void memory_reader_release(struct memory_reader *reader) { agent_free(reader); }

void memory_reader_forget(struct memory_reader *reader) {
  reader->latest = &reader->blocks[0];
  for (int i = 0; i < BLOCKS; i++)
    reader->blocks[i].size = reader->blocks[i].start = reader->blocks[i].used = 0;
}

static void fill(struct block *block, uintptr_t start) {
  ssize_t got = own_memory_read(start, block->bytes, BLOCK_SIZE);
  block->start = start;
  block->size = got > 0 ? (size_t)got : 0;
}

/* The block that has the byte at address, or NULL. */
static const struct block *block_at(struct memory_reader *reader, uintptr_t address) {
  reader->reads++;
  if (address - reader->latest->start < reader->latest->size) {
    reader->latest->used = reader->reads;
    return reader->latest;
  }
  struct block *oldest = &reader->blocks[0];
  for (int i = 0; i < BLOCKS; i++) {
    struct block *block = &reader->blocks[i];
    if (address - block->start < block->size) {
      block->used = reader->reads;
      return reader->latest = block;
    }
    if (block->used < oldest->used) oldest = block;
  }
  fill(oldest, address & ~(uintptr_t)(PAGE - 1));
  if (address - oldest->start >= oldest->size) return NULL;
  oldest->used = reader->reads;
  return reader->latest = oldest;
}

bool memory_reader_read(struct memory_reader *reader, uintptr_t address, void *out, size_t size) {
  for (uint8_t *to = out; size > 0;) {
    const struct block *block = block_at(reader, address);
    if (!block) return false;
    size_t there = block->size - (address - block->start), part = there < size ? there : size;
    memcpy(to, block->bytes + (address - block->start), part);
    to += part;
    address += part;
    size -= part;
  }
  return true;
}

bool memory_reader_word(struct memory_reader *reader, uintptr_t address, uintptr_t *value) {
  return memory_reader_read(reader, address, value, sizeof *value);
}

#include "profile.h"

#include <string.h>

#include "agent_memory.h"

enum { BLOCK_BYTES = 64 * 1024, ALIGNMENT = 16 };

struct profile_block {
  struct profile_block *next;
  size_t used, size;
  _Alignas(ALIGNMENT) char bytes[];
};

struct profile *profile_new(const char *name) {
  struct profile *profile = agent_calloc(1, sizeof *profile);
  if (profile) profile->name = name;
  return profile;
}

static struct profile_block *add_block(struct profile *profile, size_t size, bool behind_first) {
  struct profile_block *block = agent_malloc(sizeof *block + size);
  if (!block) return NULL;
  block->used = 0;
  block->size = size;
  struct profile_block **link = behind_first && profile->blocks ? &profile->blocks->next : &profile->blocks;
  block->next = *link;
  *link = block;
  return block;
}

void *profile_alloc(struct profile *profile, size_t size) {
  if (size > SIZE_MAX / 2) return NULL;
  size = (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
  struct profile_block *block = profile->blocks;
  if (!block || block->size - block->used < size) {
    bool large = size > BLOCK_BYTES / 4; /* gets a block of its own; the current block stays in use */
    block = add_block(profile, large ? size : BLOCK_BYTES, large);
    if (!block) return NULL;
  }
  void *out = block->bytes + block->used;
  block->used += size;
  return memset(out, 0, size);
}

void profile_release(struct profile *profile) {
  if (!profile) return;
  if (profile->symbols) symbolizer_close(profile->symbols);
  if (profile->mappings) mappings_release(profile->mappings);
  for (struct profile_block *block = profile->blocks, *next; block; block = next) {
    next = block->next;
    agent_free(block);
  }
  agent_free(profile->samples);
  agent_free(profile->locations);
  agent_free(profile);
}

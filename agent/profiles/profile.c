#include "profile.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "agent/runtime/agent_memory.h"
#include "agent/runtime/agent_thread.h"
#include "agent/runtime/index_table.h"

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
  struct profile_block **link =
      behind_first && profile->blocks ? &profile->blocks->next : &profile->blocks;
  block->next = *link;
  *link = block;
  return block;
}

void *profile_alloc(struct profile *profile, size_t size) {
  if (size > SIZE_MAX / 2) return NULL;
  size = (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
  struct profile_block *block = profile->blocks;
  if (!block || block->size - block->used < size) {
    bool large =
        size > BLOCK_BYTES / 4; /* gets a block of its own; the current block stays in use */
    block = add_block(profile, large ? size : BLOCK_BYTES, large);
    if (!block) return NULL;
  }
  void *out = block->bytes + block->used;
  block->used += size;
  return memset(out, 0, size);
}

void profile_release(struct profile *profile) {
  if (!profile) return;
  profile_release(profile->subtracted);
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

int64_t profile_wall_clock(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

void profile_taken_now(struct profile *profile) {
  profile->time_nanos = profile_wall_clock();
  profile->monotonic_nanos = agent_monotonic_nanoseconds();
}

bool profile_add_comment(struct profile *profile, const char *format, ...) {
  enum { COMMENT_MAX = 512 };
  char text[COMMENT_MAX];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  uint32_t count = profile->comment_count;
  const char **comments = profile_alloc(profile, (count + 1) * sizeof *comments);
  char *copy = profile_alloc(profile, strlen(text) + 1);
  if (!comments || !copy) return false;
  for (uint32_t i = 0; i < count; i++) comments[i] = profile->comments[i];
  comments[count] = strcpy(copy, text);
  profile->comments = comments;
  profile->comment_count = count + 1;
  return true;
}

static bool text_equal(const char *a, const char *b) {
  return a == b || (a && b && strcmp(a, b) == 0);
}

bool profile_labels_equal(const struct profile_label *a, const struct profile_label *b,
                          uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    if (!text_equal(a[i].key, b[i].key) || !text_equal(a[i].text, b[i].text)) return false;
    if (!a[i].text && (a[i].number != b[i].number || !text_equal(a[i].unit, b[i].unit)))
      return false;
  }
  return true;
}

uint64_t profile_labels_hash(const struct profile_label *labels, uint32_t count) {
  uint64_t hash = count;
  for (uint32_t i = 0; i < count; i++)
    hash = hash_mix(hash, labels[i].text ? hash_bytes(labels[i].text, strlen(labels[i].text))
                                         : (uint64_t)labels[i].number);
  return hash;
}

/* What the mmap profile counts, one bucket per (stack, size, rate) of the calls that made anonymous
 * mappings. All counts are of *sampled* calls; mmap_profile.c scales them by sampling_scale(size,
 * rate).
 * Context: host thread, signal; locks: none; may map memory. */
#ifndef SHIM_MMAP_TABLE_H
#define SHIM_MMAP_TABLE_H

#include <stdbool.h>
#include <stdint.h>

struct mmap_bucket_view {
  uint32_t stack; /* id in stack_table.h */
  uint64_t size; /* bytes of one call, in whole pages */
  uint64_t rate; /* mean bytes between samples; <= 1: every call was recorded, no scaling */
  uint64_t allocs; /* sampled calls ever */
  int64_t ranges, bytes; /* what is left of them: ranges of addresses, and their bytes */
};

/* The bucket's number, its call counted; 0: there is no room (counted). */
uint32_t mmap_table_add(uint64_t size, uint64_t rate, uint32_t stack);
/* Of what is mapped of it. */
void mmap_table_change(uint32_t bucket, int ranges, int64_t bytes);

/* Buckets are numbered 1 .. mmap_table_count(), for good. */
uint32_t mmap_table_count(void);
bool mmap_table_read(uint32_t number, struct mmap_bucket_view *out);
uint32_t mmap_table_limit(void);
uint64_t mmap_table_bytes(void);

#endif

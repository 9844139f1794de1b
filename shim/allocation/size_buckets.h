/* Counters by (stack, size, rate): what the heap's table and that of mmap's calls have in common.
 *
 * Buckets are numbered 1 .. size_buckets_count(); numbers are never reused. Context: malloc hook,
 * signal; locks: none; may map memory. */
#ifndef SHIM_SIZE_BUCKETS_H
#define SHIM_SIZE_BUCKETS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shim/base/table_memory.h"

/* The constants are written before the release CAS that publishes the bucket in its chain. allocs
 * is raised (release) by who has found the bucket published; so who reads allocs > 0 (acquire) may
 * read the constants. */
struct size_bucket {
  _Atomic uint64_t allocs;
  uint64_t size, rate;
  uint32_t stack; /* 0: handed out but not yet (or, after a lost race, never) in use */
  uint32_t next; /* bucket number, 0: end */
  _Atomic uint64_t kept[2]; /* the owner's, e.g. frees; 0 at first */
};

struct size_buckets {
  _Atomic uint32_t *chains;
  struct table_memory *memory;
  uint32_t chain_count, limit; /* of buckets */
  _Atomic uint32_t count;
};

#define SIZE_BUCKETS(name, chains_wanted, bucket_limit)              \
  TABLE_MEMORY(name##_memory, TABLE_SEGMENTS_MAX);                   \
  static _Atomic uint32_t name##_chains[chains_wanted];              \
  static struct size_buckets name = {.chains = name##_chains,        \
                                     .memory = &name##_memory,       \
                                     .chain_count = (chains_wanted), \
                                     .limit = (bucket_limit)}

enum size_buckets_fault { SIZE_BUCKETS_OK, SIZE_BUCKETS_FULL, SIZE_BUCKETS_NO_MEMORY };
struct size_bucket_found {
  uint32_t number; /* 0: none, see fault */
  enum size_buckets_fault fault;
  bool rounded; /* its size is not the one that was asked for */
};

/* A server whose sizes are all different would fill any table in time. Once the table is half full
 * sizes are rounded to the nearest of 7 significant bits (error at most 0.8 % of one allocation,
 * none on average), which bounds what a stack can add. */
struct size_bucket_found size_buckets_find(struct size_buckets *buckets, uint64_t size,
                                           uint64_t rate, uint32_t stack);

uint32_t size_buckets_count(const struct size_buckets *buckets);
/* number: 1 .. the count, or any that was found. NULL: not there yet. */
struct size_bucket *size_buckets_at(const struct size_buckets *buckets, uint32_t number);
uint64_t size_buckets_bytes(const struct size_buckets *buckets);

#endif

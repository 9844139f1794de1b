#include "mmap_ranges.h"

#include <stddef.h>

#include "shim/base/confinement.h"
#include "shim/base/counters.h"
#include "shim/base/raw_syscall.h"
#include "shim/base/table_memory.h"

enum { LINE_SLOTS = 8, LEVELS = 4, FIRST_LEVEL_LINES = 64, CLASS_BITS = 6, CLASSES = 48 };
/* A chunk has room for some ranges of its class: fewer chunks to look at, and still one line. */
enum { CHUNK_SHIFT = 2 };
/* key: FREE -> ADDING by an acquire-release CAS; then a key, by the release store of who adds. Who
 * cuts a range takes it by a CAS key -> key | CUTTING, and lets it go by a release store of a key
 * or of FREE. The rest is written by who adds, and the end by who cuts (relaxed: the store of the
 * key publishes it). Nobody needs to wait for one that is added: whoever may unmap it has yet to be
 * told of it. */
enum { KEY_FREE = 0, KEY_ADDING = 1 };
#define CUTTING ((uint64_t)1 << 63)

struct line {
  _Atomic uint64_t keys[LINE_SLOTS]; /* one cache line: what most look at only */
  struct rest {
    _Atomic uintptr_t start, end;
    _Atomic uint32_t bucket;
    uint32_t unused;
  } rests[LINE_SLOTS];
};
_Static_assert(sizeof(struct line) == 256, "four cache lines");

struct slot {
  _Atomic uint64_t *key; /* NULL: none */
  struct rest *rest;
};
static struct slot slot_in(struct line *line, unsigned i) {
  return (struct slot){&line->keys[i], &line->rests[i]};
}

static struct line first_level[FIRST_LEVEL_LINES] __attribute__((aligned(64)));
/* Published by a release CAS; never unmapped. Level 0 is first_level. */
static _Atomic(struct line *) levels[LEVELS];
/* Of each class; raised before a range is published, lowered after it is gone. */
static _Atomic uint32_t class_counts[CLASSES];
_Atomic uint32_t mmap_range_count;
static _Atomic uint64_t mapped;

/* ---- keys and places ---- */

static unsigned class_of(uint64_t size) {
  unsigned bits = 64 - (unsigned)__builtin_clzll(size - 1);
  return bits < MMAP_LEAST_SHIFT ? MMAP_LEAST_SHIFT : bits;
}

static unsigned shift_of(unsigned class) { return class + CHUNK_SHIFT; }
static uint64_t key_of(unsigned class, uint64_t chunk) { return chunk << CLASS_BITS | class; }
static unsigned class_in(uint64_t key) { return key & ((1 << CLASS_BITS) - 1); }

static uint64_t level_lines(uint32_t level) { return (uint64_t)FIRST_LEVEL_LINES << (3 * level); }

/* Stafford's variant 13. */
static uint64_t hash_of(uint64_t key) {
  key = (key ^ key >> 30) * 0xbf58476d1ce4e5b9ull;
  key = (key ^ key >> 27) * 0x94d049bb133111ebull;
  return key ^ key >> 31;
}

/* Other bits for each level. */
static uint64_t place_of(uint64_t hash, uint32_t level) {
  return hash >> (10 * level) & (level_lines(level) - 1);
}

static struct line *level_at(uint32_t level) {
  return level ? atomic_load_explicit(&levels[level], memory_order_acquire) : first_level;
}

static struct line *add_level(uint32_t level) {
  size_t bytes = level_lines(level) * sizeof(struct line);
  struct line *fresh = table_memory_map(bytes), *none = NULL;
  if (!fresh) return NULL;
  if (atomic_compare_exchange_strong_explicit(&levels[level], &none, fresh, memory_order_release,
                                              memory_order_acquire))
    return fresh;
  table_memory_unmap(fresh, bytes); /* another thread was first */
  return none;
}

/* ---- adding ---- */

static struct slot reserve(uint64_t key) {
  uint64_t hash = hash_of(key);
  for (uint32_t level = 0; level < LEVELS; level++) {
    struct line *lines = level_at(level);
    if (!lines && !(lines = add_level(level))) break;
    struct line *line = &lines[place_of(hash, level)];
    for (unsigned i = 0; i < LINE_SLOTS; i++) {
      uint64_t found = atomic_load_explicit(&line->keys[i], memory_order_relaxed);
      if (found == KEY_FREE &&
          atomic_compare_exchange_strong_explicit(&line->keys[i], &found, KEY_ADDING,
                                                  memory_order_acq_rel, memory_order_relaxed))
        return slot_in(line, i);
    }
  }
  return (struct slot){NULL, NULL};
}

static bool add(const struct mmap_range *range) {
  unsigned class = class_of(range->end - range->start);
  uint64_t key = key_of(class, range->start >> shift_of(class));
  struct slot slot = {NULL, NULL};
  if (class < CLASSES) slot = reserve(key);
  if (!slot.key) return false;
  atomic_store_explicit(&slot.rest->start, range->start, memory_order_relaxed);
  atomic_store_explicit(&slot.rest->end, range->end, memory_order_relaxed);
  atomic_store_explicit(&slot.rest->bucket, range->bucket, memory_order_relaxed);
  atomic_fetch_add_explicit(&mmap_range_count, 1, memory_order_relaxed);
  atomic_fetch_add_explicit(&class_counts[class], 1, memory_order_relaxed);
  atomic_store_explicit(slot.key, key, memory_order_release);
  return true;
}

bool mmap_ranges_add(const struct mmap_range *range) {
  if (!add(range)) return false;
  atomic_fetch_add_explicit(&mapped, range->end - range->start, memory_order_relaxed);
  return true;
}

/* ---- cutting ---- */

struct cut {
  uintptr_t start, end;
  mmap_cut_sink *sink;
  void *argument;
};

static void free_slot(_Atomic uint64_t *key, unsigned class) {
  atomic_store_explicit(key, KEY_FREE, memory_order_release);
  atomic_fetch_sub_explicit(&class_counts[class], 1, memory_order_relaxed);
  atomic_fetch_sub_explicit(&mmap_range_count, 1, memory_order_relaxed);
}

/* Acquire: what is read after it is read later, the key above all. */
static struct mmap_range range_in(const struct rest *rest) {
  return (struct mmap_range){atomic_load_explicit(&rest->start, memory_order_acquire),
                             atomic_load_explicit(&rest->end, memory_order_acquire),
                             atomic_load_explicit(&rest->bucket, memory_order_acquire)};
}

static bool overlaps(const struct mmap_range *range, const struct cut *cut) {
  return range->start < cut->end && range->end > cut->start;
}

/* What is left on one side; false: nothing, or there is no room for it. */
static bool keep(uintptr_t start, uintptr_t end, uint32_t bucket) {
  const struct mmap_range rest = {start, end, bucket};
  if (start >= end) return false;
  if (add(&rest)) return true;
  COUNT_LOSS(mmap_lost_ranges);
  return false;
}

/* The slot is taken. What is left gets slots of its own, of a lower class or behind this one,
 * before this one is let go: who waits for this one finds them, as classes are gone through from
 * the highest. */
static void cut_taken(struct slot slot, uint64_t key, const struct cut *cut) {
  const struct mmap_range range = range_in(slot.rest);
  unsigned class = class_in(key);
  if (!overlaps(&range, cut)) {
    atomic_store_explicit(slot.key, key, memory_order_release);
    return;
  }
  bool has_right = keep(cut->end, range.end, range.bucket);
  struct mmap_range gone = {range.start, has_right ? cut->end : range.end, range.bucket};
  bool has_left = range.start < cut->start, stays = false;
  if (has_left) {
    stays = class_of(cut->start - range.start) == class; /* then the key is the same */
    has_left = stays || keep(range.start, cut->start, range.bucket);
  }
  if (has_left) gone.start = cut->start;
  if (stays) {
    atomic_store_explicit(&slot.rest->end, gone.start, memory_order_relaxed);
    atomic_store_explicit(slot.key, key, memory_order_release);
  } else {
    free_slot(slot.key, class);
  }
  atomic_fetch_sub_explicit(&mapped, gone.end - gone.start, memory_order_relaxed);
  cut->sink(cut->argument, &gone, has_left + has_right - 1);
}

/* Somebody else cuts it. False: he does not come to an end (this may be a signal handler that
 * interrupted him, or a forked child without him). */
static bool await(const _Atomic uint64_t *key) {
  enum { LOOKS = 300, NAPS = 10 };
  for (int look = 0; look < LOOKS + NAPS; look++) {
    if (!(atomic_load_explicit(key, memory_order_acquire) & CUTTING)) return true;
    if (look >= LOOKS && !confinement_forbids_calls()) raw_nap();
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
  return false;
}

enum outcome { LOOKED, WAITED, LOST };

/* wanted: the key, or where by_class, the class. */
static inline bool is_wanted(uint64_t key, uint64_t wanted, bool by_class) {
  if (!by_class) return (key & ~CUTTING) == wanted;
  return key > KEY_ADDING && class_in(key) == wanted;
}

static __attribute__((noinline)) enum outcome look_at(struct slot slot, uint64_t wanted,
                                                      bool by_class, const struct cut *cut) {
  for (;;) {
    uint64_t key = atomic_load_explicit(slot.key, memory_order_acquire);
    if (!is_wanted(key, wanted, by_class)) return LOOKED;
    if (key & CUTTING) return await(slot.key) ? WAITED : LOST;
    const struct mmap_range range = range_in(slot.rest);
    if (!overlaps(&range, cut)) return LOOKED;
    if (!atomic_compare_exchange_strong_explicit(slot.key, &key, key | CUTTING,
                                                 memory_order_acq_rel, memory_order_relaxed))
      continue;
    cut_taken(slot, key, cut);
    return LOOKED;
  }
}

static inline enum outcome look_in_line(struct line *line, uint64_t wanted, bool by_class,
                                        const struct cut *cut) {
  enum outcome outcome = LOOKED;
  for (unsigned i = 0; i < LINE_SLOTS; i++) {
    uint64_t key = atomic_load_explicit(&line->keys[i], memory_order_acquire);
    if (__builtin_expect(!is_wanted(key, wanted, by_class), 1)) continue;
    enum outcome one = look_at(slot_in(line, i), wanted, by_class, cut);
    if (one > outcome) outcome = one;
  }
  return outcome;
}

/* All that has this key. */
static enum outcome look_under(uint64_t key, const struct cut *cut) {
  enum outcome outcome = LOOKED;
  uint64_t hash = hash_of(key);
  struct line *lines;
  for (uint32_t level = 0; level < LEVELS && (lines = level_at(level)); level++) {
    enum outcome one = look_in_line(&lines[place_of(hash, level)], key, false, cut);
    if (one > outcome) outcome = one;
  }
  return outcome;
}

static enum outcome look_through(unsigned class, const struct cut *cut) {
  enum outcome outcome = LOOKED;
  struct line *lines;
  for (uint32_t level = 0; level < LEVELS && (lines = level_at(level)); level++)
    for (uint64_t i = 0; i < level_lines(level); i++) {
      enum outcome one = look_in_line(&lines[i], class, true, cut);
      if (one > outcome) outcome = one;
    }
  return outcome;
}

/* Once more where it had to wait: what is left of it may lie where it had looked already. */
static void cut_class(unsigned class, const struct cut *cut) {
  enum { ATTEMPTS = 8, CHUNKS_MAX = 1024 };
  uint64_t first = cut->start >> shift_of(class), last = (cut->end - 1) >> shift_of(class);
  if (first) first--; /* a range that begins there may reach into the next */
  bool all = last - first > CHUNKS_MAX;
  for (uint64_t chunk = first; chunk <= last; chunk++) {
    enum outcome outcome = WAITED;
    for (int attempt = 0; outcome == WAITED && attempt < ATTEMPTS; attempt++)
      outcome = all ? look_through(class, cut) : look_under(key_of(class, chunk), cut);
    if (outcome != LOOKED) COUNT_LOSS(mmap_lost_races);
    if (all) return;
  }
}

void mmap_ranges_cut(uintptr_t start, uintptr_t end, mmap_cut_sink *sink, void *argument) {
  if (!mmap_ranges_any() || end <= start) return;
  const struct cut cut = {start, end, sink, argument};
  for (unsigned class = CLASSES - 1; class >= MMAP_LEAST_SHIFT; class --)
    if (atomic_load_explicit(&class_counts[class], memory_order_relaxed) != 0)
      cut_class(class, &cut);
}

/* ---- for readers ---- */

static bool read_slot(struct slot slot, struct mmap_range *out) {
  uint64_t key = atomic_load_explicit(slot.key, memory_order_acquire);
  if (key <= KEY_ADDING || key & CUTTING) return false;
  *out = range_in(slot.rest);
  return atomic_load_explicit(slot.key, memory_order_relaxed) == key && out->end > out->start;
}

bool mmap_ranges_next(struct mmap_cursor *cursor, struct mmap_range *out) {
  for (; cursor->level < LEVELS; cursor->level++, cursor->slot = 0) {
    struct line *lines = level_at(cursor->level);
    if (!lines) return false;
    while (cursor->slot < level_lines(cursor->level) * LINE_SLOTS) {
      uint32_t slot = cursor->slot++;
      if (read_slot(slot_in(&lines[slot / LINE_SLOTS], slot % LINE_SLOTS), out)) return true;
    }
  }
  return false;
}

uint64_t mmap_ranges_mapped(void) { return atomic_load_explicit(&mapped, memory_order_relaxed); }

uint64_t mmap_ranges_limit(void) {
  uint64_t lines = 0;
  for (uint32_t level = 0; level < LEVELS; level++) lines += level_lines(level);
  return lines * LINE_SLOTS;
}

uint64_t mmap_ranges_bytes(void) {
  uint64_t bytes = sizeof first_level;
  for (uint32_t level = 1; level < LEVELS; level++)
    if (level_at(level)) bytes += level_lines(level) * sizeof(struct line);
  return bytes;
}

#include "mmap_ranges.h"

#include <stddef.h>

#include "shim/base/confinement.h"
#include "shim/base/counters.h"
#include "shim/base/raw_syscall.h"
#include "shim/base/table_memory.h"

enum { LINE_SLOTS = 8, LEVELS = 3, FIRST_LEVEL_LINES = 128, CLASS_BITS = 6, CLASSES = 48 };
enum { LEVEL_SHIFT = 3 }; /* each has so much more than the one before */
/* A chunk has room for some ranges of its class: fewer chunks to look at, and still one line. */
enum { CHUNK_SHIFT = 2 };
/* key: FREE -> ADDING by an acquire-release CAS; then a key, by the release store of who adds. Who
 * cuts a range takes it by a CAS key -> key | CUTTING, and lets it go by a release store of a key
 * or of FREE. The rest is written by who adds, its ends by who cuts (relaxed: the store of the
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

/* Mapped as a whole when the first range is added, by a release CAS, for good: what is mapped in
 * the middle of the program's munmap may lie in the hole that it has just made, and go with it when
 * the program unmaps what is around. (.bss would count in mlockall's limit.) The levels follow each
 * other. */
enum { LINES = FIRST_LEVEL_LINES * (1 + (1 << LEVEL_SHIFT) + (1 << 2 * LEVEL_SHIFT)) };
static _Atomic(struct line *) table;
/* How many have been used; only rises (relaxed: who looks for a range has been told of it). */
static _Atomic uint32_t levels_used;
/* Counts what cuts have left over and put into a place of its own; raised (release) when it lies
 * there, before its old place is let go. */
static _Atomic uint32_t moves;
/* Of each class; raised before a range is published, lowered after it is gone. */
static _Atomic uint32_t class_counts[CLASSES];
_Atomic uint32_t mmap_range_count;
static _Atomic uint64_t mapped;

/* ---- keys and places ---- */

static unsigned class_of(uint64_t size) {
  unsigned bits = 64 - (unsigned)__builtin_clzll(size - 1);
  return bits < MMAP_LEAST_SHIFT ? MMAP_LEAST_SHIFT : bits;
}

static unsigned shift_of(unsigned size_class) { return size_class + CHUNK_SHIFT; }
static uint64_t key_of(unsigned size_class, uint64_t chunk) {
  return chunk << CLASS_BITS | size_class;
}
static unsigned class_in(uint64_t key) { return key & ((1 << CLASS_BITS) - 1); }

static uint64_t level_lines(uint32_t level) {
  return (uint64_t)FIRST_LEVEL_LINES << (LEVEL_SHIFT * level);
}
static struct line *level_at(uint32_t level) {
  static const uint32_t before[LEVELS] = {0, FIRST_LEVEL_LINES,
                                          FIRST_LEVEL_LINES * (1 + (1 << LEVEL_SHIFT))};
  return atomic_load_explicit(&table, memory_order_acquire) + before[level];
}

static bool has_table(void) {
  enum { BYTES = LINES * sizeof(struct line) };
  struct line *none = NULL;
  if (atomic_load_explicit(&table, memory_order_acquire)) return true;
  struct line *fresh = table_memory_map(BYTES);
  if (!fresh) return false;
  if (!atomic_compare_exchange_strong_explicit(&table, &none, fresh, memory_order_release,
                                               memory_order_relaxed))
    table_memory_unmap(fresh, BYTES); /* another thread was first */
  return true;
}

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

static uint32_t levels_in_use(void) {
  return atomic_load_explicit(&levels_used, memory_order_relaxed);
}

static void note_level(uint32_t level) {
  uint32_t used = levels_in_use();
  while (used <= level &&
         !atomic_compare_exchange_weak_explicit(&levels_used, &used, level + 1,
                                                memory_order_relaxed, memory_order_relaxed)) {}
}

static uint64_t lines_in_use(void) {
  uint64_t count = 0;
  for (uint32_t level = 0; level < levels_in_use(); level++) count += level_lines(level);
  return count;
}

/* ---- adding ---- */

/* behind: NULL, or a place that those go past first who look for the key. */
static struct slot reserve(uint64_t key, const _Atomic uint64_t *behind) {
  uint64_t hash = hash_of(key);
  for (uint32_t level = 0; level < LEVELS; level++) {
    struct line *line = &level_at(level)[place_of(hash, level)];
    for (unsigned i = 0; i < LINE_SLOTS; i++) {
      uint64_t found = atomic_load_explicit(&line->keys[i], memory_order_relaxed);
      if (found != KEY_FREE || &line->keys[i] < behind) continue;
      if (!atomic_compare_exchange_strong_explicit(&line->keys[i], &found, KEY_ADDING,
                                                   memory_order_acq_rel, memory_order_relaxed))
        continue;
      note_level(level);
      return slot_in(line, i);
    }
  }
  return (struct slot){NULL, NULL};
}

static uint64_t key_for(const struct mmap_range *range) {
  unsigned size_class = class_of(range->end - range->start);
  return key_of(size_class, range->start >> shift_of(size_class));
}

static bool add(const struct mmap_range *range, const _Atomic uint64_t *behind) {
  uint64_t key = key_for(range);
  struct slot slot = {NULL, NULL};
  if (class_in(key) < CLASSES) slot = reserve(key, behind);
  if (!slot.key) return false;
  atomic_store_explicit(&slot.rest->start, range->start, memory_order_relaxed);
  atomic_store_explicit(&slot.rest->end, range->end, memory_order_relaxed);
  atomic_store_explicit(&slot.rest->bucket, range->bucket, memory_order_relaxed);
  atomic_fetch_add_explicit(&mmap_range_count, 1, memory_order_relaxed);
  atomic_fetch_add_explicit(&class_counts[class_in(key)], 1, memory_order_relaxed);
  atomic_store_explicit(slot.key, key, memory_order_release);
  return true;
}

bool mmap_ranges_add(const struct mmap_range *range) {
  if (!has_table() || !add(range, NULL)) return false;
  atomic_fetch_add_explicit(&mapped, range->end - range->start, memory_order_relaxed);
  return true;
}

/* ---- cutting ---- */

struct cut {
  uintptr_t start, end;
  mmap_cut_sink *sink;
  void *argument;
};

static void free_slot(_Atomic uint64_t *key, unsigned size_class) {
  atomic_store_explicit(key, KEY_FREE, memory_order_release);
  atomic_fetch_sub_explicit(&class_counts[size_class], 1, memory_order_relaxed);
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

/* What is left of a range that lies at `old` under old_key, into a place of its own; false: there
 * is no room. Who waits for `old` comes to it later: it has a lower class, and the highest is
 * looked through first, or lies under the same key behind `old`, or under that of a chunk above. */
static bool move(const struct mmap_range *rest, const _Atomic uint64_t *old, uint64_t old_key) {
  bool has_room = add(rest, key_for(rest) == old_key ? old : NULL);
  if (has_room) atomic_fetch_add_explicit(&moves, 1, memory_order_release);
  else COUNT_LOSS(mmap_lost_ranges);
  return has_room;
}

/* The slot is taken. One of the two sides stays in it, if its key is still the same. */
static void cut_taken(struct slot slot, uint64_t key, const struct cut *cut) {
  const struct mmap_range range = range_in(slot.rest);
  if (!overlaps(&range, cut)) {
    atomic_store_explicit(slot.key, key, memory_order_release);
    return;
  }
  const struct mmap_range left = {range.start, cut->start, range.bucket},
                          right = {cut->end, range.end, range.bucket};
  bool has_left = left.start < left.end, has_right = right.start < right.end;
  bool right_stays = has_right && key_for(&right) == key;
  bool left_stays = has_left && !right_stays && key_for(&left) == key;
  if (has_right && !right_stays) has_right = move(&right, slot.key, key);
  if (has_left && !left_stays) has_left = move(&left, slot.key, key);
  const struct mmap_range gone = {has_left ? left.end : range.start,
                                  has_right ? right.start : range.end, range.bucket};
  if (right_stays) atomic_store_explicit(&slot.rest->start, right.start, memory_order_relaxed);
  if (left_stays) atomic_store_explicit(&slot.rest->end, left.end, memory_order_relaxed);
  if (right_stays || left_stays) atomic_store_explicit(slot.key, key, memory_order_release);
  else free_slot(slot.key, class_in(key));
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

enum { ANY = 0 }; /* all keys */
static inline bool is_wanted(uint64_t key, uint64_t wanted) {
  return wanted == ANY ? key > KEY_ADDING : (key & ~CUTTING) == wanted;
}

static __attribute__((noinline)) enum outcome look_at(struct slot slot, uint64_t wanted,
                                                      const struct cut *cut) {
  for (;;) {
    uint64_t key = atomic_load_explicit(slot.key, memory_order_acquire);
    if (!is_wanted(key, wanted)) return LOOKED;
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

static enum outcome worse(enum outcome a, enum outcome b) { return a > b ? a : b; }

static inline enum outcome look_in_line(struct line *line, uint64_t wanted, const struct cut *cut) {
  enum outcome outcome = LOOKED;
  for (unsigned i = 0; i < LINE_SLOTS; i++) {
    uint64_t key = atomic_load_explicit(&line->keys[i], memory_order_acquire);
    if (__builtin_expect(is_wanted(key, wanted), 0))
      outcome = worse(outcome, look_at(slot_in(line, i), wanted, cut));
  }
  return outcome;
}

/* All that has this key. */
static enum outcome look_under(uint64_t key, const struct cut *cut) {
  enum outcome outcome = LOOKED;
  uint64_t hash = hash_of(key);
  for (uint32_t level = 0; level < levels_in_use(); level++)
    outcome = worse(outcome, look_in_line(&level_at(level)[place_of(hash, level)], key, cut));
  return outcome;
}

/* The chunks of a class in which a range may begin that reaches into the cut. */
struct chunks {
  uint64_t first, last;
};
static struct chunks chunks_of(unsigned size_class, const struct cut *cut) {
  struct chunks chunks = {cut->start >> shift_of(size_class),
                          (cut->end - 1) >> shift_of(size_class)};
  if (chunks.first) chunks.first--;
  return chunks;
}

static bool is_in_use(unsigned size_class) {
  return atomic_load_explicit(&class_counts[size_class], memory_order_relaxed) != 0;
}

/* Once more where it had to wait. */
static enum outcome look_by_keys(const struct cut *cut) {
  enum { ATTEMPTS = 8 };
  enum outcome worst = LOOKED;
  for (unsigned size_class = CLASSES - 1; size_class >= MMAP_LEAST_SHIFT; size_class--) {
    struct chunks chunks = chunks_of(size_class, cut);
    for (uint64_t chunk = chunks.first; is_in_use(size_class) && chunk <= chunks.last; chunk++) {
      enum outcome outcome = WAITED;
      for (int attempt = 0; outcome == WAITED && attempt < ATTEMPTS; attempt++)
        outcome = look_under(key_of(size_class, chunk), cut);
      worst = worse(worst, outcome);
    }
  }
  return worst;
}

/* Once more, too, where something has been moved meanwhile: to where it had looked, perhaps. */
static enum outcome look_everywhere(const struct cut *cut) {
  enum { ATTEMPTS = 4 };
  enum outcome outcome = WAITED;
  for (int attempt = 0; outcome == WAITED && attempt < ATTEMPTS; attempt++) {
    uint32_t before = atomic_load_explicit(&moves, memory_order_acquire);
    uint64_t count = lines_in_use();
    struct line *lines = level_at(0);
    outcome = LOOKED;
    for (uint64_t i = 0; i < count; i++)
      outcome = worse(outcome, look_in_line(&lines[i], ANY, cut));
    if (atomic_load_explicit(&moves, memory_order_acquire) != before)
      outcome = worse(outcome, WAITED);
  }
  return outcome;
}

/* Whether looking everywhere is less. */
static bool has_many_chunks(const struct cut *cut) {
  uint64_t count = 0, most = lines_in_use();
  for (unsigned size_class = MMAP_LEAST_SHIFT; size_class < CLASSES && count <= most;
       size_class++) {
    struct chunks chunks = chunks_of(size_class, cut);
    if (is_in_use(size_class)) count += (chunks.last - chunks.first + 1) * levels_in_use();
  }
  return count > most;
}

void mmap_ranges_cut(uintptr_t start, uintptr_t end, mmap_cut_sink *sink, void *argument) {
  if (!mmap_ranges_any() || end <= start) return;
  const struct cut cut = {start, end, sink, argument};
  if ((has_many_chunks(&cut) ? look_everywhere(&cut) : look_by_keys(&cut)) != LOOKED)
    COUNT_LOSS(mmap_lost_races);
}

/* ---- for readers ---- */

static bool read_slot(struct slot slot, struct mmap_range *out) {
  uint64_t key = atomic_load_explicit(slot.key, memory_order_acquire);
  if (key <= KEY_ADDING || key & CUTTING) return false;
  *out = range_in(slot.rest);
  return atomic_load_explicit(slot.key, memory_order_relaxed) == key && out->end > out->start;
}

bool mmap_ranges_next(struct mmap_cursor *cursor, struct mmap_range *out) {
  if (!atomic_load_explicit(&table, memory_order_acquire)) return false;
  for (; cursor->level < LEVELS; cursor->level++, cursor->slot = 0) {
    struct line *level = level_at(cursor->level);
    while (cursor->slot < level_lines(cursor->level) * LINE_SLOTS) {
      uint32_t slot = cursor->slot++;
      if (read_slot(slot_in(&level[slot / LINE_SLOTS], slot % LINE_SLOTS), out)) return true;
    }
  }
  return false;
}

uint64_t mmap_ranges_mapped(void) { return atomic_load_explicit(&mapped, memory_order_relaxed); }

uint64_t mmap_ranges_limit(void) { return (uint64_t)LINES * LINE_SLOTS; }

uint64_t mmap_ranges_bytes(void) {
  return atomic_load_explicit(&table, memory_order_relaxed) ? LINES * sizeof(struct line) : 0;
}

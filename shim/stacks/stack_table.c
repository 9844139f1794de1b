#include "stack_table.h"

#include <string.h>

#include "shim/base/table_memory.h"

/* A stack is written once, by the thread that adds it, before the release CAS that puts it at the
 * head of its chain; whoever finds it there with an acquire load reads constants. Nothing is ever
 * removed, so an address compared by that CAS cannot come back (no ABA). */
struct stack_entry {
  uint32_t next; /* id of the next entry of the chain; written before publication only */
  uint32_t epoch;
  uint64_t hash;
  uint32_t frame_count;
  uint32_t reserved;
  uint64_t frames[];
};

enum {
  CHAINS = 1 << 15,
  STACKS_MAX = 1 << 20 /* about 250 MB of 30-frame stacks; the segment bound may come first */
};

static _Atomic uint32_t
    chains[CHAINS]; /* id of the newest stack, 0: none; 128 KiB of .bss, touched as used */
TABLE_MEMORY(memory, TABLE_SEGMENTS_MAX);
static _Atomic uint32_t stack_count;

/* Ids are positions + 1, so that 0 means none. */
static struct stack_entry *entry_of(uint32_t id) { return table_memory_at(&memory, id - 1); }

static uint64_t hash_frames(const uint64_t *frames, uint32_t count, uint32_t epoch) {
  uint64_t hash = epoch * 0x9e3779b97f4a7c15ull + count;
  for (uint32_t i = 0; i < count; i++) {
    hash = (hash ^ frames[i]) * 0xff51afd7ed558ccdull;
    hash ^= hash >> 32;
  }
  return hash;
}

static uint32_t find_in_chain(uint32_t id, uint32_t until, uint64_t hash, const uint64_t *frames,
                              uint32_t count, uint32_t epoch) {
  while (id != until) {
    const struct stack_entry *entry = entry_of(id);
    if (entry->hash == hash && entry->frame_count == count && entry->epoch == epoch &&
        memcmp(entry->frames, frames, count * sizeof *frames) == 0)
      return id;
    id = entry->next;
  }
  return 0;
}

uint32_t stack_table_intern(const uint64_t *frames, uint32_t frame_count, uint32_t epoch) {
  uint64_t hash = hash_frames(frames, frame_count, epoch);
  _Atomic uint32_t *chain = &chains[hash % CHAINS];
  uint32_t head = atomic_load_explicit(chain, memory_order_acquire);
  uint32_t found = find_in_chain(head, 0, hash, frames, frame_count, epoch);
  if (found) return found;

  bool full = atomic_load_explicit(&stack_count, memory_order_relaxed) >= STACKS_MAX;
  uint32_t position = UINT32_MAX;
  if (!full)
    position = table_memory_allocate(
        &memory, sizeof(struct stack_entry) + frame_count * sizeof *frames, &full);
  if (position == UINT32_MAX) return 0;
  uint32_t id = position + 1;
  struct stack_entry *entry = entry_of(id);
  entry->epoch = epoch;
  entry->hash = hash;
  entry->frame_count = frame_count;
  memcpy(entry->frames, frames, frame_count * sizeof *frames);
  entry->next = head;
  while (!atomic_compare_exchange_weak_explicit(chain, &head, id, memory_order_release,
                                                memory_order_acquire)) {
    /* Others added stacks meanwhile: is ours among them? Its memory is then lost, a few hundred
     * bytes in a rare race. */
    found = find_in_chain(head, entry->next, hash, frames, frame_count, epoch);
    if (found) return found;
    entry->next = head;
  }
  atomic_fetch_add_explicit(&stack_count, 1, memory_order_relaxed);
  return id;
}

uint32_t stack_table_find(const uint64_t *frames, uint32_t frame_count, uint32_t epoch) {
  uint64_t hash = hash_frames(frames, frame_count, epoch);
  return find_in_chain(atomic_load_explicit(&chains[hash % CHAINS], memory_order_acquire), 0, hash,
                       frames, frame_count, epoch);
}

bool stack_table_read(uint32_t id, struct stack_view *out) {
  if (id == 0) return false;
  const struct stack_entry *entry = entry_of(id);
  if (!entry || entry->frame_count == 0) return false;
  *out = (struct stack_view){
      .frame_count = entry->frame_count, .epoch = entry->epoch, .frames = entry->frames};
  return true;
}

uint32_t stack_table_count(void) {
  return atomic_load_explicit(&stack_count, memory_order_relaxed);
}

uint32_t stack_table_limit(void) { return STACKS_MAX; }

uint64_t stack_table_limit_bytes(void) {
  return (uint64_t)TABLE_SEGMENTS_MAX * TABLE_SEGMENT_BYTES;
}

uint64_t stack_table_bytes(void) { return table_memory_mapped(&memory) + sizeof chains; }

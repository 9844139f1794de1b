#include "registered_frames.h"

#include <stdatomic.h>
#include <string.h>

#include "cfi_entry.h"
#include "shim/base/confinement.h"
#include "shim/base/counters.h"
#include "shim/base/raw_syscall.h"
#include "shim/base/table_memory.h"

/* One function's entry. The memory of a record never becomes anything but a record of the same
 * size, so who comes late reads a record that means something else, and sees it by the version.
 * Written by whoever has taken it from the free ones, between two changes of the version. */
struct record {
  _Atomic uint32_t version; /* odd: the rest is so */
  _Atomic uint32_t next; /* id of the next one of the same table, or of the next free one */
  _Atomic uintptr_t start, end, key;
  _Atomic uint64_t serial; /* which of two is the newer */
  uint32_t size; /* of bytes: constant */
  _Atomic uint32_t entry; /* where in bytes the function's own entry begins */
  uint8_t bytes[]; /* the common entry and the function's, their pointers absolute */
};

/* Ids are positions + 1, so that 0 means none. */
TABLE_MEMORY(memory, REGISTERED_FRAMES_SEGMENTS);
static struct record *record_of(uint32_t id) { return table_memory_at(&memory, id - 1); }

enum { SIZES = 3 };
static const uint32_t sizes[SIZES] = {256, 1024, 4096};
/* Lower half: the id of the first free record. Upper half: how often one was taken or given back,
 * so that an id that comes again is noticed. */
static _Atomic uint64_t free_records[SIZES];
static _Atomic uint64_t serials;
static _Atomic uint32_t record_count, generation;

static uint32_t take_record(unsigned size_class) {
  _Atomic uint64_t *list = &free_records[size_class];
  uint64_t head = atomic_load_explicit(list, memory_order_acquire);
  while ((uint32_t)head) {
    uint64_t next = atomic_load_explicit(&record_of((uint32_t)head)->next, memory_order_relaxed);
    uint64_t wanted = ((head >> 32) + 1) << 32 | next;
    if (atomic_compare_exchange_weak_explicit(list, &head, wanted, memory_order_acquire,
                                              memory_order_acquire))
      return (uint32_t)head;
  }
  bool full;
  uint32_t position = table_memory_allocate(&memory, sizes[size_class], &full);
  if (position == UINT32_MAX) return 0;
  record_of(position + 1)->size = sizes[size_class] - sizeof(struct record);
  return position + 1;
}

static void give_record(uint32_t id) {
  struct record *record = record_of(id);
  unsigned size_class = 0;
  while (sizes[size_class] - sizeof *record != record->size) size_class++;
  _Atomic uint64_t *list = &free_records[size_class];
  uint64_t head = atomic_load_explicit(list, memory_order_relaxed), wanted;
  do {
    atomic_store_explicit(&record->next, (uint32_t)head, memory_order_relaxed);
    wanted = ((head >> 32) + 1) << 32 | id;
  } while (!atomic_compare_exchange_weak_explicit(list, &head, wanted, memory_order_release,
                                                  memory_order_relaxed));
}

/* ---- places by address ----
 *
 * A function is found by the piece of the address space that it is in, of the smallest size that
 * is not below its own: so it is in two pieces at most. A table is found by its key in the same
 * way, by the id of its last record and a mark. The places of a piece are a line of ids; where
 * that is full the next lines have more. Places are taken and given back by CAS; nothing moves. */
enum { LINES = 1 << 14, LINE_BITS = 14, PLACES = 16, LINES_OF_A_PIECE = 4, KEY_LEVEL = 8 };
static const uint32_t OF_KEY = 1u << 31;
static const uint8_t shifts[KEY_LEVEL] = {8, 12, 16, 20, 24, 28, 32, 40};

struct line {
  _Atomic uint32_t ids[PLACES];
};
struct places {
  struct line lines[LINES];
  _Atomic bool overflowed[LINES]; /* once it was full: never cleared */
};
static _Atomic(struct places *) places; /* by a release CAS of whoever mapped it */
static _Atomic uint32_t levels_used; /* bit n: of shifts[n]; never cleared */

static struct places *places_now(void) {
  return atomic_load_explicit(&places, memory_order_acquire);
}

static struct places *places_made(void) {
  struct places *now = places_now();
  if (now) return now;
  struct places *made = table_memory_map(sizeof *made);
  if (!made) return NULL;
  if (atomic_compare_exchange_strong_explicit(&places, &now, made, memory_order_release,
                                              memory_order_acquire))
    return made;
  table_memory_unmap(made, sizeof *made);
  return now;
}

static uint32_t line_of(unsigned level, uintptr_t piece) {
  uint64_t mixed = (piece * 16 + level) * 0x9e3779b97f4a7c15ull;
  return (uint32_t)((mixed ^ mixed >> 29) * 0xbf58476d1ce4e5b9ull >> (64 - LINE_BITS));
}

/* Changes the first place of the piece that has the one id into the other. */
static bool exchange(struct places *all, unsigned level, uintptr_t piece, uint32_t from,
                     uint32_t to) {
  uint32_t first = line_of(level, piece);
  for (uint32_t i = 0; i < LINES_OF_A_PIECE; i++) {
    uint32_t number = (first + i) % LINES;
    for (int place = 0; place < PLACES; place++) {
      _Atomic uint32_t *id = &all->lines[number].ids[place];
      uint32_t expected = from;
      if (atomic_load_explicit(id, memory_order_relaxed) == from &&
          atomic_compare_exchange_strong_explicit(id, &expected, to, memory_order_acq_rel,
                                                  memory_order_relaxed))
        return true;
    }
    if (from == 0) atomic_store_explicit(&all->overflowed[number], true, memory_order_relaxed);
  }
  return false;
}

static unsigned level_of(uintptr_t size) {
  unsigned level = 0;
  while (level < KEY_LEVEL && size > (uintptr_t)1 << shifts[level]) level++;
  return level;
}

static void take_from_places(struct places *all, uint32_t id, uintptr_t start, uintptr_t end) {
  unsigned level = level_of(end - start);
  uintptr_t first = start >> shifts[level], last = (end - 1) >> shifts[level];
  exchange(all, level, first, id, 0);
  if (last != first) exchange(all, level, last, id, 0);
}

static bool put_in_places(struct places *all, uint32_t id, uintptr_t start, uintptr_t end) {
  unsigned level = level_of(end - start);
  if (level == KEY_LEVEL) return false;
  uintptr_t first = start >> shifts[level], last = (end - 1) >> shifts[level];
  atomic_fetch_or_explicit(&levels_used, 1u << level, memory_order_relaxed);
  if (exchange(all, level, first, 0, id) && (last == first || exchange(all, level, last, 0, id)))
    return true;
  take_from_places(all, id, start, end);
  return false;
}

/* The newest record that is for the address; or, with KEY_LEVEL, has the key. */
struct search {
  uintptr_t address;
  uint32_t id, version;
  uint64_t serial;
  struct announcements_answer *answer;
};

/* Odd keys are those of the agent, for what is announced to debuggers. */
static bool may_be_used(const struct search *search, uintptr_t key) {
  return !(key & 1) || announcements_held(search->answer);
}

static void look_at(struct search *search, unsigned level, uint32_t id) {
  if ((level == KEY_LEVEL) != (id >= OF_KEY)) return;
  struct record *record = record_of(id & ~OF_KEY);
  uint32_t version = atomic_load_explicit(&record->version, memory_order_acquire);
  uintptr_t start = atomic_load_explicit(&record->start, memory_order_relaxed);
  uintptr_t end = atomic_load_explicit(&record->end, memory_order_relaxed);
  uintptr_t key = atomic_load_explicit(&record->key, memory_order_relaxed);
  uint64_t serial = atomic_load_explicit(&record->serial, memory_order_relaxed);
  bool found = level == KEY_LEVEL ? key == search->address
                                  : search->address >= start && search->address < end;
  if (!(version & 1) || !found || serial < search->serial) return;
  if (level != KEY_LEVEL && !may_be_used(search, key)) return;
  search->id = id & ~OF_KEY;
  search->version = version;
  search->serial = serial;
}

static void search_piece(struct places *all, unsigned level, uintptr_t piece,
                         struct search *search) {
  uint32_t first = line_of(level, piece);
  for (uint32_t i = 0; i < LINES_OF_A_PIECE; i++) {
    uint32_t number = (first + i) % LINES;
    for (int place = 0; place < PLACES; place++) {
      uint32_t id = atomic_load_explicit(&all->lines[number].ids[place], memory_order_acquire);
      if (id) look_at(search, level, id);
    }
    if (!atomic_load_explicit(&all->overflowed[number], memory_order_relaxed)) return;
  }
}

static bool find_newest(uintptr_t pc, struct announcements_answer *answer, struct search *search) {
  struct places *all = places_now();
  uint32_t used = atomic_load_explicit(&levels_used, memory_order_relaxed);
  *search = (struct search){.address = pc, .answer = answer};
  for (unsigned level = 0; all && level < KEY_LEVEL; level++)
    if (used >> level & 1) search_piece(all, level, pc >> shifts[level], search);
  return search->id != 0;
}

/* ---- copies ---- */

struct writer {
  uint8_t *at, *end;
  bool full;
};

static void put(struct writer *writer, const void *bytes, size_t size) {
  if ((size_t)(writer->end - writer->at) < size) {
    writer->full = true;
    return;
  }
  memcpy(writer->at, bytes, size);
  writer->at += size;
}

static void put_u8(struct writer *writer, uint8_t byte) { put(writer, &byte, 1); }
static void put_u32(struct writer *writer, uint32_t value) { put(writer, &value, sizeof value); }
static void put_u64(struct writer *writer, uint64_t value) { put(writer, &value, sizeof value); }

static void put_uleb(struct writer *writer, uint64_t value) {
  for (; value > 0x7f; value >>= 7) put_u8(writer, (uint8_t)(value | 0x80));
  put_u8(writer, (uint8_t)value);
}

static void put_sleb(struct writer *writer, int64_t value) {
  for (; value < -0x40 || value > 0x3f; value >>= 7) put_u8(writer, (uint8_t)(value | 0x80));
  put_u8(writer, (uint8_t)(value & 0x7f));
}

static void put_instructions(struct writer *writer, const struct cfi_cursor *code) {
  put(writer, code->at, cfi_left(code));
}

/* Fills in the length of what was begun there. */
static void end_entry(const struct writer *writer, uint8_t *start) {
  uint32_t length = (uint32_t)(writer->at - start) - (uint32_t)sizeof length;
  if (!writer->full) memcpy(start, &length, sizeof length);
}

/* False: there is not so much room. */
static bool write_copy(struct record *record, const struct cfi_entry *entry) {
  struct writer writer = {.at = record->bytes, .end = record->bytes + record->size};
  const struct cfi_common_entry *common = &entry->common;
  put_u32(&writer, 0);
  put_u32(&writer, 0);
  put_u8(&writer, 1); /* version */
  put(&writer, common->signal_frame ? "zRS" : "zR", common->signal_frame ? 4 : 3);
  put_uleb(&writer, common->code_align);
  put_sleb(&writer, (int64_t)common->data_align);
  put_u8(&writer, (uint8_t)common->return_register);
  put_u8(&writer, 1); /* byte of augmentation */
  put_u8(&writer, CFI_FORMAT_ABSOLUTE);
  put_instructions(&writer, &common->instructions);
  end_entry(&writer, record->bytes);
  uint8_t *function = writer.at;
  put_u32(&writer, 0);
  put_u32(&writer, (uint32_t)(writer.at - record->bytes)); /* how far back the common entry is */
  put_u64(&writer, entry->code_start);
  put_u64(&writer, entry->code_end - entry->code_start);
  put_u8(&writer, 0); /* bytes of augmentation */
  put_instructions(&writer, &entry->instructions);
  end_entry(&writer, function);
  atomic_store_explicit(&record->entry, (uint32_t)(function - record->bytes), memory_order_relaxed);
  return !writer.full;
}

/* False: another thread has done it. */
static bool retire(uint32_t id) {
  _Atomic uint32_t *version = &record_of(id)->version;
  uint32_t now = atomic_load_explicit(version, memory_order_relaxed);
  if (!(now & 1) || !atomic_compare_exchange_strong_explicit(
                        version, &now, now + 1, memory_order_acq_rel, memory_order_relaxed))
    return false;
  atomic_fetch_sub_explicit(&record_count, 1, memory_order_relaxed);
  return true;
}

/* The id of the new record; 0: there is no room. */
static uint32_t add_entry(struct places *all, const struct cfi_entry *entry, uintptr_t key) {
  for (unsigned size_class = 0; size_class < SIZES; size_class++) {
    uint32_t id = take_record(size_class);
    if (!id) continue;
    struct record *record = record_of(id);
    /* Readers that still have it see the version even or changed, once they have read bytes. */
    atomic_thread_fence(memory_order_release);
    if (!write_copy(record, entry)) {
      give_record(id);
      continue;
    }
    uint64_t serial = atomic_fetch_add_explicit(&serials, 1, memory_order_relaxed);
    atomic_store_explicit(&record->serial, serial, memory_order_relaxed);
    atomic_store_explicit(&record->start, entry->code_start, memory_order_relaxed);
    atomic_store_explicit(&record->end, entry->code_end, memory_order_relaxed);
    atomic_store_explicit(&record->key, key, memory_order_relaxed);
    atomic_fetch_add_explicit(&record->version, 1, memory_order_release);
    atomic_fetch_add_explicit(&record_count, 1, memory_order_relaxed);
    if (put_in_places(all, id, entry->code_start, entry->code_end)) return id;
    if (retire(id)) give_record(id);
    return 0;
  }
  return 0;
}

/* ---- the program's tables ---- */

enum {
  PAGE = 4096,
  ENTRY_MAX = 1 << 16, /* bytes: what is larger is no entry, and what follows it not to be found */
  FUNCTIONS_MAX = 1 << 16 /* of one table: some tens of milliseconds */
};

/* Makes sure that it can be read up to there; each page is asked for once. */
static bool reach(struct cfi_section *section, uintptr_t to, uintptr_t limit) {
  if (to > limit) return false;
  while (section->end < to) {
    if (confinement_forbids_calls() || !raw_is_readable(section->end)) return false;
    section->end = (section->end / PAGE + 1) * PAGE;
  }
  return true;
}

static bool reach_entry(struct cfi_section *section, uintptr_t at, uintptr_t limit) {
  uint32_t length;
  uint64_t wide = 0;
  if (!reach(section, at + sizeof length, limit)) return false;
  memcpy(&length, (const void *)at, sizeof length);
  at += sizeof length;
  if (length == UINT32_MAX) {
    if (!reach(section, at + sizeof wide, limit)) return false;
    memcpy(&wide, (const void *)at, sizeof wide);
    at += sizeof wide;
  } else {
    wide = length;
  }
  return wide <= ENTRY_MAX && reach(section, at + wide, limit);
}

struct adding {
  struct places *places;
  uintptr_t key;
  uint32_t last; /* id of the record that was added before */
};

static bool is_padding(const struct cfi_cursor *code) {
  for (size_t i = 0; i < cfi_left(code); i++)
    if (code->at[i]) return false;
  return true;
}

/* Some say nothing but which routine is to be called (luajit's). */
static bool has_rows(const struct cfi_entry *entry) {
  return !is_padding(&entry->common.instructions) || !is_padding(&entry->instructions);
}

/* What comes behind the function's last row has not been looked at yet. */
static bool can_be_copied(struct cfi_cursor code) {
  size_t size = cfi_left(&code);
  return size < sizes[SIZES - 1] && cfi_reach(&code, size);
}

static void add_function(struct adding *adding, uintptr_t at, const struct cfi_section *section) {
  struct cfi_entry entry;
  if (!cfi_entry_read(at, section, &entry) || !cfi_entry_may_be_moved(&entry, section) ||
      !can_be_copied(entry.common.instructions) || !can_be_copied(entry.instructions)) {
    COUNT_LOSS(registered_lost_invalid);
    return;
  }
  if (!has_rows(&entry)) return;
  uint32_t id = adding->places ? add_entry(adding->places, &entry, adding->key) : 0;
  if (!id) {
    COUNT_LOSS(registered_lost_full);
    return;
  }
  atomic_store_explicit(&record_of(id)->next, adding->last, memory_order_relaxed);
  adding->last = id;
}

static void take_away(struct places *all, uint32_t id) {
  while (id) {
    struct record *record = record_of(id);
    uint32_t next = atomic_load_explicit(&record->next, memory_order_relaxed);
    if (!retire(id)) break;
    take_from_places(all, id, atomic_load_explicit(&record->start, memory_order_relaxed),
                     atomic_load_explicit(&record->end, memory_order_relaxed));
    give_record(id);
    id = next;
  }
  atomic_fetch_add_explicit(&generation, 1, memory_order_release);
}

void registered_frames_add(const struct cfi_section *table, uintptr_t key) {
  struct cfi_section section = *table;
  struct adding adding = {.places = places_made(), .key = key};
  uintptr_t at = section.start, next, limit = section.end;
  bool is_function, is_first = true;
  if (!section.in_own_memory) section.end = at / sizeof at * sizeof at;
  section.in_own_memory = true; /* as far as it reaches */
  for (uint32_t i = 0; i < 2 * FUNCTIONS_MAX; i++, at = next, is_first = false) {
    if (!table->in_own_memory && !reach_entry(&section, at, limit)) {
      COUNT_LOSS(registered_lost_invalid);
      break;
    }
    if (!cfi_entry_step(at, &section, &next, &is_function)) break;
    /* LLVM's libunwind has them registered one by one. */
    if (is_function && is_first && !table->in_own_memory) {
      struct cfi_section around = {PAGE, next, .text = table->text, .data = table->data};
      add_function(&adding, at, &around);
      break;
    }
    if (is_function) add_function(&adding, at, &section);
  }
  if (!adding.last || exchange(adding.places, KEY_LEVEL, key, 0, adding.last | OF_KEY)) return;
  take_away(adding.places, adding.last);
  COUNT_LOSS(registered_lost_full);
}

void registered_frames_remove(uintptr_t key) {
  struct places *all = places_now();
  struct search search = {.address = key};
  if (!all) return;
  search_piece(all, KEY_LEVEL, key, &search);
  if (search.id && exchange(all, KEY_LEVEL, key, search.id | OF_KEY, 0)) take_away(all, search.id);
}

/* ---- for readers ---- */

bool registered_frames_any(void) {
  return atomic_load_explicit(&levels_used, memory_order_relaxed) != 0;
}

static uintptr_t entry_in(const struct record *record) {
  return (uintptr_t)record->bytes + atomic_load_explicit(&record->entry, memory_order_relaxed);
}

bool registered_frames_find(uintptr_t pc, struct announcements_answer *answer,
                            struct cfi_rule *rule) {
  struct search search;
  struct cfi_entry entry;
  if (!registered_frames_any() || !find_newest(pc, answer, &search)) return false;
  struct record *record = record_of(search.id);
  struct cfi_section section = {.start = (uintptr_t)record->bytes,
                                .end = (uintptr_t)record->bytes + record->size,
                                .in_own_memory = true};
  bool found = cfi_entry_read(entry_in(record), &section, &entry) &&
               cfi_entry_rule(&entry, &section, pc, rule);
  rule->announced = true;
  atomic_thread_fence(memory_order_acquire);
  return found && atomic_load_explicit(&record->version, memory_order_relaxed) == search.version;
}

uintptr_t registered_frames_entry(uintptr_t pc) {
  struct search search;
  struct announcements_answer answer = {false, false};
  bool found = registered_frames_any() && find_newest(pc, &answer, &search);
  return found ? entry_in(record_of(search.id)) : 0;
}

bool registered_frames_word(uintptr_t address, uintptr_t *word) {
  enum { UNITS = TABLE_SEGMENT_BYTES / TABLE_UNIT };
  for (uint32_t i = 0; i < REGISTERED_FRAMES_SEGMENTS; i++) {
    uintptr_t start = (uintptr_t)table_memory_at(&memory, i * UNITS);
    if (!start || address - start > TABLE_SEGMENT_BYTES - sizeof *word) continue;
    memcpy(word, (const void *)address, sizeof *word);
    return true;
  }
  return false;
}

uint32_t registered_frames_generation(void) {
  return atomic_load_explicit(&generation, memory_order_acquire);
}

uint32_t registered_frames_count(void) {
  return atomic_load_explicit(&record_count, memory_order_relaxed);
}

uint64_t registered_frames_bytes(void) {
  return places_now() ? table_memory_mapped(&memory) + sizeof(struct places) : 0;
}

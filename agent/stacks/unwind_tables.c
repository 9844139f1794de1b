#include "unwind_tables.h"

#include <dlfcn.h>

#include "agent/runtime/own_memory.h"

/* The form that every linker writes: a sorted table of pairs of 32-bit offsets from the header. */
enum {
  VERSION = 1,
  UDATA4 = 0x03,
  SDATA4 = 0x0b,
  SDATA8 = 0x0c,
  UDATA8 = 0x04,
  FORMAT = 0x0f,
  TABLE_OF_OFFSETS = 0x3b,
  ENTRIES_MAX = 1 << 26,
  /* What is still to be searched when reading goes on by blocks: they are not to be driven out by
   * the few entries that a search in a large table looks at. */
  NEAR_ENTRIES = 1024
};

struct table_header {
  uint8_t version, frame_encoding, count_encoding, table_encoding;
  int32_t frame;
  uint32_t count;
};

struct table_entry {
  int32_t start, fde;
};

static bool read_header(struct memory_reader *memory, uintptr_t header, uintptr_t *table,
                        uint32_t *count) {
  struct table_header read;
  uintptr_t at = header + sizeof read;
  if (!memory_reader_read(memory, header, &read, sizeof read) || read.version != VERSION ||
      read.table_encoding != TABLE_OF_OFFSETS || (read.count_encoding & FORMAT) != UDATA4)
    return false;
  unsigned frame_format = read.frame_encoding & FORMAT;
  if (frame_format == SDATA8 || frame_format == UDATA8) { /* the count is four bytes further */
    if (!memory_reader_read(memory, at, &read.count, sizeof read.count)) return false;
    at += sizeof read.count;
  } else if (frame_format != SDATA4 && frame_format != UDATA4) {
    return false;
  }
  *table = at;
  *count = read.count;
  return read.count > 0 && read.count <= ENTRIES_MAX;
}

static bool read_entry(struct memory_reader *memory, uintptr_t at, bool near,
                       struct table_entry *out) {
  if (near) return memory_reader_read(memory, at, out, sizeof *out);
  return own_memory_read(at, out, sizeof *out) == sizeof *out;
}

bool unwind_tables_find(struct memory_reader *memory, uintptr_t pc, struct unwind_entry *out) {
  struct dl_find_object found;
  struct table_entry entry;
  uintptr_t table;
  uint32_t low = 0, high;
  if (_dl_find_object((void *)pc, &found) != 0 || !found.dlfo_eh_frame) return false;
  uintptr_t header = (uintptr_t)found.dlfo_eh_frame;
  int64_t wanted = (int64_t)(pc - header);
  if (!read_header(memory, header, &table, &high)) return false;
  while (high - low > 1) {
    uint32_t middle = low + (high - low) / 2;
    if (!read_entry(memory, table + middle * sizeof entry, high - low <= NEAR_ENTRIES, &entry))
      return false;
    if (entry.start <= wanted) low = middle;
    else high = middle;
  }
  if (!read_entry(memory, table + low * sizeof entry, true, &entry) || entry.start > wanted)
    return false;
  *out = (struct unwind_entry){.fde = header + (uintptr_t)(intptr_t)entry.fde,
                               .header = header,
                               .object_start = (uintptr_t)found.dlfo_map_start,
                               .object_end = (uintptr_t)found.dlfo_map_end};
  return true;
}

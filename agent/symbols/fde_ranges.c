#include "fde_ranges.h"

#include <string.h>
#include <sys/types.h>

#include "agent/runtime/byte_reader.h"

/* from libbacktrace: glibc's qsort may use the host's malloc */
#include "backtrace.h"
#include "internal.h"

/* Encodings of pointers (LSB, .eh_frame): how they are stored, and what they are relative to. */
enum {
  STORED_AS = 0x0f,
  ADDRESS = 0x00,
  UDATA2 = 0x02,
  UDATA4 = 0x03,
  UDATA8 = 0x04,
  SDATA2 = 0x0a,
  SDATA4 = 0x0b,
  SDATA8 = 0x0c,
  RELATIVE_TO = 0xf0,
  TO_NOTHING = 0x00,
  TO_ITSELF = 0x10,
  UNKNOWN = 0xff
};

enum { EXTENDED_LENGTH = 0xffffffff, FIRST_CAPACITY = 1024 };

static void skip_leb128(struct byte_reader *reader) {
  while (!reader->failed && (byte_reader_take(reader, 1) & 0x80) != 0) {}
}

static size_t stored_size(uint8_t encoding) {
  switch (encoding & STORED_AS) {
    case UDATA2:
    case SDATA2: return 2;
    case UDATA4:
    case SDATA4: return 4;
    case ADDRESS:
    case UDATA8:
    case SDATA8: return 8;
    default: return 0;
  }
}

static uint64_t sign_extended(uint64_t value, uint8_t encoding) {
  switch (encoding & STORED_AS) {
    case SDATA2: return (uint64_t)(int64_t)(int16_t)value;
    case SDATA4: return (uint64_t)(int64_t)(int32_t)value;
    default: return value;
  }
}

/* How a CIE says that addresses are stored in its FDEs. */
static uint8_t pointer_encoding(struct byte_reader cie) {
  uint64_t version = byte_reader_take(&cie, 1);
  const char *augmentation = (const char *)cie.at;
  while (!cie.failed && byte_reader_take(&cie, 1) != 0) {}
  if (cie.failed || version > 4) return UNKNOWN;
  if (version == 4) byte_reader_take(&cie, 2); /* sizes of addresses and of segment selectors */
  skip_leb128(&cie); /* code alignment */
  skip_leb128(&cie); /* data alignment */
  if (version == 1) byte_reader_take(&cie, 1);
  else skip_leb128(&cie); /* the return address's register */
  if (*augmentation == '\0') return ADDRESS;
  if (*augmentation++ != 'z') return UNKNOWN;
  skip_leb128(&cie); /* length of what follows */
  for (; *augmentation != '\0' && !cie.failed; augmentation++) {
    uint8_t encoding;
    switch (*augmentation) {
      case 'R':
        encoding = (uint8_t)byte_reader_take(&cie, 1);
        return cie.failed ? UNKNOWN : encoding;
      case 'L': byte_reader_take(&cie, 1); break;
      case 'P': /* the personality routine's address */
        encoding = (uint8_t)byte_reader_take(&cie, 1);
        if (stored_size(encoding) == 0) return UNKNOWN;
        byte_reader_take(&cie, stored_size(encoding));
        break;
      case 'S':
      case 'B':
      case 'G': break;
      default: return UNKNOWN;
    }
  }
  return cie.failed ? UNKNOWN : ADDRESS;
}

static bool add(struct fde_ranges *ranges, struct region *region, struct fde_range range) {
  if (ranges->count == ranges->capacity) {
    size_t capacity = ranges->capacity == 0 ? FIRST_CAPACITY : 2 * ranges->capacity;
    struct fde_range *grown = region_alloc(region, capacity * sizeof *grown);
    if (grown == NULL) return false;
    if (ranges->count > 0) memcpy(grown, ranges->items, ranges->count * sizeof *grown);
    fde_ranges_release(ranges, region);
    ranges->items = grown;
    ranges->capacity = capacity;
  }
  range.order = ranges->count;
  ranges->items[ranges->count++] = range;
  return true;
}

/* Most FDEs have the CIE of the one before. */
struct last_cie {
  const uint8_t *at;
  uint8_t encoding;
};

static bool add_fde(struct fde_ranges *ranges, struct region *region, const struct elf_bytes *bytes,
                    uint64_t section_address, struct byte_reader fde, struct last_cie *last) {
  const uint8_t *id_at = fde.at;
  uint64_t back = byte_reader_take(&fde, 4);
  if (back > (uint64_t)(id_at - bytes->data)) return true;
  const uint8_t *cie_at = id_at - back;
  if (last->at != cie_at) {
    struct byte_reader cie = {cie_at, bytes->data + bytes->size, false};
    uint64_t length = byte_reader_take(&cie, 4);
    if (length == EXTENDED_LENGTH) length = byte_reader_take(&cie, 8);
    if (cie.failed || length > (uint64_t)(cie.end - cie.at)) return true;
    cie.end = cie.at + length;
    bool is_cie = byte_reader_take(&cie, 4) == 0;
    *last = (struct last_cie){cie_at, is_cie && !cie.failed ? pointer_encoding(cie) : UNKNOWN};
  }
  size_t size = stored_size(last->encoding);
  unsigned relative = last->encoding & RELATIVE_TO;
  if (size == 0 || (relative != TO_NOTHING && relative != TO_ITSELF)) return true;
  uint64_t place = section_address + (uint64_t)(fde.at - bytes->data);
  uint64_t start = sign_extended(byte_reader_take(&fde, size), last->encoding);
  if (relative == TO_ITSELF) start += place;
  uint64_t length = byte_reader_take(&fde, size);
  if (fde.failed || length == 0 || start + length < start) return true;
  return add(ranges, region, (struct fde_range){.start = start, .end = start + length});
}

static int compare_ranges(const void *left, const void *right) {
  const struct fde_range *a = left, *b = right;
  if (a->start != b->start) return a->start < b->start ? -1 : 1;
  return a->order < b->order ? -1 : a->order > b->order;
}

void fde_ranges_read(struct fde_ranges *ranges, struct elf_file *file) {
  memset(ranges, 0, sizeof *ranges);
  const Elf64_Shdr *section = elf_section_find(file, ".eh_frame");
  struct elf_bytes bytes;
  if (section == NULL || !elf_section_read(file, section, &bytes)) return;
  struct byte_reader reader = {bytes.data, bytes.data + bytes.size, false};
  struct last_cie last = {NULL, UNKNOWN};
  bool complete = true;
  while (complete && reader.at < reader.end) {
    uint64_t length = byte_reader_take(&reader, 4);
    if (length == EXTENDED_LENGTH) length = byte_reader_take(&reader, 8);
    if (reader.failed || length > (uint64_t)(reader.end - reader.at)) break;
    struct byte_reader entry = {reader.at, reader.at + length, false}, id = entry;
    reader.at += length;
    if (byte_reader_take(&id, 4) != 0)
      complete = add_fde(ranges, file->region, &bytes, section->sh_addr, entry, &last);
  }
  region_free(file->region, (void *)(uintptr_t)bytes.data, bytes.size + 8);
  backtrace_qsort(ranges->items, ranges->count, sizeof *ranges->items, compare_ranges);
}

void fde_ranges_release(struct fde_ranges *ranges, struct region *region) {
  region_free(region, ranges->items, ranges->capacity * sizeof *ranges->items);
  ranges->items = NULL;
  ranges->capacity = 0;
}

size_t fde_ranges_at_or_below(const struct fde_ranges *ranges, uint64_t address) {
  size_t low = 0, high = ranges->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (ranges->items[middle].start <= address) low = middle + 1;
    else high = middle;
  }
  return low;
}

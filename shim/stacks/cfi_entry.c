#include "cfi_entry.h"

/* ---- pointers ---- */

enum {
  FORMAT_ULEB = 0x01,
  FORMAT_U16 = 0x02,
  FORMAT_U32 = 0x03,
  FORMAT_U64 = 0x04,
  FORMAT_SLEB = 0x09,
  FORMAT_S16 = 0x0a,
  FORMAT_S64 = 0x0c,
  RELATIVE = 0x70,
  RELATIVE_NONE = 0x00,
  RELATIVE_PC = 0x10,
  RELATIVE_TEXT = 0x20
};

uintptr_t cfi_take_encoded(struct cfi_cursor *cursor, uint8_t encoding,
                           const struct cfi_section *section) {
  if (encoding == CFI_ENCODING_OMIT) return 0;
  uintptr_t here = (uintptr_t)cursor->at - section->moved, value = 0;
  switch (encoding & CFI_ENCODING_FORMAT) {
    case CFI_FORMAT_ABSOLUTE:
    case FORMAT_U64:
    case FORMAT_S64: value = cfi_take_u64(cursor); break;
    case FORMAT_ULEB: value = cfi_take_uleb(cursor); break;
    case FORMAT_SLEB: value = (uintptr_t)cfi_take_sleb(cursor); break;
    case FORMAT_U16: value = cfi_take_u16(cursor); break;
    case FORMAT_S16: value = (uintptr_t)(intptr_t)cfi_take_s16(cursor); break;
    case FORMAT_U32: value = cfi_take_u32(cursor); break;
    case CFI_FORMAT_S32: value = (uintptr_t)(intptr_t)cfi_take_s32(cursor); break;
    default: cursor->bad = true;
  }
  switch (encoding & RELATIVE) {
    case RELATIVE_NONE: break;
    case RELATIVE_PC: value += here; break;
    case CFI_RELATIVE_DATA: value += section->data; break;
    case RELATIVE_TEXT:
      if (!section->text) cursor->bad = true;
      value += section->text;
      break;
    default: cursor->bad = true;
  }
  if (encoding & CFI_ENCODING_INDIRECT) cursor->bad = true;
  return value;
}

/* ---- lengths and kinds ---- */

/* Positions the cursor after a length field and bounds it by that length. */
static struct cfi_cursor take_entry(uintptr_t at, const struct cfi_section *section, bool *wide) {
  struct cfi_cursor entry = {.at = (const uint8_t *)at, .end = (const uint8_t *)section->end};
  if (section->in_own_memory) entry.checked = entry.end;
  entry.bad = at < section->start || at >= section->end;
  uint64_t length = cfi_take_u32(&entry);
  *wide = length == 0xffffffff;
  if (*wide) length = cfi_take_u64(&entry);
  if (length == 0 || length > cfi_left(&entry)) entry.bad = true;
  if (!entry.bad) entry.end = entry.at + length;
  return entry;
}

/* Of a function's entry: where the common one is. */
struct entry_id {
  bool is_common;
  uintptr_t common_at;
};

static struct entry_id take_id(struct cfi_cursor *entry, bool wide,
                               const struct cfi_section *section) {
  uintptr_t here = (uintptr_t)entry->at;
  uint64_t id = wide ? cfi_take_u64(entry) : cfi_take_u32(entry);
  if (!section->debug_frame) return (struct entry_id){id == 0, here - id};
  return (struct entry_id){id == (wide ? UINT64_MAX : UINT32_MAX), section->start + id};
}

bool cfi_entry_step(uintptr_t at, const struct cfi_section *section, uintptr_t *next,
                    bool *is_function) {
  bool wide;
  struct cfi_cursor entry = take_entry(at, section, &wide);
  *next = (uintptr_t)entry.end;
  *is_function = !take_id(&entry, wide, section).is_common;
  return !entry.bad;
}

/* ---- CIE ---- */

enum { AUGMENTATION_MAX = 8 }; /* letters; there are seven in all */

static bool take_augmentation(struct cfi_cursor *entry, char text[AUGMENTATION_MAX + 1]) {
  for (unsigned i = 0; i <= AUGMENTATION_MAX; i++)
    if ((text[i] = (char)cfi_take_u8(entry)) == 0) return !entry->bad;
  return false;
}

/* letters: after the z. */
static bool read_augmentation(struct cfi_cursor *entry, const char *letters,
                              const struct cfi_section *section, struct cfi_common_entry *common) {
  uint64_t size = cfi_take_uleb(entry);
  struct cfi_cursor data = *entry;
  cfi_skip(entry, size);
  if (entry->bad) return false;
  data.end = entry->at;
  common->has_augmentation = true;
  for (const char *c = letters; *c; c++) {
    if (*c == 'R') common->pointer_encoding = cfi_take_u8(&data);
    else if (*c == 'L') cfi_take_u8(&data);
    else if (*c == 'S') common->signal_frame = true;
    else if (*c == 'P') {
      uint8_t encoding = cfi_take_u8(&data);
      if (encoding != CFI_ENCODING_OMIT) encoding &= (uint8_t)~CFI_ENCODING_INDIRECT;
      cfi_take_encoded(&data, encoding, section);
    } else if (*c != 'B' && *c != 'G') return false;
  }
  return !data.bad;
}

static bool read_common(uintptr_t at, const struct cfi_section *section,
                        struct cfi_common_entry *common) {
  bool wide;
  struct cfi_cursor entry = take_entry(at, section, &wide);
  bool is_common = take_id(&entry, wide, section).is_common;
  uint8_t version = cfi_take_u8(&entry);
  char augmentation[AUGMENTATION_MAX + 1];
  if (entry.bad || !is_common || (version != 1 && version != 3 && version != 4)) return false;
  if (!take_augmentation(&entry, augmentation)) return false;
  if (version == 4) {
    uint8_t address_size = cfi_take_u8(&entry), segment_size = cfi_take_u8(&entry);
    if (address_size != sizeof(uintptr_t) || segment_size != 0) return false;
  }
  *common = (struct cfi_common_entry){.pointer_encoding = CFI_FORMAT_ABSOLUTE};
  common->code_align = cfi_take_uleb(&entry);
  common->data_align = (uint64_t)cfi_take_sleb(&entry);
  common->return_register = version == 1 ? cfi_take_u8(&entry) : cfi_take_uleb(&entry);
  if (augmentation[0] && augmentation[0] != 'z') return false; /* GCC 2's eh, say */
  if (augmentation[0] && !read_augmentation(&entry, augmentation + 1, section, common))
    return false;
  common->instructions = entry;
  return !entry.bad && common->return_register == CFI_RA &&
         common->pointer_encoding != CFI_ENCODING_OMIT;
}

/* ---- FDE ---- */

bool cfi_entry_read(uintptr_t at, const struct cfi_section *section, struct cfi_entry *out) {
  bool wide;
  struct cfi_cursor entry = take_entry(at, section, &wide);
  struct entry_id id = take_id(&entry, wide, section);
  if (entry.bad || id.is_common || !read_common(id.common_at, section, &out->common)) return false;
  uint8_t encoding = out->common.pointer_encoding;
  out->code_start = cfi_take_encoded(&entry, encoding, section);
  uintptr_t size = cfi_take_encoded(&entry, encoding & CFI_ENCODING_FORMAT, section);
  out->code_end = out->code_start + size; /* where it wraps no pc is between */
  if (out->common.has_augmentation) {
    uint64_t skipped = cfi_take_uleb(&entry);
    cfi_skip(&entry, skipped);
  }
  out->instructions = entry;
  return !entry.bad;
}

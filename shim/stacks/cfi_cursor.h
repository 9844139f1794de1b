/* A position in an unwind section. Reading past its end, or where the memory cannot be read, makes
 * it bad instead of faulting. Context: as cfi.h. */
#ifndef SHIM_CFI_CURSOR_H
#define SHIM_CFI_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "readable_pages.h"

#if defined(__x86_64__)
enum { CFI_FP = 6, CFI_SP = 7, CFI_RA = 16 }; /* the psABI's numbers */
#elif defined(__aarch64__)
enum { CFI_FP = 29, CFI_SP = 31, CFI_RA = 30 };
#endif

struct cfi_cursor {
  const uint8_t *at, *end;
  const uint8_t *checked; /* from at to there it can be read, if that is above at */
  bool bad;
};

static inline size_t cfi_left(const struct cfi_cursor *cursor) {
  return cursor->bad ? 0 : (size_t)(cursor->end - cursor->at);
}

/* Whether `size` bytes are there; only then may they be read. */
static inline bool cfi_reach(struct cfi_cursor *cursor, uint64_t size) {
  if (cfi_left(cursor) < size) cursor->bad = true;
  if (cursor->bad) return false;
  if ((uintptr_t)cursor->checked >= (uintptr_t)cursor->at + size) return true;
  if (!readable_pages_cover((uintptr_t)cursor->at, size)) return !(cursor->bad = true);
  uintptr_t page_end = ((uintptr_t)cursor->at + size - 1) / READABLE_PAGE * READABLE_PAGE;
  cursor->checked = (const uint8_t *)(page_end + READABLE_PAGE);
  return true;
}

static inline void cfi_skip(struct cfi_cursor *cursor, uint64_t size) {
  if (cfi_left(cursor) < size) cursor->bad = true;
  else cursor->at += size;
}

#define CFI_TAKE(name, type)                           \
  static inline type name(struct cfi_cursor *cursor) { \
    type value = 0;                                    \
    if (!cfi_reach(cursor, sizeof value)) return 0;    \
    memcpy(&value, cursor->at, sizeof value);          \
    cursor->at += sizeof value;                        \
    return value;                                      \
  }
CFI_TAKE(cfi_take_u8, uint8_t)
CFI_TAKE(cfi_take_s8, int8_t)
CFI_TAKE(cfi_take_u16, uint16_t)
CFI_TAKE(cfi_take_s16, int16_t)
CFI_TAKE(cfi_take_u32, uint32_t)
CFI_TAKE(cfi_take_s32, int32_t)
CFI_TAKE(cfi_take_u64, uint64_t)
#undef CFI_TAKE

enum { CFI_LEB_BYTES_MAX = 16 }; /* 10 hold every value; assemblers may pad */

static inline uint64_t cfi_take_uleb(struct cfi_cursor *cursor) {
  uint64_t value = 0;
  for (unsigned shift = 0; shift < 7 * CFI_LEB_BYTES_MAX; shift += 7) {
    uint8_t byte = cfi_take_u8(cursor);
    if (shift < 64) value |= (uint64_t)(byte & 0x7f) << shift;
    if (!(byte & 0x80)) return cursor->bad ? 0 : value;
  }
  cursor->bad = true;
  return 0;
}

static inline int64_t cfi_take_sleb(struct cfi_cursor *cursor) {
  uint64_t value = 0;
  for (unsigned shift = 0; shift < 7 * CFI_LEB_BYTES_MAX;) {
    uint8_t byte = cfi_take_u8(cursor);
    if (shift < 64) value |= (uint64_t)(byte & 0x7f) << shift;
    shift += 7;
    if (byte & 0x80) continue;
    if ((byte & 0x40) && shift < 64) value |= ~(uint64_t)0 << shift;
    return cursor->bad ? 0 : (int64_t)value;
  }
  cursor->bad = true;
  return 0;
}

#endif

/* The entries of .eh_frame and .debug_frame: common ones (CIE) and those of functions (FDE).
 * Context: as cfi.h. */
#ifndef SHIM_CFI_ENTRY_H
#define SHIM_CFI_ENTRY_H

#include "cfi_cursor.h"

enum { /* of pointers, LSB 10.5.1 */
       CFI_ENCODING_OMIT = 0xff,
       CFI_ENCODING_FORMAT = 0x0f,
       CFI_ENCODING_INDIRECT = 0x80,
       CFI_FORMAT_ABSOLUTE = 0x00,
       CFI_FORMAT_S32 = 0x0b,
       CFI_RELATIVE_DATA = 0x30
};

/* What entries are in, and what their pointers are relative to. */
struct cfi_section {
  uintptr_t start, end;
  uintptr_t moved; /* so far above where it is meant to be: a copy */
  uintptr_t text, data;
  bool in_own_memory; /* no page need be asked for */
  bool debug_frame;
};

struct cfi_common_entry {
  struct cfi_cursor instructions;
  uint64_t code_align;
  uint64_t data_align; /* a signed factor, multiplied modulo 2^64 */
  uint64_t return_register;
  uint8_t pointer_encoding;
  bool has_augmentation, signal_frame;
};

struct cfi_entry {
  struct cfi_common_entry common;
  struct cfi_cursor instructions;
  uintptr_t code_start, code_end; /* of what it is for */
};

/* Bad, where it would have to be followed: only a personality routine's may be indirect. */
uintptr_t cfi_take_encoded(struct cfi_cursor *cursor, uint8_t encoding,
                           const struct cfi_section *section);

/* The function's entry at that address. False: it is none, or cannot be understood. */
bool cfi_entry_read(uintptr_t at, const struct cfi_section *section, struct cfi_entry *out);

/* For those who walk a section. False: it ends there. *is_function: it is no common entry. */
bool cfi_entry_step(uintptr_t at, const struct cfi_section *section, uintptr_t *next,
                    bool *is_function);

#endif

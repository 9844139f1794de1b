/* Call frame information: from a pc to the rule that leads to the caller's frame.
 * Sources: DWARF 5 section 6.4, the LSB's .eh_frame and .eh_frame_hdr, the x86-64 psABI's register
 * numbers. What is not valid by these is not understood: no rule.
 * Context: malloc hook, signal; locks: none; reads only the object's own unwind sections, within
 * its mapped range, after making sure that they can be read (readable_pages.h); bounded work.
 */
#ifndef SHIM_CFI_H
#define SHIM_CFI_H

#include <stdbool.h>
#include <stdint.h>

/* Where a register of the caller is. */
enum cfi_place {
  CFI_UNCHANGED, /* in the same register still */
  CFI_UNDEFINED, /* nowhere; for the return address: this is the outermost frame */
  CFI_AT_CFA, /* in memory at CFA + offset */
  CFI_CFA_PLUS, /* the value is CFA + offset */
  CFI_EXPRESSION, /* in memory at the expression's value */
  CFI_VALUE_EXPRESSION,
  CFI_ELSEWHERE /* in a register that is not followed */
};

/* Expressions stay where they are in the unwind section: a block, all of which can be read. */
struct cfi_register_rule {
  enum cfi_place place; /* it alone says which of the two the union is */
  uint32_t block_size;
  union {
    int64_t offset; /* CFI_AT_CFA, CFI_CFA_PLUS */
    const uint8_t *block; /* CFI_EXPRESSION, CFI_VALUE_EXPRESSION */
  };
};

enum cfi_base { CFI_BASE_SP, CFI_BASE_FP, CFI_BASE_EXPRESSION, CFI_BASE_OTHER };

struct cfi_rule {
  enum cfi_base base; /* the CFA is base + offset, or an expression's value */
  uint32_t cfa_block_size;
  int64_t cfa_offset; /* never a block's address */
  const uint8_t *cfa_block; /* CFI_BASE_EXPRESSION */
  struct cfi_register_rule fp, sp, return_address; /* sp UNCHANGED: the caller's is the CFA */
  bool signal_frame; /* the caller was interrupted, not calling: its pc is exact */
  uintptr_t start, end; /* of the code that the entry is for: a function or a part of one */
  bool announced; /* by the program, which may take it back at any time (registered_frames.h) */
};

/* The rule at pc in the object whose .eh_frame_hdr is given; its mapped range bounds all reads.
 * False: no unwind information covers pc, or it cannot be understood. */
bool cfi_find_rule(uintptr_t pc, const void *eh_frame_hdr, uintptr_t map_start, uintptr_t map_end,
                   struct cfi_rule *out);

/* The same by an entry that has been read (cfi_entry.h). */
struct cfi_entry;
struct cfi_section;
bool cfi_entry_rule(const struct cfi_entry *entry, const struct cfi_section *section, uintptr_t pc,
                    struct cfi_rule *out);

/* Whether all of it can be understood, and nothing in its instructions is relative to where they
 * are. */
bool cfi_entry_may_be_moved(const struct cfi_entry *entry, const struct cfi_section *section);

/* Evaluates an expression that cfi_find_rule returned, over sp, fp and pc, with the CFA pushed
 * first when cfa is not NULL; read must check the address. False: not understood or not readable.
 */
struct cfi_context {
  uintptr_t pc, sp, fp;
  bool (*read)(void *reader, uintptr_t address, uintptr_t *value);
  void *reader;
};
bool cfi_evaluate(const uint8_t *block, uint32_t size, const struct cfi_context *context,
                  const uintptr_t *cfa, uintptr_t *value);

/* A register's value in the caller, by its rule; unchanged: its value now. False: it cannot be had.
 */
bool cfi_recover(const struct cfi_register_rule *rule, uintptr_t cfa, uintptr_t unchanged,
                 const struct cfi_context *context, uintptr_t *value);

#endif

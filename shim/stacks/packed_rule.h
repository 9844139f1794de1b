/* An unwind rule in 32 bits, as stack_capture.c keeps it for each pc. Context: as cfi.h. */
#ifndef SHIM_PACKED_RULE_H
#define SHIM_PACKED_RULE_H

#include <stdint.h>

#include "cfi.h"

enum rule_kind {
  /* CFA = sp or fp + cfa_words * 8; return address just below it; fp unchanged or fp_words below */
  RULE_ORDINARY = 1,
  RULE_OUTERMOST, /* no caller */
  RULE_UNUSUAL, /* interpret the call frame information again */
  RULE_NONE = 0 /* stored as one of enum without_rule */
};
enum { CFA_WORD_BITS = 15, FP_WORD_BITS = 14 };
struct packed_rule {
  uint32_t kind : 2, cfa_is_fp : 1, cfa_words : CFA_WORD_BITS;
  uint32_t fp_words : FP_WORD_BITS; /* 0: fp unchanged */
};

union rule_bits {
  struct packed_rule rule;
  uint32_t bits;
};

/* What is kept of a pc without a rule, in the place of cfa_words; with cfa_is_fp where its caller
 * is to be found by the frame pointer and nothing else, with fp_words not 0 where that is an
 * interpreter's frame (RETURN_TO_INTERPRETER). */
enum without_rule {
  WITHOUT_RULE = 1, /* in a loaded object */
  CALLED_IN_OBJECT, /* the same, and a call's return address: frames may be guessed from there */
  CALLED_OUTSIDE /* a call's return address in no object: until one is seen there */
};

static inline struct packed_rule pack_rule(const struct cfi_rule *rule) {
  const struct cfi_register_rule *fp = &rule->fp, *caller = &rule->return_address;
  int64_t cfa = rule->cfa_offset;
  if (caller->place == CFI_UNDEFINED) return (struct packed_rule){.kind = RULE_OUTERMOST};
  bool fp_unchanged = fp->place == CFI_UNCHANGED;
  bool fp_saved = fp->place == CFI_AT_CFA && fp->offset < 0 && fp->offset % 8 == 0 &&
                  -fp->offset / 8 < 1 << FP_WORD_BITS;
  bool is_ordinary = (rule->base == CFI_BASE_SP || rule->base == CFI_BASE_FP) && cfa > 0 &&
                     cfa % 8 == 0 && cfa / 8 < 1 << CFA_WORD_BITS && caller->place == CFI_AT_CFA &&
                     caller->offset == -8 && (fp_unchanged || fp_saved) &&
                     rule->sp.place == CFI_UNCHANGED && !rule->signal_frame;
  if (!is_ordinary) return (struct packed_rule){.kind = RULE_UNUSUAL};
  return (struct packed_rule){.kind = RULE_ORDINARY,
                              .cfa_is_fp = rule->base == CFI_BASE_FP,
                              .cfa_words = (uint32_t)(cfa / 8),
                              .fp_words = fp_saved ? (uint32_t)(-fp->offset / 8) : 0};
}

#endif

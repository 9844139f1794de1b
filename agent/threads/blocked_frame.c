#include "blocked_frame.h"

#include <stddef.h>

#include "shim/stacks/unwind_rule.h"

bool frame_rule(const struct blocked_frame *frame, struct cfi_rule *rule) {
  return unwind_rule_find(frame->exact ? frame->pc : frame->pc - 1, rule);
}

enum frame_step frame_without_rule(const struct blocked_frame *frame, uintptr_t initial_sp) {
  /* As in shim/stacks/stack_capture.c: _dl_start_user, which runs constructors at the very top of
   * the first stack, has no unwind information. */
  enum { ENTRY_FRAME_SIZE = 64 };
  if (initial_sp && initial_sp - frame->sp <= ENTRY_FRAME_SIZE) return FRAME_OUTERMOST;
  /* A function that is only ever returned into (glibc's __start_context) has its rule from its
   * first byte on, not one before. */
  struct cfi_rule rule;
  if (!frame->exact && unwind_rule_find(frame->pc, &rule) &&
      rule.return_address.place == CFI_UNDEFINED)
    return FRAME_OUTERMOST;
  return FRAME_NO_UNWIND;
}

static bool read_word(void *reader, uintptr_t address, uintptr_t *value) {
  return memory_reader_word(reader, address, value);
}

enum frame_step frame_step(struct blocked_frame *frame, const struct cfi_rule *rule,
                           struct memory_reader *memory, const uintptr_t *base) {
  if (rule->return_address.place == CFI_UNDEFINED) return FRAME_OUTERMOST;
  struct blocked_frame from = *frame;
  if (base && rule->base != CFI_BASE_OTHER) {
    from.fp = *base;
    from.fp_known = true;
  }
  /* An expression may or may not use rbp: with 0 for it, one that does finds no memory or no CFA
   * above sp. */
  if (!from.fp_known) from.fp = 0;
  enum frame_step failure =
      from.fp_known || rule->base == CFI_BASE_SP ? FRAME_NO_MEMORY : FRAME_NEEDS_BASE;
  struct cfi_context context = {
      .pc = from.pc, .sp = from.sp, .fp = from.fp, .read = read_word, .reader = memory};
  uintptr_t cfa, pc, fp, sp;
  switch (rule->base) {
    case CFI_BASE_SP: cfa = from.sp + (uintptr_t)rule->cfa_offset; break;
    case CFI_BASE_FP:
      if (!from.fp_known) return FRAME_NEEDS_BASE;
      cfa = from.fp + (uintptr_t)rule->cfa_offset;
      break;
    case CFI_BASE_EXPRESSION:
      if (!cfi_evaluate(rule->cfa_block, rule->cfa_block_size, &context, NULL, &cfa))
        return failure;
      break;
    default:
      if (!base) return FRAME_NEEDS_BASE;
      cfa = *base + (uintptr_t)rule->cfa_offset;
  }
  if (!cfi_recover(&rule->return_address, cfa, 0, &context, &pc) ||
      !cfi_recover(&rule->sp, cfa, cfa, &context, &sp))
    return failure;
  /* A signal frame may lead to another stack (sigaltstack), so only calls must go up. */
  if (!rule->signal_frame && sp <= frame->sp) return failure;
  bool fp_known = (rule->fp.place != CFI_UNCHANGED || from.fp_known) &&
                  cfi_recover(&rule->fp, cfa, from.fp, &context, &fp);
  if (!pc) return FRAME_NO_RETURN;
  *frame = (struct blocked_frame){.pc = pc,
                                  .sp = sp,
                                  .fp = fp_known ? fp : 0,
                                  .fp_known = fp_known,
                                  .exact = rule->signal_frame};
  return FRAME_CALLER;
}

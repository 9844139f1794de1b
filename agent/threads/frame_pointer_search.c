#include "frame_pointer_search.h"

#include <stddef.h>

#include "shim/stacks/unwind_rule.h"
#include "agent/stacks/prologue.h"

/* ---- how well a candidate is supported ---- */

enum chain_end {
  CHAIN_BROKEN,
  CHAIN_NO_UNWIND, /* in code made at run time, or assembly */
  CHAIN_NO_RETURN, /* the return address is 0: as many a stack of a program's own making begins, but
                      memory is full of zeros */
  CHAIN_COMPLETE /* in a function that says of itself that nothing called it */
};

struct support {
  enum chain_end end;
  enum call_evidence first; /* of the call into the frame in question */
  uint32_t tails, indirects; /* calls further up that may or may not fit */
  uintptr_t top; /* sp where the chain ended */
};

static bool better(const struct support *a, const struct support *b) {
  bool a_begins = a->first == CALL_CERTAIN, b_begins = b->first == CALL_CERTAIN;
  if (a_begins != b_begins) return a_begins;
  if (a->end != b->end) return a->end > b->end;
  /* A stack has one outermost frame: a chain that ends below it only met a copy of its address (in
   * a backtrace that was taken, say). */
  if (a->end == CHAIN_COMPLETE && a->top != b->top) return a->top > b->top;
  if (a->tails != b->tails) return a->tails < b->tails;
  return a->first != b->first ? a->first > b->first : a->indirects < b->indirects;
}

/* Enough to look no further. fixed: found where the function's prologue says. */
static bool is_certain(const struct support *support, bool fixed) {
  if (fixed && support->first == CALL_CERTAIN) return support->end != CHAIN_BROKEN;
  if (fixed && support->first == CALL_INDIRECT) return support->end == CHAIN_COMPLETE;
  return support->first == CALL_CERTAIN && support->tails == 0 && support->end == CHAIN_COMPLETE;
}

/* Enough to be taken when nothing better is found: a chain that does not reach a thread's start
 * must at least begin beyond doubt. */
static bool is_enough(const struct support *support, bool fixed) {
  return support->end == CHAIN_COMPLETE ||
         (support->first == CALL_CERTAIN && (fixed || support->end != CHAIN_BROKEN));
}

static bool search_at_depth(struct frame_pointer_search *search, const struct blocked_frame *frame,
                            const struct cfi_rule *rule, unsigned depth, uintptr_t *base);

/* How the frame that was called by `caller` got there; callee: the called frame's rule. */
static enum call_evidence evidence_of_link(struct frame_pointer_search *search,
                                           const struct cfi_rule *callee,
                                           const struct blocked_frame *caller) {
  enum call_evidence evidence =
      call_site_evidence(&search->code, caller->pc, callee->start, callee->end);
  if (evidence != CALL_NONE) return evidence;
  /* Nothing calls a signal handler: it returns into the code that ends it. Nor is the first
   * function of a coroutine called: it returns to the start of another. */
  struct cfi_rule rule;
  if (frame_rule(caller, &rule))
    return rule.signal_frame || rule.return_address.place == CFI_UNDEFINED ? CALL_INDIRECT
                                                                           : CALL_NONE;
  return unwind_rule_find(caller->pc, &rule) && rule.start == caller->pc ? CALL_INDIRECT
                                                                         : CALL_NONE;
}

/* Follows the chain from the frame, given the base of its first step. */
static struct support follow(struct frame_pointer_search *search, struct blocked_frame frame,
                             const struct cfi_rule *first_rule, uintptr_t first_base,
                             unsigned depth) {
  enum {
    LINKS_MAX = 512
  }; /* that fit one another: no accident; deep recursion need not be followed to its end */
  struct support support = {.end = CHAIN_BROKEN};
  struct cfi_rule rule = *first_rule;
  uintptr_t base = first_base;
  unsigned links = 0;
  for (bool first = true, has_base = true; search->steps_left > 0; first = false) {
    search->steps_left--;
    if (links++ == LINKS_MAX) {
      support.end = CHAIN_COMPLETE;
      return support;
    }
    support.top = frame.sp;
    enum frame_step step = frame_step(&frame, &rule, search->code.memory, has_base ? &base : NULL);
    if (step == FRAME_NEEDS_BASE && !has_base &&
        search_at_depth(search, &frame, &rule, depth + 1, &base)) {
      has_base = true;
      continue;
    }
    has_base = false;
    if (!first && step == FRAME_OUTERMOST) support.end = CHAIN_COMPLETE;
    if (!first && step == FRAME_NO_RETURN) support.end = CHAIN_NO_RETURN;
    if (step != FRAME_CALLER) return support;
    if (!frame.exact) {
      enum call_evidence evidence = evidence_of_link(search, &rule, &frame);
      if (evidence <= CALL_CONTRADICTED) return support;
      if (first) support.first = evidence;
      support.tails += evidence == CALL_TAIL;
      support.indirects += evidence == CALL_INDIRECT;
    } else if (first) {
      support.first = CALL_INDIRECT;
    }
    if (frame_rule(&frame, &rule)) continue;
    support.top = frame.sp;
    step = frame_without_rule(&frame, search->initial_sp);
    support.end = step == FRAME_OUTERMOST                       ? CHAIN_COMPLETE
                  : code_is_executable(&search->code, frame.pc) ? CHAIN_NO_UNWIND
                                                                : CHAIN_BROKEN;
    return support;
  }
  return support;
}

/* ---- candidates ---- */

struct choice {
  bool any;
  uintptr_t base;
  struct support support;
};

/* True: this one is certain. */
static bool consider(struct frame_pointer_search *search, const struct blocked_frame *frame,
                     const struct cfi_rule *rule, uintptr_t base, bool fixed, unsigned depth,
                     struct choice *choice) {
  struct support support = follow(search, *frame, rule, base, depth);
  if (!is_enough(&support, fixed)) return false;
  if (!choice->any || better(&support, &choice->support))
    *choice = (struct choice){true, base, support};
  return is_certain(&support, fixed);
}

/* Where the return address is for a given base, when the rule says so plainly. */
static bool plain_return_slot(const struct cfi_rule *rule, uintptr_t *offset) {
  if ((rule->base != CFI_BASE_FP && rule->base != CFI_BASE_OTHER) ||
      rule->return_address.place != CFI_AT_CFA)
    return false;
  *offset = (uintptr_t)(rule->cfa_offset + rule->return_address.offset);
  return true;
}

/* The thread's control block, which begins with its own address, twice: glibc puts it above the
 * thread's stack. */
static bool is_thread_block(struct memory_reader *memory, uintptr_t at, uintptr_t word) {
  enum { SELF = 16 };
  uintptr_t self;
  return word == at && memory_reader_word(memory, at + SELF, &self) && self == at;
}

static void scan(struct frame_pointer_search *search, const struct blocked_frame *frame,
                 const struct cfi_rule *rule, uintptr_t from, unsigned depth,
                 struct choice *choice) {
  enum { SCAN_BYTES_MAX = 1 << 20, WORD = sizeof(uintptr_t) };
  struct memory_reader *memory = search->code.memory;
  uintptr_t offset = 0, word, slot;
  bool plain = plain_return_slot(rule, &offset);
  for (uintptr_t base = from;
       base - from < SCAN_BYTES_MAX && base != search->initial_sp && search->steps_left > 0;
       base += WORD) {
    if (!memory_reader_word(memory, base, &word) || is_thread_block(memory, base, word)) return;
    if (plain && (!memory_reader_word(memory, base + offset, &slot) ||
                  !code_is_executable(&search->code, slot)))
      continue;
    if (consider(search, frame, rule, base, false, depth, choice)) return;
  }
}

static bool search_at_depth(struct frame_pointer_search *search, const struct blocked_frame *frame,
                            const struct cfi_rule *rule, unsigned depth, uintptr_t *base) {
  enum { DEPTH_MAX = 2, WORD = sizeof(uintptr_t) };
  if (depth > DEPTH_MAX) return false;
  struct choice choice = {0};
  struct prologue prologue = {0};
  uintptr_t *hint_pc = &search->hints[frame->pc % FRAME_HINTS].pc,
            *hint_distance = &search->hints[frame->pc % FRAME_HINTS].distance;
  bool found = false;
  if (rule->base == CFI_BASE_OTHER ||
      !prologue_read(search->code.memory, rule->start, frame->pc, &prologue))
    prologue.count = 0;
  if (!prologue.rounded)
    for (uint32_t i = prologue.count; i > 0 && !found; i--)
      found =
          consider(search, frame, rule, frame->sp + prologue.below[i - 1], true, depth, &choice);
  uintptr_t from = (frame->sp + prologue.least) & ~(uintptr_t)(WORD - 1);
  if (!found && *hint_pc == frame->pc)
    found = consider(search, frame, rule, frame->sp + *hint_distance, true, depth, &choice);
  if (!found) scan(search, frame, rule, from, depth, &choice);
  if (!choice.any) return false;
  *base = choice.base;
  *hint_pc = frame->pc;
  *hint_distance = choice.base - frame->sp;
  return true;
}

bool frame_pointer_search(struct frame_pointer_search *search, const struct blocked_frame *frame,
                          const struct cfi_rule *rule, uintptr_t *base) {
  return search_at_depth(search, frame, rule, 0, base);
}

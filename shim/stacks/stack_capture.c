#include "stack_capture.h"

#include <stdatomic.h>
#include <stdbool.h>

#include "shim/base/counters.h"
#include "epilogue.h"
#include "host_handlers.h"
#include "shim/next/interposed.h"
#include "packed_rule.h"
#include "registered_frames.h"
#include "return_address.h"
#include "stack_halves.h"
#include "stack_range.h"
#include "shim/base/thread_state.h"
#include "thread_trampoline.h"
#include "unwind_rule.h"

/* ---- the shared rule cache ----
 *
 * One word an entry, so that a reader never sees half of one: loads and stores are relaxed, and the
 * word says by itself which pc it is for. A pc has PC_BITS bits; multiplying by an odd number
 * modulo 2^PC_BITS can be undone, so the INDEX_BITS that choose the entry and the TAG_BITS kept in
 * it together are the pc, without loss. Whoever misses computes the rule and overwrites the entry.
 */
enum { PC_BITS = 47, INDEX_BITS = 15, TAG_BITS = PC_BITS - INDEX_BITS, RULE_BITS = 64 - TAG_BITS };
_Static_assert(sizeof(struct packed_rule) * 8 == RULE_BITS, "a rule fills what the tag leaves");
static _Atomic uint64_t rule_cache[1 << INDEX_BITS]; /* 256 KiB of .bss for the whole process,
                                                        touched as used; 0: empty */

/* A bit for each page of it that has been written: a page that is read first, and then written,
 * costs two faults, and most processes are over before they have touched them all. Set by whoever
 * is about to write there; a reader that does not see it yet computes the rule once more. */
enum { PAGE_INDEX_BITS = INDEX_BITS - 6 };
static _Atomic uint64_t written_pages;

static bool is_on_written_page(uint64_t index) {
  uint64_t pages = atomic_load_explicit(&written_pages, memory_order_relaxed);
  return pages >> (index >> PAGE_INDEX_BITS) & 1;
}

static uint64_t scramble(uintptr_t pc) {
  return pc * 0x9e3779b97f4a7c15ull & (((uint64_t)1 << PC_BITS) - 1);
}

static _Atomic bool any_called_outside; /* set with the first one; never cleared */

void stack_capture_object_appears(void) {
  if (atomic_load_explicit(&any_called_outside, memory_order_relaxed)) stack_capture_forget_rules();
}

void stack_capture_forget_rules(void) {
  for (uint32_t i = 0; i < 1 << INDEX_BITS; i++)
    if (is_on_written_page(i) && atomic_load_explicit(&rule_cache[i], memory_order_relaxed))
      atomic_store_explicit(&rule_cache[i], 0, memory_order_relaxed);
}

/* _dl_start_user, which runs constructors at the very top of the first stack, has no unwind
 * information in glibc 2.36. */
enum { ENTRY_FRAME_SIZE = 64 };

/* For cfi_context. */
static bool read_word(void *reader, uintptr_t address, uintptr_t *value) {
  return read_stack(reader, address, value);
}

/* ---- one step ---- */

struct frame_state {
  uintptr_t pc, sp, fp;
  uintptr_t rbx; /* where it is exact */
  bool exact; /* pc is where the frame was interrupted, not a return address */
  bool guessed; /* found without unwind information (STEP_GUESSED) */
  bool read; /* its code has been, with what is in epilogue as the result */
  struct packed_rule known; /* then what is kept of the pc, if that has no rule; else nothing */
  struct epilogue epilogue;
};

enum step { STEP_CALLER, STEP_GUESSED, STEP_OUTERMOST, STEP_NO_UNWIND, STEP_NO_MEMORY };

static const struct packed_rule no_rule = {.kind = RULE_NONE, .cfa_words = WITHOUT_RULE};

static void remember_rule(uintptr_t pc, struct packed_rule rule) {
  union rule_bits packed = {.rule = rule};
  uint64_t scrambled = scramble(pc), tag = scrambled & (((uint64_t)1 << TAG_BITS) - 1);
  uint64_t index = scrambled >> TAG_BITS;
  if (!is_on_written_page(index)) /* first, or who forgets all would miss this one */
    atomic_fetch_or_explicit(&written_pages, UINT64_C(1) << (index >> PAGE_INDEX_BITS),
                             memory_order_seq_cst);
  atomic_store_explicit(&rule_cache[index], (uint64_t)packed.bits << TAG_BITS | tag,
                        memory_order_relaxed);
}

static __attribute__((noinline)) struct packed_rule compute_rule(uintptr_t pc,
                                                                 struct stack_range *range,
                                                                 struct cfi_rule *unusual) {
  if (pc >> PC_BITS) return no_rule;
  struct packed_rule packed = no_rule;
  if (unwind_rule_find_next(pc, &range->announced, unusual)) {
    packed = pack_rule(unusual);
    if (unusual->announced) return packed;
  } else if (!unwind_rule_is_settled(pc)) {
    return no_rule;
  }
  remember_rule(pc, packed);
  return packed;
}

/* Since then the program may have registered tables for that code. */
static __attribute__((noinline)) struct packed_rule look_again(uintptr_t pc,
                                                               struct stack_range *range,
                                                               struct cfi_rule *unusual,
                                                               struct packed_rule known) {
  return registered_frames_find(pc, &range->announced, unusual) ? pack_rule(unusual) : known;
}

static inline __attribute__((always_inline)) struct packed_rule rule_at(uintptr_t pc,
                                                                        struct stack_range *range,
                                                                        struct cfi_rule *unusual) {
  uint64_t scrambled = scramble(pc), index = scrambled >> TAG_BITS;
  if (UNLIKELY(!is_on_written_page(index))) return compute_rule(pc, range, unusual);
  uint64_t word = atomic_load_explicit(&rule_cache[index], memory_order_relaxed);
  union rule_bits packed = {.bits = (uint32_t)(word >> TAG_BITS)};
  bool known = !((word ^ scrambled) & (((uint64_t)1 << TAG_BITS) - 1)) && !(pc >> PC_BITS);
  if (LIKELY(known && packed.rule.kind != RULE_NONE && packed.rule.kind != RULE_UNUSUAL))
    return packed.rule;
  if (known && packed.rule.kind == RULE_NONE && packed.rule.cfa_words)
    return packed.rule.cfa_words == CALLED_OUTSIDE ? look_again(pc, range, unusual, packed.rule)
                                                   : packed.rule;
  return compute_rule(pc, range, unusual);
}

static enum step step_unusual(struct frame_state *frame, const struct cfi_rule *rule,
                              struct stack_range *range) {
  struct cfi_context context = {
      .pc = frame->pc, .sp = frame->sp, .fp = frame->fp, .read = read_word, .reader = range};
  uintptr_t cfa, pc, fp, sp;
  switch (rule->base) {
    case CFI_BASE_SP: cfa = frame->sp + (uintptr_t)rule->cfa_offset; break;
    case CFI_BASE_FP: cfa = frame->fp + (uintptr_t)rule->cfa_offset; break;
    case CFI_BASE_EXPRESSION:
      if (!cfi_evaluate(rule->cfa_block, rule->cfa_block_size, &context, NULL, &cfa))
        return STEP_NO_MEMORY;
      break;
    default: return STEP_NO_UNWIND;
  }
  if (!cfi_recover(&rule->return_address, cfa, 0, &context, &pc) ||
      !cfi_recover(&rule->sp, cfa, cfa, &context, &sp))
    return STEP_NO_MEMORY;
  if (!cfi_recover(&rule->fp, cfa, frame->fp, &context, &fp))
    fp = 0; /* needed only if a later frame is based on it: then a read fails */
  /* A signal frame may lead to another stack (sigaltstack): only calls must go up. */
  if (rule->signal_frame && !range->is_copy && !rule->announced && return_ends_handler(rule))
    stack_range_go_to(range, sp);
  else if (sp <= frame->sp) return STEP_NO_MEMORY;
  *frame = (struct frame_state){.pc = pc, .sp = sp, .fp = fp, .exact = rule->signal_frame};
  return pc ? STEP_CALLER : STEP_OUTERMOST;
}

/* ---- frames without rules ----
 * Code made at run time and assembly have none, but may keep frame pointers. A step is only taken
 * on the thread's own stack, upwards, to a return address: it follows a call, it can be code, and
 * where its caller has no rule either the next frame pointer leads further up. As soon as there is
 * a rule it is used. */

enum ground { GROUND_NONE, GROUND_WITHOUT_RULE, GROUND_WITH_RULE };
static struct packed_rule remember_called(uintptr_t pc, bool by_fp, bool interprets) {
  bool in_object = unwind_rule_is_settled(pc - 1);
  uint32_t where = in_object ? CALLED_IN_OBJECT : CALLED_OUTSIDE;
  struct packed_rule rule = {
      .kind = RULE_NONE, .cfa_words = where, .cfa_is_fp = by_fp, .fp_words = interprets};
  if (!in_object && !atomic_load_explicit(&any_called_outside, memory_order_relaxed))
    atomic_store_explicit(&any_called_outside, true, memory_order_relaxed);
  remember_rule(pc - 1, rule);
  return rule;
}

static enum ground ground_of(uintptr_t pc, struct stack_range *range, struct packed_rule *known) {
  struct cfi_rule unusual;
  *known = rule_at(pc - 1, range, &unusual);
  if (known->kind == RULE_NONE && known->cfa_words != WITHOUT_RULE) return GROUND_WITHOUT_RULE;
  if (known->kind == RULE_NONE && !unwind_rule_may_be_code(pc - 1)) return GROUND_NONE;
  enum return_kind kind = return_kind_of(pc, range->is_copy);
  if (kind == RETURN_NONE) return GROUND_NONE;
  if (known->kind != RULE_NONE) return GROUND_WITH_RULE;
  bool interprets = kind == RETURN_TO_INTERPRETER;
  *known = remember_called(pc, interprets, interprets);
  return GROUND_WITHOUT_RULE;
}

/* Whether two words there may be a frame's. If only a copy ends before them, that is remembered. */
static bool is_above(struct stack_range *range, uintptr_t sp, uintptr_t at) {
  enum { FRAME_MAX = 1 << 20 };
  if (at < sp || at % sizeof at) return false;
  if (at < range->high && range->high - at >= 2 * sizeof at) return true;
  if (range->is_copy && at - (range->high - sizeof at) < FRAME_MAX) range->past_copy = true;
  return false;
}

/* A caller's code says where its own return address is, seen from sp, and one is there. */
static bool leads_on_by_code(struct frame_state *caller, struct stack_range *range) {
  enum { INSTRUCTIONS = 500 }; /* some 10 us */
  struct packed_rule known;
  uintptr_t pc;
  if (caller->known.cfa_is_fp || !epilogue_find(caller->pc, INSTRUCTIONS, &range->code_read,
                                                range->is_copy, &caller->epilogue))
    return false;
  caller->read = true;
  uintptr_t slot = caller->sp + (uintptr_t)caller->epilogue.return_slot;
  return !caller->epilogue.from_fp && !caller->epilogue.from_rbx &&
         is_above(range, caller->sp, slot) && read_stack(range, slot, &pc) &&
         ground_of(pc, range, &known) != GROUND_NONE;
}

/* The caller whose return address is at the slot: its frame pointer, its stack pointer, or where
 * that may be (0: nowhere else). */
static bool guess_caller(struct frame_state *frame, struct stack_range *range, uintptr_t slot,
                         uintptr_t fp, uintptr_t other_sp) {
  uintptr_t pc;
  if (!read_stack(range, slot, &pc)) return false;
  struct frame_state caller = {.pc = pc, .sp = slot + sizeof pc, .fp = fp, .guessed = true};
  enum ground ground = ground_of(pc, range, &caller.known);
  if (ground == GROUND_NONE) return false;
  if (ground == GROUND_WITH_RULE) caller.known = (struct packed_rule){0};
  bool by_fp = is_above(range, caller.sp, fp);
  if (ground == GROUND_WITHOUT_RULE && (!by_fp || other_sp) && !leads_on_by_code(&caller, range)) {
    struct frame_state other = caller;
    other.sp = other_sp;
    if (other_sp && leads_on_by_code(&other, range)) caller = other;
    else if (!by_fp) return false;
  }
  *frame = caller;
  return true;
}

/* Where an interpreter's frame keeps what the stack pointer was before its caller's arguments were
 * moved: some words up. 0: not there. */
static uintptr_t kept_sp(const struct frame_state *frame, struct stack_range *range) {
  enum { ARGUMENTS_MAX = 256 * sizeof(uintptr_t) };
  uintptr_t sp = frame->fp + 2 * sizeof sp, kept, at = frame->fp - sizeof kept;
  bool is = at >= frame->sp && read_stack(range, at, &kept) && kept % sizeof kept == 0 &&
            kept > sp && kept - sp <= ARGUMENTS_MAX;
  return is ? kept : 0;
}

static bool guess_by_frame_pointer(struct frame_state *frame, struct stack_range *range,
                                   struct packed_rule known) {
  uintptr_t fp;
  if (!is_above(range, frame->sp, frame->fp) || !read_stack(range, frame->fp, &fp)) return false;
  /* Of what was interrupted it is not known whether it is such a frame. */
  bool may_keep = known.fp_words || (frame->exact && known.cfa_words != WITHOUT_RULE);
  uintptr_t kept = may_keep ? kept_sp(frame, range) : 0;
  if (!guess_caller(frame, range, frame->fp + sizeof fp, fp, kept)) return false;
  if (known.fp_words && kept) frame->sp = kept;
  return true;
}

static uintptr_t base_of(const struct epilogue *epilogue, const struct frame_state *frame) {
  if (epilogue->from_rbx) return frame->exact ? frame->rbx : 0;
  return epilogue->from_fp ? frame->fp : frame->sp;
}

static bool guess_from_code(struct frame_state *frame, struct stack_range *range,
                            const struct epilogue *epilogue) {
  uintptr_t base = base_of(epilogue, frame), fp = frame->fp;
  uintptr_t slot = base + (uintptr_t)epilogue->return_slot;
  uintptr_t fp_slot = base + (uintptr_t)epilogue->fp_slot;
  if (!is_above(range, frame->sp, slot)) return false;
  /* Below sp, which is not copied: as a rule rbp has not been saved yet. */
  bool saved = epilogue->fp_saved && !(range->is_copy && fp_slot < frame->sp);
  if (saved && (fp_slot >= slot || !is_above(range, frame->sp - STACK_RED_ZONE, fp_slot) ||
                !read_stack(range, fp_slot, &fp)))
    return false;
  return guess_caller(frame, range, slot, fp, 0);
}

/* A leaf may have no frame, or not yet, or no more, and code may use rbp for something else: then
 * it tells. It is read once a return address where it keeps a frame pointer, or does not tell. */
static bool guess(struct frame_state *frame, struct stack_range *range, struct packed_rule known) {
  enum { OF_LEAF = 8000, OF_CALLER = 500 }; /* instructions: some 160 us, 10 us */
  struct epilogue epilogue = frame->epilogue;
  range->past_copy = false;
  if (!frame->exact && known.cfa_is_fp) return guess_by_frame_pointer(frame, range, known);
  if (!frame->read && !epilogue_find(frame->pc, frame->exact ? OF_LEAF : OF_CALLER,
                                     &range->code_read, range->is_copy, &epilogue)) {
    if (!frame->exact && known.cfa_words != WITHOUT_RULE) remember_called(frame->pc, true, false);
    return guess_by_frame_pointer(frame, range, known);
  }
  /* At this pc it is so each time: sp is where it was in each frame. */
  uintptr_t base = base_of(&epilogue, frame);
  bool by_fp = epilogue.fp_saved && base + (uintptr_t)epilogue.fp_slot == frame->fp &&
               epilogue.return_slot == epilogue.fp_slot + (int64_t)sizeof base;
  if (by_fp && !frame->exact && known.cfa_words != WITHOUT_RULE)
    remember_called(frame->pc, true, false);
  return guess_from_code(frame, range, &epilogue);
}

static enum step step_without_rule(struct frame_state *frame, struct stack_range *range,
                                   struct packed_rule known) {
  struct cfi_rule unusual;
  /* A function that is only ever returned into (glibc's __start_context) has its rule from its
   * first byte on, not one before. */
  if (known.cfa_words == WITHOUT_RULE && rule_at(frame->pc, range, &unusual).kind == RULE_OUTERMOST)
    return STEP_OUTERMOST;
  bool borrows = !range->is_copy; /* whoever has a copy has borrowed already */
  if (!range->is_own || (borrows && !unwind_rule_try_borrow())) return STEP_NO_UNWIND;
  /* What no call has pushed is no frame: a new thread's first instructions return to nowhere. */
  bool is_frame = known.cfa_words != WITHOUT_RULE || frame->exact ||
                  ground_of(frame->pc, range, &known) != GROUND_NONE;
  enum step step = is_frame && guess(frame, range, known) ? STEP_GUESSED : STEP_NO_UNWIND;
  if (step == STEP_NO_UNWIND && range->past_copy) step = STEP_NO_MEMORY;
  if (borrows) unwind_rule_borrow_end();
  return step;
}

static enum step step_to_caller(struct frame_state *frame, struct stack_range *range) {
  struct cfi_rule unusual;
  struct packed_rule rule =
      UNLIKELY(frame->guessed && frame->known.cfa_words)
          ? frame->known
          : rule_at(frame->exact ? frame->pc : frame->pc - 1, range, &unusual);
  switch ((enum rule_kind)rule.kind) {
    case RULE_OUTERMOST: return STEP_OUTERMOST;
    case RULE_NONE: return step_without_rule(frame, range, rule);
    case RULE_UNUSUAL: return step_unusual(frame, &unusual, range);
    case RULE_ORDINARY: break;
  }
  uintptr_t cfa = (rule.cfa_is_fp ? frame->fp : frame->sp) + rule.cfa_words * 8u, pc;
  if (UNLIKELY(cfa <= frame->sp)) return STEP_NO_MEMORY;
  if (UNLIKELY(!read_stack(range, cfa - 8, &pc)) &&
      !(rule.cfa_is_fp && stack_range_leave_for(range, cfa - 8) && read_stack(range, cfa - 8, &pc)))
    return STEP_NO_MEMORY;
  if (rule.fp_words && UNLIKELY(!read_stack(range, cfa - rule.fp_words * 8u, &frame->fp)))
    return STEP_NO_MEMORY;
  frame->pc = pc;
  frame->sp = cfa;
  frame->exact = frame->guessed = frame->read = false;
  return pc ? STEP_CALLER : STEP_OUTERMOST;
}

extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char _etext[] __attribute__((visibility("hidden")));

void stack_capture_own_code(uintptr_t *start, uintptr_t *end) {
  *start = (uintptr_t)__ehdr_start;
  *end = (uintptr_t)_etext;
}

/* But for what the program's signal handlers return to. */
static bool is_own_code(uintptr_t pc) {
  return pc - (uintptr_t)__ehdr_start < (uintptr_t)_etext - (uintptr_t)__ehdr_start &&
         pc != (uintptr_t)__restore_rt;
}

enum {
  WRAPPER_DEPTH = 4
}; /* frames that the C++ runtime may have between malloc's wrapper and operator new's */

static void count_losses(enum stack_marker marker, bool guessed, bool is_joined) {
  if (marker == STACK_TRUNCATED_NO_UNWIND) COUNT_LOSS(stacks_truncated_no_unwind);
  else if (marker == STACK_TRUNCATED_MEMORY) COUNT_LOSS(stacks_truncated_memory);
  if (marker == STACK_TRUNCATED_DEPTH || is_joined) COUNT_LOSS(stacks_truncated_depth);
  if (guessed) COUNT_LOSS(stacks_guessed);
}

void stack_capture_count_losses(const struct captured_stack *stack) {
  uint32_t count = stack->frame_count;
  bool guessed = count > 1 && stack_marker_is_guess(stack->frames[count - 1]), is_joined = false;
  uint64_t last = stack->frames[count - 1 - guessed];
  for (uint32_t i = 0; i < count; i++)
    is_joined = is_joined || stack_marker_is_missing(stack->frames[i]);
  count_losses(last < STACK_MARKER_LIMIT ? (enum stack_marker)last : 0, guessed, is_joined);
}

static inline __attribute__((always_inline)) void capture(struct frame_state frame,
                                                          struct stack_range range,
                                                          bool hide_wrappers,
                                                          struct captured_stack *out) {
  const struct stack_halves halves = stack_halves();
  uint32_t count = 0, guessed = 0;
  enum stack_marker marker = 0;
  out->crosses_signal = false;
  for (;;) {
    /* Wrappers that did not end in a tail call are ours to hide. */
    if (!hide_wrappers || LIKELY(count > WRAPPER_DEPTH || !is_own_code(frame.pc))) {
      if (UNLIKELY(count == STACK_WALKED_MAX)) {
        count = halves.leaf; /* what follows is not the other end */
        marker = STACK_TRUNCATED_DEPTH;
        break;
      }
      out->frames[stack_place(&halves, count++)] = frame.exact ? frame.pc + 1 : frame.pc;
    }
    uintptr_t pc = frame.pc;
    enum step step = step_to_caller(&frame, &range);
    guessed += step == STEP_GUESSED;
    if (LIKELY(step <= STEP_GUESSED)) {
      /* What a signal handler returns to was never called: its pc is exact, and before it lies
       * another function. */
      if (LIKELY(!frame.exact)) continue;
      out->crosses_signal = true;
      uint64_t *last = &out->frames[stack_place(&halves, count - 1)];
      if (count > 0 && *last == pc) *last = pc + 1;
      continue;
    }
    if (step == STEP_NO_UNWIND && stack_range_main_high - frame.sp <= ENTRY_FRAME_SIZE)
      break; /* the loader's entry: nothing called it */
    if (step == STEP_NO_UNWIND) marker = STACK_TRUNCATED_NO_UNWIND;
    else if (step == STEP_NO_MEMORY) marker = STACK_TRUNCATED_MEMORY;
    break;
  }
  bool is_joined = UNLIKELY(count > halves.all);
  if (is_joined) count = stack_join(&halves, out->frames, count);
  count = thread_trampoline_leave_out(out->frames, count);
  if (UNLIKELY(marker || guessed || is_joined) && !range.is_copy)
    count_losses(marker, guessed != 0, is_joined);
  /* there is room for one marker */
  if (UNLIKELY(guessed) && marker && count == halves.all) count--;
  if (marker) out->frames[count++] = marker;
  if (UNLIKELY(guessed)) out->frames[count++] = stack_marker_of_guesses(guessed);
  out->frame_count = count;
}

void stack_capture(const struct unwind_registers *caller, struct captured_stack *out) {
  capture((struct frame_state){.pc = caller->pc, .sp = caller->sp, .fp = caller->fp},
          stack_range_own(&thread_state, caller->sp), true, out);
}

static struct frame_state interrupted_frame(const struct unwind_registers *registers) {
  return (struct frame_state){.pc = registers->pc,
                              .sp = registers->sp,
                              .fp = registers->fp,
                              .rbx = registers->rbx,
                              .exact = true};
}

void stack_capture_interrupted(const struct unwind_registers *registers,
                               struct thread_state *thread, struct captured_stack *out) {
  capture(interrupted_frame(registers), stack_range_own(thread, registers->sp), false, out);
}

void stack_capture_copied(const struct unwind_registers *registers, const void *copy, size_t size,
                          const struct stack_rest *rest, struct captured_stack *out) {
  struct stack_range range = {.low = registers->sp,
                              .high = registers->sp + size,
                              .is_own = true,
                              .is_copy = true,
                              .rest = rest,
                              .shift = (uintptr_t)copy - registers->sp};
  capture(interrupted_frame(registers), range, false, out);
}

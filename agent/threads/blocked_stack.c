#include "blocked_stack.h"

#include <stddef.h>

#include "shim/stacks/module_registry.h"
#include "shim/stacks/stack_halves.h"
#include "shim/stacks/unwind_rule.h"
#include "agent/runtime/agent_memory.h"
#include "agent/runtime/first_stack.h"
#include "frame_pointer_search.h"
#include "agent/runtime/memory_reader.h"
#include "agent/stacks/remote_unwind.h"

enum { REFUSALS_MAX = 3 };

struct blocked_stack_reader {
  struct frame_pointer_search search;
  struct remote_unwinder *unwinder; /* NULL: no memory for it; then the built-in interpreter does */
  uintptr_t hidden_start, hidden_end;
  int refusals_left; /* each takes time: a dlclose that takes for ever is not to hold up every
                        thread's stack */
};

struct blocked_stack_reader *blocked_stack_reader_new(const struct mappings *mappings,
                                                      uintptr_t hidden_start,
                                                      uintptr_t hidden_end) {
  struct blocked_stack_reader *reader = agent_calloc(1, sizeof *reader);
  struct memory_reader *memory = memory_reader_new();
  if (!reader || !memory) {
    agent_free(reader);
    memory_reader_release(memory);
    return NULL;
  }
  reader->search.code = (struct code_view){memory, mappings};
  reader->search.initial_sp = first_stack_start();
  reader->hidden_start = hidden_start;
  reader->hidden_end = hidden_end;
  reader->refusals_left = REFUSALS_MAX;
  reader->unwinder = remote_unwinder_new();
  return reader;
}

void blocked_stack_reader_release(struct blocked_stack_reader *reader) {
  if (!reader) return;
  memory_reader_release(reader->search.code.memory);
  remote_unwinder_release(reader->unwinder);
  agent_free(reader);
}

struct memory_reader *blocked_stack_memory(struct blocked_stack_reader *reader) {
  return reader->search.code.memory;
}

static enum frame_step step_by_interpreter(struct frame_pointer_search *search,
                                           struct blocked_frame *frame) {
  struct cfi_rule rule;
  if (!frame_rule(frame, &rule)) return frame_without_rule(frame, search->initial_sp);
  enum frame_step step = frame_step(frame, &rule, search->code.memory, NULL);
  uintptr_t base;
  if (step == FRAME_NEEDS_BASE && frame_pointer_search(search, frame, &rule, &base))
    step = frame_step(frame, &rule, search->code.memory, &base);
  return step;
}

/* Finds the register that the frame is based on and that the kernel does not tell. */
static bool find_base(struct blocked_stack_reader *reader, struct blocked_frame frame, int number) {
  struct cfi_rule rule;
  uintptr_t base;
  frame.fp_known = remote_unwind_register(reader->unwinder, REMOTE_RBP, &frame.fp);
  if (!frame_rule(&frame, &rule) || (rule.base != CFI_BASE_OTHER && number != REMOTE_RBP) ||
      !frame_pointer_search(&reader->search, &frame, &rule, &base))
    return false;
  remote_unwind_set_register(reader->unwinder, number, base);
  return true;
}

static enum frame_step step_by_libunwind(struct blocked_stack_reader *reader,
                                         struct blocked_frame *frame) {
  enum remote_step step = remote_unwind_step(reader->unwinder);
  const struct remote_frame *now = remote_unwind_frame(reader->unwinder);
  if (step == REMOTE_NEEDS_REGISTER) {
    if (!find_base(reader, *frame, now->missing)) return FRAME_NEEDS_BASE;
    step = remote_unwind_step(reader->unwinder);
  }
  *frame = (struct blocked_frame){.pc = now->pc, .sp = now->sp, .exact = now->exact};
  switch (step) {
    case REMOTE_CALLER: return FRAME_CALLER;
    case REMOTE_OUTERMOST: return FRAME_OUTERMOST;
    case REMOTE_NO_UNWIND: return FRAME_NO_UNWIND;
    case REMOTE_NEEDS_REGISTER: return FRAME_NEEDS_BASE;
    default: return FRAME_NO_MEMORY;
  }
}

static void begin(struct blocked_stack_reader *reader, const struct blocked_frame *frame) {
  struct remote_registers registers = {.known = 1u << REMOTE_PC | 1u << REMOTE_RSP,
                                       .exact = frame->exact};
  registers.value[REMOTE_PC] = frame->pc;
  registers.value[REMOTE_RSP] = frame->sp;
  if (reader->unwinder) remote_unwind_begin(reader->unwinder, &registers, NULL);
}

static enum frame_step step_to_caller(struct blocked_stack_reader *reader,
                                      struct blocked_frame *frame) {
  return reader->unwinder ? step_by_libunwind(reader, frame)
                          : step_by_interpreter(&reader->search, frame);
}

static void follow_frames(struct blocked_stack_reader *reader, struct blocked_frame frame,
                          struct captured_stack *out) {
  enum { HIDDEN_MAX = 64 };
  const struct stack_halves halves = stack_halves();
  uint32_t count = 0, hidden = 0;
  enum stack_marker marker = 0;
  begin(reader, &frame);
  for (;;) {
    bool hide = frame.pc - reader->hidden_start < reader->hidden_end - reader->hidden_start &&
                hidden++ < HIDDEN_MAX;
    if (!hide && count == STACK_WALKED_MAX) {
      count = halves.leaf; /* what follows is not the other end */
      marker = STACK_TRUNCATED_DEPTH;
      break;
    }
    if (!hide) out->frames[stack_place(&halves, count++)] = frame.exact ? frame.pc + 1 : frame.pc;
    uintptr_t pc = frame.pc;
    enum frame_step step = step_to_caller(reader, &frame);
    /* What a signal handler returns to was never called: its pc is exact, and before it lies
     * another function. */
    if (step == FRAME_CALLER && frame.exact && !hide)
      out->frames[stack_place(&halves, count - 1)] = pc + 1;
    if (step == FRAME_CALLER && code_is_executable(&reader->search.code, frame.pc)) continue;
    if (step == FRAME_CALLER)
      step = FRAME_NO_MEMORY; /* not a return address: what is there is not a frame */
    if (step == FRAME_NO_MEMORY) marker = STACK_TRUNCATED_MEMORY;
    else if (step != FRAME_OUTERMOST && step != FRAME_NO_RETURN) marker = STACK_TRUNCATED_NO_UNWIND;
    break;
  }
  if (count > halves.all) count = stack_join(&halves, out->frames, count);
  if (marker) out->frames[count++] = marker;
  out->frame_count = count;
}

bool blocked_stack_read(struct blocked_stack_reader *reader,
                        const struct blocked_registers *registers, struct captured_stack *out,
                        uint32_t *epoch) {
  memory_reader_forget(reader->search.code.memory);
  reader->search.steps_left = FRAME_SEARCH_STEPS;
  if (reader->refusals_left == 0 || !unwind_rule_borrow_begin()) {
    if (reader->refusals_left > 0) reader->refusals_left--;
    return false;
  }
  follow_frames(
      reader,
      (struct blocked_frame){.pc = registers->pc, .sp = registers->sp, .exact = registers->exact},
      out);
  *epoch = module_registry_epoch_of(out->frames, out->frame_count);
  unwind_rule_borrow_end();
  return true;
}

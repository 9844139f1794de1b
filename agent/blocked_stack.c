#include "blocked_stack.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "../shim/module_registry.h"
#include "../shim/unwind_rule.h"
#include "agent_memory.h"
#include "frame_pointer_search.h"
#include "memory_reader.h"
#include "process_info.h"

enum { REFUSALS_MAX = 3 };

struct blocked_stack_reader {
  struct frame_pointer_search search;
  uintptr_t hidden_start, hidden_end;
  int refusals_left; /* each takes time: a dlclose that takes for ever is not to hold up every thread's stack */
};

/* Where the kernel put the arguments of the first program: field 28 of proc(5)'s stat. 0: not known. */
static uintptr_t first_stack_start(void) {
  enum { STAT_MAX = 4096, FIELD = 28 };
  size_t size;
  char *stat = process_read_file("/proc/thread-self/stat", STAT_MAX, &size), *at = stat ? strrchr(stat, ')') : NULL;
  for (int field = 2; at && field < FIELD; field++)
    if ((at = strchr(at, ' '))) at++;
  uintptr_t start = at ? strtoull(at, NULL, 10) : 0;
  agent_free(stat);
  return start;
}

struct blocked_stack_reader *blocked_stack_reader_new(const struct mappings *mappings, uintptr_t hidden_start, uintptr_t hidden_end) {
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
  return reader;
}

void blocked_stack_reader_release(struct blocked_stack_reader *reader) {
  if (reader) memory_reader_release(reader->search.code.memory);
  agent_free(reader);
}

struct memory_reader *blocked_stack_memory(struct blocked_stack_reader *reader) { return reader->search.code.memory; }

static enum frame_step step_to_caller(struct frame_pointer_search *search, struct blocked_frame *frame) {
  struct cfi_rule rule;
  if (!frame_rule(frame, &rule)) return frame_without_rule(frame, search->initial_sp);
  enum frame_step step = frame_step(frame, &rule, search->code.memory, NULL);
  uintptr_t base;
  if (step == FRAME_NEEDS_BASE && frame_pointer_search(search, frame, &rule, &base))
    step = frame_step(frame, &rule, search->code.memory, &base);
  return step;
}

static void follow_frames(struct blocked_stack_reader *reader, struct blocked_frame frame, struct captured_stack *out) {
  enum { HIDDEN_MAX = 64 };
  uint32_t count = 0, hidden = 0;
  enum stack_marker marker = 0;
  for (;;) {
    bool hide = frame.pc - reader->hidden_start < reader->hidden_end - reader->hidden_start && hidden++ < HIDDEN_MAX;
    if (!hide && count == STACK_MAX_FRAMES) {
      marker = STACK_TRUNCATED_DEPTH;
      break;
    }
    if (!hide) out->frames[count++] = frame.exact ? frame.pc + 1 : frame.pc;
    uintptr_t pc = frame.pc;
    enum frame_step step = step_to_caller(&reader->search, &frame);
    /* What a signal handler returns to was never called: its pc is exact, and before it lies another function. */
    if (step == FRAME_CALLER && frame.exact && !hide) out->frames[count - 1] = pc + 1;
    if (step == FRAME_CALLER && code_is_executable(&reader->search.code, frame.pc)) continue;
    if (step == FRAME_CALLER) step = FRAME_NO_MEMORY; /* not a return address: what is there is not a frame */
    if (step == FRAME_NO_MEMORY) marker = STACK_TRUNCATED_MEMORY;
    else if (step != FRAME_OUTERMOST && step != FRAME_NO_RETURN) marker = STACK_TRUNCATED_NO_UNWIND;
    break;
  }
  if (marker) out->frames[count++] = marker;
  out->frame_count = count;
}

bool blocked_stack_read(struct blocked_stack_reader *reader, const struct blocked_registers *registers, struct captured_stack *out,
                        uint32_t *epoch) {
  memory_reader_forget(reader->search.code.memory);
  reader->search.steps_left = FRAME_SEARCH_STEPS;
  if (reader->refusals_left == 0 || !unwind_rule_borrow_begin()) {
    if (reader->refusals_left > 0) reader->refusals_left--;
    return false;
  }
  follow_frames(reader, (struct blocked_frame){.pc = registers->pc, .sp = registers->sp, .exact = registers->exact}, out);
  *epoch = module_registry_epoch_of(out->frames, out->frame_count);
  unwind_rule_borrow_end();
  return true;
}

#include "ring_stack.h"

#include <string.h>

#include "shim/stacks/module_registry.h"
#include "shim/stacks/return_address.h"
#include "shim/stacks/stack_capture.h"
#include "shim/stacks/stack_range.h"
#include "shim/stacks/thread_trampoline.h"
#include "shim/stacks/unwind_rule.h"
#include "agent/runtime/memory_reader.h"
#include "agent/runtime/own_memory.h"
#include "agent/threads/thread_list.h"

/* Under the caller's lock. */
static bool refused_to_lend; /* unwind tables, since the rings began to be read */
static struct remote_unwinder *unwinder; /* NULL, like the next: not needed yet */
static struct memory_reader *memory;

static bool ends_at(const struct captured_stack *stack, enum stack_marker marker) {
  const uint64_t *frames = stack->frames;
  uint32_t count = stack->frame_count;
  return frames[count - 1] == marker ||
         (count > 1 && frames[count - 2] == marker); /* one of guessed frames may follow */
}

/* What the walker cannot follow, for want of registers (a frame that is based on rbx or r12) or of
 * tables that are loaded: if libunwind gets to its end. */
static void unwind_remotely(const struct perf_ring_record *record, struct captured_stack *stack) {
  uint64_t frames[STACK_MOST_FRAMES];
  enum remote_step end;
  if (!unwinder) unwinder = remote_unwinder_new();
  if (!unwinder) return;
  const struct stack_copy copy = {.start = record->registers.value[REMOTE_RSP],
                                  .bytes = record->stack,
                                  .size = record->stack_size};
  size_t found = remote_unwind(unwinder, &record->registers, &copy, frames, stack_depth(), &end);
  if (end != REMOTE_OUTERMOST) return;
  memcpy(stack->frames, frames, found * sizeof *frames);
  stack->frame_count = thread_trampoline_leave_out(stack->frames, (uint32_t)found);
}

/* Pages that were never written are none yet, and the kernel's copy ends there, as it may not wait.
 * Reading them once makes them pages of zeros: the next sample has what lies above. */
static void make_pages(const struct perf_ring_record *record) {
  enum { PAGE = 4096 };
  uintptr_t start = record->registers.value[REMOTE_RSP], end = start + PERF_RING_DEEP_STACK;
  char byte;
  uintptr_t at = start + record->stack_size;
  while (at < end && own_memory_read(at, &byte, 1) > 0) at += PAGE;
}

/* ---- what lies above the copy ---- */

static bool read_rest(void *argument, uintptr_t address, uintptr_t *value) {
  return memory_reader_word(argument, address, value);
}

/* How many frames it has, markers left out; *guesses: how many are guessed. */
static uint32_t frames_of(const struct captured_stack *stack, uint32_t *guesses) {
  uint32_t count = stack->frame_count;
  *guesses = 0;
  if (stack_marker_is_guess(stack->frames[count - 1]))
    *guesses = (uint32_t)(stack->frames[--count] - STACK_GUESSED);
  while (count > 0 && stack->frames[count - 1] < STACK_MARKER_LIMIT) count--;
  return count;
}

/* Where the thread has gone on elsewhere meanwhile, words lie there that are no such addresses. */
static bool are_return_addresses(const uint64_t *frames, uint32_t count) {
  for (uint32_t i = 0; i < count; i++)
    if (frames[i] >= STACK_MARKER_LIMIT && return_kind_of(frames[i], true) == RETURN_NONE)
      return false;
  return true;
}

/* stack: as far as the copy goes. Replaces it by the whole, if that can be had in time. */
static void find_rest(const struct perf_ring_record *record,
                      const struct unwind_registers *registers, int32_t tid, uint64_t taken,
                      struct captured_stack *stack) {
  CAPTURED_STACK(whole);
  if (!memory && !(memory = memory_reader_new())) return;
  memory_reader_forget(memory);
  const struct stack_rest rest = {read_rest, memory};
  stack_capture_copied(registers, record->stack, record->stack_size, &rest, whole);
  uint64_t now = thread_cpu_nanoseconds(tid);
  if (now > taken + RING_STACK_LATE_NANOSECONDS || now == 0) return;
  if (ends_at(whole, STACK_TRUNCATED_MEMORY) || ends_at(whole, STACK_TRUNCATED_NO_UNWIND)) return;
  uint32_t guesses, ignored, count = frames_of(whole, &guesses);
  uint32_t before = frames_of(stack, &ignored), late = count > before ? count - before : 1;
  if (!are_return_addresses(whole->frames + count - late, late)) return;
  if (guesses) whole->frame_count--;
  if (whole->frame_count > stack_depth()) { /* a marker: another takes a frame's place */
    whole->frame_count--;
    whole->frames[whole->frame_count - 1] = whole->frames[whole->frame_count];
  }
  whole->frames[whole->frame_count++] = stack_marker_of_guesses(guesses + late);
  memcpy(stack, whole, sizeof *whole + whole->frame_count * sizeof *whole->frames);
}

void ring_stack_begin(void) { refused_to_lend = false; }

static bool walk(const struct perf_ring_record *record, int32_t tid, uint64_t taken,
                 struct captured_stack *stack) {
  const uint64_t *value = record->registers.value;
  struct unwind_registers registers = {value[REMOTE_PC], value[REMOTE_RSP], value[REMOTE_RBP],
                                       value[REMOTE_RBX]};
  stack_capture_copied(&registers, record->stack, record->stack_size, NULL, stack);
  bool is_short = ends_at(stack, STACK_TRUNCATED_MEMORY);
  if (ends_at(stack, STACK_TRUNCATED_NO_UNWIND) || (is_short && !record->stack_is_cut))
    unwind_remotely(record, stack);
  is_short = ends_at(stack, STACK_TRUNCATED_MEMORY);
  if (is_short) find_rest(record, &registers, tid, taken, stack);
  if (is_short && !record->stack_is_cut) make_pages(record);
  stack_capture_count_losses(stack);
  return is_short && record->stack_is_cut;
}

bool ring_stack_unwind(const struct perf_ring_record *record, int32_t tid, uint64_t taken,
                       struct stack_sample *out) {
  CAPTURED_STACK(stack);
  stack->frame_count = 0;
  out->epoch = 0;
  bool is_beyond = false;
  if (!refused_to_lend && unwind_rule_borrow_begin()) {
    is_beyond = walk(record, tid, taken, stack);
    out->epoch = module_registry_epoch_of(stack->frames, stack->frame_count);
    unwind_rule_borrow_end();
  } else { /* a dlclose takes its time: not that of each sample */
    refused_to_lend = true;
    stack->frames[stack->frame_count++] = record->registers.value[REMOTE_PC] + 1;
    stack->frames[stack->frame_count++] = STACK_TRUNCATED_MEMORY;
    stack_capture_count_losses(stack);
  }
  out->frame_count = stack->frame_count;
  memcpy(out->frames, stack->frames, stack->frame_count * sizeof *stack->frames);
  return is_beyond;
}

void ring_stack_stop(void) {
  remote_unwinder_release(unwinder);
  unwinder = NULL;
  memory_reader_release(memory);
  memory = NULL;
}

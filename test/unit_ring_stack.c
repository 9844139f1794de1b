/* links: test/agent_memory_libc.c test/stub_debug_frames.c */
/* flags: -Wno-unused-parameter */
/* A stack of which the kernel has copied a part: the rest is read from memory where the thread has
 * hardly run since, counts as guessed, and is left out where it has run, or where its memory holds
 * something else by now. */
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "agent/cpu/ring_stack.h"
#include "check.h"
#include "shim/base/counters.h"
#include "shim/stacks/stack_capture.h"
#include "shim/stacks/thread_trampoline.h"

struct shim_counters shim_counters;

/* ---- in place of what is not tested here ---- */

__asm__(".globl __restore_rt\n.hidden __restore_rt\n__restore_rt: mov $15,%rax\n syscall\n ret\n");
void module_registry_note(const struct dl_find_object *found) {}
uint32_t module_registry_epoch_of(const uint64_t *frames, uint32_t count) { return 0; }
char *process_read_file(const char *path, size_t limit, size_t *size) { return NULL; }
uint32_t thread_trampoline_leave_out(uint64_t *frames, uint32_t count) { return count; }
enum { NOW = 1000000000 };
uint64_t thread_cpu_nanoseconds(int32_t tid) { return NOW; } /* its clock stands still */

/* ---- a stack, and a sample of it as the kernel would take it ---- */

enum { COPY = 2048, LARGE = 8192 };

static uintptr_t outer_call; /* a return address within the outermost function here */
static struct stack_sample *sample;

static void take(struct perf_ring_record *record, uint64_t taken) {
  CHECK(ring_stack_unwind(record, gettid(), taken, sample));
}

static bool has_outer(void) {
  for (uint32_t i = 0; i < sample->frame_count; i++)
    if (sample->frames[i] == outer_call) return true;
  return false;
}

static bool is_cut(void) {
  return !has_outer() && sample->frames[sample->frame_count - 1] == STACK_TRUNCATED_MEMORY;
}

static void check_sample(struct perf_ring_record *record, uintptr_t *outer_slot) {
  uint64_t cut = shim_counters.stacks_truncated_memory, guessed = shim_counters.stacks_guessed;
  take(record, NOW - RING_STACK_LATE_NANOSECONDS);
  uint64_t last = sample->frames[sample->frame_count - 1];
  CHECK(has_outer() && stack_marker_is_guess(last));
  uint32_t whole = sample->frame_count - 1, late = (uint32_t)(last - STACK_GUESSED);
  CHECK(shim_counters.stacks_truncated_memory == cut);
  CHECK(shim_counters.stacks_guessed == guessed + 1);

  take(record, NOW - RING_STACK_LATE_NANOSECONDS - 1); /* it has run for too long since */
  CHECK(is_cut() && sample->frame_count - 1 + late == whole);
  CHECK(shim_counters.stacks_truncated_memory == cut + 1);

  uintptr_t kept = *outer_slot; /* it has gone on, and something else lies there */
  *outer_slot = (uintptr_t)check_sample;
  take(record, NOW);
  *outer_slot = kept;
  CHECK(is_cut());
  take(record, NOW);
  CHECK(has_outer());
}

/* Also of what no variable is in. */
__attribute__((no_sanitize("address"))) static void copy_words(uint64_t *to, const uint64_t *from) {
  for (size_t i = 0; i < COPY / sizeof *to; i++) ((volatile uint64_t *)to)[i] = from[i];
}

__attribute__((noinline)) static void leaf(uintptr_t *outer_slot) {
  static uint64_t copy[COPY / sizeof(uint64_t)];
  ucontext_t context;
  getcontext(&context);
  const greg_t *registers = context.uc_mcontext.gregs;
  struct perf_ring_record record = {.kind = PERF_RING_SAMPLE, .stack_is_cut = true};
  record.registers.known = REMOTE_ALL_KNOWN;
  record.registers.exact = true;
  record.registers.value[REMOTE_PC] = (uint64_t)registers[REG_RIP];
  record.registers.value[REMOTE_RSP] = (uint64_t)registers[REG_RSP];
  record.registers.value[REMOTE_RBP] = (uint64_t)registers[REG_RBP];
  record.registers.value[REMOTE_RBX] = (uint64_t)registers[REG_RBX];
  copy_words(copy, (const uint64_t *)registers[REG_RSP]);
  record.stack = (const char *)copy;
  record.stack_size = COPY;
  check_sample(&record, outer_slot);
}

__attribute__((noinline)) static void large(uintptr_t *outer_slot) {
  volatile char room[LARGE];
  room[0] = room[LARGE - 1] = 1;
  leaf(outer_slot);
  room[1] = room[0];
}

__attribute__((noinline)) static void outer(void) {
  uintptr_t *slot = (uintptr_t *)__builtin_frame_address(0) + 1;
  outer_call = *slot;
  large(slot);
  __asm__ volatile("" ::: "memory");
}

int main(void) {
  sample = calloc(1, sizeof *sample + (stack_depth() + 1) * sizeof *sample->frames);
  stack_capture_start((uintptr_t)__builtin_frame_address(0) + 65536);
  outer();
  ring_stack_begin();
  outer();
  ring_stack_stop();
  free(sample);
  printf("%d failures\n", failures);
  return failures != 0;
}

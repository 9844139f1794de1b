/* links: test/agent_memory_libc.c test/stub_debug_frames.c */
/* flags: -Wno-unused-parameter */
/* Stacks and registers that say anything, before both walkers: random words, words of the program's
 * own code, and true stacks with some of their words changed, also where pages between cannot be
 * read. A walk ends, reads nothing but what it was given or may read (the address sanitizer watches
 * the ends of the copies) and says no more frames than there is room for. Arguments: rounds, seed.
 */
#define _GNU_SOURCE
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "agent/stacks/remote_unwind.h"
#include "shim/base/counters.h"
#include "shim/stacks/stack_capture.h"
#include "shim/stacks/thread_trampoline.h"
#include "shim/stacks/unwind_rule.h"

struct shim_counters shim_counters;

/* ---- in place of what is not tested here ---- */

__asm__(".globl __restore_rt\n.hidden __restore_rt\n__restore_rt: mov $15,%rax\n syscall\n ret\n");
void module_registry_note(const struct dl_find_object *found) {}
char *process_read_file(const char *path, size_t limit, size_t *size) { return NULL; }
uint32_t thread_trampoline_leave_out(uint64_t *frames, uint32_t count) { return count; }

/* ---- what is walked ---- */

enum { PAGE = 4096, IMAGE_MAX = 24576, CODE = 8 * PAGE, PAGES = 8, LONG_WALK = 4 };

static uint64_t state = 88172645463325252ull;
static uint64_t next(void) {
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

static uint8_t *code; /* of no object: bytes by chance, with calls and returns among them */
static uint64_t *true_stack; /* as it was, with the registers then */
static size_t true_size;
static struct remote_registers true_registers;
static struct remote_unwinder *unwinder;
static long walks, long_walks, guessed;

static void make_code(void) {
  static const uint8_t often[] = {0xe8, 0xc3, 0x55, 0x5d, 0x48, 0x89, 0xe5, 0xff, 0xd0, 0xc9,
                                  0x83, 0xc4, 0x83, 0xec, 0x53, 0x5b, 0x74, 0x75, 0xeb, 0x00};
  code = mmap(NULL, CODE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (code == MAP_FAILED) abort();
  for (size_t i = 0; i < CODE; i++)
    code[i] = next() % 3 ? often[next() % sizeof often] : (uint8_t)next();
  mprotect(code, CODE, PROT_READ | PROT_EXEC);
}

static __attribute__((noinline)) void keep_stack(const char *bottom) {
  struct remote_registers *r = &true_registers;
  *r = (struct remote_registers){.known = REMOTE_ALL_KNOWN, .exact = true};
  __asm__ volatile(
      "movq %%rbx,24(%0)\n movq %%rbp,48(%0)\n movq %%rsp,56(%0)\n movq %%r12,96(%0)\n"
      "movq %%r13,104(%0)\n movq %%r14,112(%0)\n movq %%r15,120(%0)\n"
      "leaq 0(%%rip),%%rcx\n movq %%rcx,128(%0)\n"
      :
      : "r"(r->value)
      : "rcx", "memory");
  uintptr_t sp = r->value[REMOTE_RSP];
  true_size = (uintptr_t)bottom > sp ? ((uintptr_t)bottom - sp) & ~7ul : 0;
  if (true_size > IMAGE_MAX) true_size = IMAGE_MAX;
  true_stack = malloc(true_size);
  /* by words: it has the sanitizer's own marks between variables, which are not to be read */
  for (size_t i = 0; i < true_size / 8; i++) {
    uint64_t word;
    __asm__ volatile("movq (%1),%0" : "=r"(word) : "r"(sp + i * 8));
    true_stack[i] = word;
  }
}

static __attribute__((noinline)) int go_deep(int depth, const char *bottom) {
  volatile char room[40];
  room[depth % 40] = (char)depth;
  if (depth == 0) keep_stack(bottom);
  else go_deep(depth - 1, bottom);
  return room[depth % 40];
}

static uintptr_t code_address(void) {
  switch (next() % 5) {
    case 0: return (uintptr_t)code + next() % CODE;
    case 1: return (uintptr_t)go_deep + next() % 300;
    case 2: return (uintptr_t)qsort + next() % 4000;
    case 3: return (uintptr_t)keep_stack + next() % 65536;
    default: return true_stack[next() % (true_size / 8)];
  }
}

static uint64_t word_for(uintptr_t start, size_t size) {
  switch (next() % 6) {
    case 0: return next();
    case 1: return next() % 4096;
    case 2:
    case 3: return start + next() % (size + 64) / 8 * 8; /* a frame pointer */
    default: return code_address();
  }
}

/* ---- walks ---- */

static void check(const struct captured_stack *stack) {
  if (stack->frame_count == 0 || stack->frame_count > STACK_DEFAULT_FRAMES + 1) abort();
  walks++;
  long_walks += stack->frame_count > LONG_WALK;
  guessed += stack_marker_is_guess(stack->frames[stack->frame_count - 1]);
}

static struct unwind_registers three_of(const struct remote_registers *all) {
  return (struct unwind_registers){all->value[REMOTE_PC], all->value[REMOTE_RSP],
                                   all->value[REMOTE_RBP], all->value[REMOTE_RBX]};
}

static void walk(const struct remote_registers *registers, const void *image, size_t size) {
  struct unwind_registers three = three_of(registers);
  CAPTURED_STACK(stack);
  if (!unwind_rule_borrow_begin()) abort();
  stack_capture_copied(&three, image, size, NULL, stack);
  stack_capture_count_losses(stack);
  check(stack);
  uint64_t frames[STACK_DEFAULT_FRAMES];
  enum remote_step end;
  struct stack_copy copy = {
      .start = three.sp, .bytes = image, .size = size, .rest_is_as_it_was = next() & 1};
  size_t count = remote_unwind(unwinder, registers, &copy, frames, STACK_DEFAULT_FRAMES, &end);
  if (count == 0 || count > STACK_DEFAULT_FRAMES) abort();
  unwind_rule_borrow_end();
}

static void random_registers(struct remote_registers *registers, uintptr_t sp, size_t size) {
  for (int i = 0; i < REMOTE_PC; i++) registers->value[i] = word_for(sp, size);
  registers->value[REMOTE_RSP] = sp;
  registers->value[REMOTE_PC] = code_address();
  registers->known = REMOTE_ALL_KNOWN;
  registers->exact = next() & 1;
}

/* A copy that ends where its memory ends. */
static void made_image(void) {
  size_t size = 8 * (1 + next() % (next() % 3 ? 200 : IMAGE_MAX / 8));
  uint64_t *image = malloc(size);
  uintptr_t sp = next() % 4 ? 0x7f0000000000 + next() % (1ull << 32) / 8 * 8 : next();
  for (size_t i = 0; i < size / 8; i++) image[i] = word_for(sp, size);
  struct remote_registers registers;
  random_registers(&registers, sp, size);
  walk(&registers, image, size);
  free(image);
}

static void changed_image(void) {
  size_t size = next() % 4 ? true_size : 8 * (1 + next() % (true_size / 8));
  uint64_t *image = malloc(size);
  memcpy(image, true_stack, size);
  struct remote_registers registers = true_registers;
  uintptr_t sp = registers.value[REMOTE_RSP];
  for (uint64_t left = next() % 12; left > 0; left--)
    image[next() % (next() & 1 ? size / 8 : 1 + size / 128)] = word_for(sp, size);
  if (next() % 4 == 0) registers.value[REMOTE_PC] = code_address();
  if (next() % 4 == 0) registers.value[REMOTE_RBP] = word_for(sp, size);
  walk(&registers, image, size);
  free(image);
}

/* What a walk may follow to memory that the sanitizer has marked is left out: it is there to be
 * read, on a stack of which nothing is known. */
static uint64_t word_in_pages(uintptr_t start) {
  switch (next() % 4) {
    case 0: return next() % 4096;
    case 1: return (uintptr_t)code + next() % CODE;
    case 2: return (uintptr_t)go_deep + next() % 300;
    default: return start + next() % (PAGES * PAGE);
  }
}

/* A stack of which nothing is known, in the thread itself: pages that can be read and such that
 * cannot. */
static void in_pages(uint8_t *pages) {
  mprotect(pages, PAGES * PAGE, PROT_READ | PROT_WRITE);
  uintptr_t start = (uintptr_t)pages, sp = start + next() % (PAGES * PAGE) / 8 * 8;
  for (int i = 0; i < 200; i++) {
    uint64_t word = word_in_pages(start);
    memcpy(pages + next() % (PAGES * PAGE / 8) * 8, &word, sizeof word);
  }
  for (int i = 0; i < PAGES; i++)
    if (next() % 4 == 0) mprotect(pages + i * PAGE, PAGE, PROT_NONE);
  struct unwind_registers three = {word_in_pages(start), sp, word_in_pages(start), next()};
  CAPTURED_STACK(stack);
  stack_capture_interrupted(&three, NULL, stack);
  check(stack);
}

/* With as much that cannot be read on both sides as one frame may take. */
static uint8_t *guarded_pages(void) {
  enum { GUARD = 4 << 20 };
  uint8_t *all =
      mmap(NULL, 2 * GUARD + PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (all == MAP_FAILED) abort();
  return all + GUARD;
}

int main(int argc, char **argv) {
  long rounds = argc > 1 ? atol(argv[1]) : 30000;
  if (argc > 2) state *= 2 * strtoull(argv[2], NULL, 10) + 1;
  make_code();
  go_deep(40, (const char *)__builtin_frame_address(0) + 16);
  unwinder = remote_unwinder_new();
  uint8_t *pages = guarded_pages();
  if (!unwinder || true_size < 40 * 64) return 1;
  for (long round = 0; round < rounds; round++) {
    made_image();
    changed_image();
    in_pages(pages);
    if (round % 50 == 0) stack_capture_forget_rules();
  }
  printf("%ld walks, %ld of more than %d frames, %ld with guessed ones\n", walks, long_walks,
         LONG_WALK, guessed);
  remote_unwinder_release(unwinder);
  free(true_stack);
  return long_walks > rounds / 10 && guessed > rounds / 100 ? 0 : 1;
}

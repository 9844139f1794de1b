/* links: test/agent_memory_libc.c test/stub_debug_frames.c */
/* flags: -Wno-unused-parameter */
/* fuzz: rounds */
/* libunwind over this process: frames based on any register, rules of every kind, a stack that was
 * copied; then damaged tables, stacks and registers, of which nothing may come but an end. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "agent/runtime/own_memory.h"
#include "agent/stacks/remote_unwind.h"
#include "shim/base/counters.h"
#include "shim/stacks/unwind_rule.h"
#include "check.h"
#include "fuzz_budget.h"

extern int64_t agent_memory_fail_after;

/* ---- in place of what is not tested here ---- */

struct shim_counters shim_counters;
void module_registry_note(const struct dl_find_object *found) {}
char *process_read_file(const char *path, size_t limit, size_t *size) { return NULL; }

/* ---- frames ----
 *
 * Each of these calls its first argument. needs_rbp is based on rbp, which the functions that it
 * calls change. */
__asm__(
    ".text\n"
    "needs_rbp:\n .cfi_startproc\n"
    " pushq %rbp\n .cfi_def_cfa_offset 16\n .cfi_offset rbp, -16\n"
    " movq %rsp, %rbp\n .cfi_def_cfa_register rbp\n"
    " call *%rsi\n"
    " popq %rbp\n .cfi_def_cfa rsp, 8\n ret\n .cfi_endproc\nneeds_rbp_end:\n"

    "plain:\n .cfi_startproc\n"
    " subq $8, %rsp\n .cfi_def_cfa_offset 16\n"
    " call *%rdi\n"
    " addq $8, %rsp\n .cfi_def_cfa_offset 8\n ret\n .cfi_endproc\nplain_end:\n"

    "by_rbx:\n .cfi_startproc\n"
    " pushq %rbx\n .cfi_def_cfa_offset 16\n .cfi_offset rbx, -16\n"
    " movq %rsp, %rbx\n .cfi_def_cfa rbx, 16\n"
    " subq $700, %rsp\n andq $-64, %rsp\n"
    " call *%rdi\n"
    " movq %rbx, %rsp\n .cfi_def_cfa rsp, 16\n popq %rbx\n .cfi_def_cfa_offset 8\n"
    " ret\n .cfi_endproc\nby_rbx_end:\n"

    "by_r12:\n .cfi_startproc\n"
    " pushq %r12\n .cfi_def_cfa_offset 16\n .cfi_offset r12, -16\n"
    " movq %rsp, %r12\n .cfi_def_cfa r12, 16\n"
    " subq $70000, %rsp\n andq $-64, %rsp\n"
    " call *%rdi\n"
    " movq %r12, %rsp\n .cfi_def_cfa rsp, 16\n popq %r12\n .cfi_def_cfa_offset 8\n"
    " ret\n .cfi_endproc\nby_r12_end:\n"

    /* the CFA is in memory, below rbp: gcc's realigned frames */
    "by_expression:\n .cfi_startproc\n"
    " leaq 8(%rsp), %r10\n .cfi_def_cfa r10, 0\n"
    " andq $-64, %rsp\n pushq -8(%r10)\n pushq %rbp\n"
    " .cfi_escape 0x10,0x6,0x2,0x76,0\n" /* rbp is at rbp */
    " movq %rsp, %rbp\n pushq %r10\n .cfi_escape 0xf,0x3,0x76,0x78,0x6\n"
    " subq $88, %rsp\n call *%rdi\n addq $88, %rsp\n"
    " popq %r10\n .cfi_def_cfa r10, 0\n popq %rbp\n leaq -8(%r10), %rsp\n .cfi_def_cfa rsp, 8\n"
    " ret\n .cfi_endproc\nby_expression_end:\n"

    /* rbp is the CFA itself */
    "value_of_offset:\n .cfi_startproc\n"
    " xorl %ebp, %ebp\n .cfi_val_offset rbp, 0\n"
    " subq $8, %rsp\n .cfi_def_cfa_offset 16\n call *%rdi\n"
    " addq $8, %rsp\n .cfi_def_cfa_offset 8\n leaq 8(%rsp), %rbp\n .cfi_same_value rbp\n"
    " ret\n .cfi_endproc\nvalue_of_offset_end:\n"

    /* rbp is in r12, whose own value is in memory; r12's rule comes first and last */
    "moved:\n .cfi_startproc\n"
    " pushq %r12\n .cfi_def_cfa_offset 16\n .cfi_offset r12, -16\n"
    " movq %rbp, %r12\n .cfi_register rbp, r12\n .cfi_offset r12, -16\n xorl %ebp, %ebp\n"
    " call *%rdi\n"
    " movq %r12, %rbp\n .cfi_same_value rbp\n popq %r12\n .cfi_def_cfa_offset 8\n"
    " ret\n .cfi_endproc\nmoved_end:\n"

    /* rules for xmm6 and xmm15, as for functions of another system's calling convention */
    "vectors:\n .cfi_startproc\n"
    " subq $24, %rsp\n .cfi_def_cfa_offset 32\n"
    " .cfi_escape 0x05,23,2\n .cfi_escape 0x97,1\n .cfi_escape 0x0a\n .cfi_escape 0x07,32\n"
    " .cfi_escape 0x0b\n .cfi_escape 0xd7\n"
    " call *%rdi\n"
    " addq $24, %rsp\n .cfi_def_cfa_offset 8\n ret\n .cfi_endproc\nvectors_end:\n"

    /* the address that its call returns to is the first of the next function */
    "last_call:\n .cfi_startproc\n"
    " subq $24, %rsp\n .cfi_def_cfa_offset 32\n call *%rdi\n .cfi_endproc\nlast_call_end:\n"
    "behind:\n .cfi_startproc\n addq $24, %rsp\n ret\n .cfi_endproc\nbehind_end:\n"

    /* an expression that leads round in a circle */
    "circle:\n .cfi_startproc\n"
    " subq $8, %rsp\n .cfi_escape 0xf,3,0x2f,0xfd,0xff\n"
    " call *%rdi\n"
    " addq $8, %rsp\n .cfi_def_cfa rsp, 8\n ret\n .cfi_endproc\ncircle_end:\n");

#define FRAME(name) extern const char name[], name##_end[];
/* clang-format off */
FRAME(needs_rbp) FRAME(plain) FRAME(by_rbx) FRAME(by_r12) FRAME(by_expression)
FRAME(value_of_offset) FRAME(moved) FRAME(vectors) FRAME(circle) FRAME(last_call) FRAME(behind)
    /* clang-format on */

    struct frame_case {
  const char *name, *start, *end;
  bool leads_on;
};
#define CASE(name, leads_on) \
  { #name, name, name##_end, leads_on }
static const struct frame_case cases[] = {
    CASE(plain, true),   CASE(by_rbx, true),          CASE(by_r12, true),
    CASE(moved, true),   CASE(value_of_offset, true), CASE(by_expression, true),
    CASE(vectors, true), CASE(last_call, true),       CASE(circle, false)};
enum { CASES = sizeof cases / sizeof *cases, FRAMES_MAX = 100 };

static struct remote_unwinder *unwinder;
static const struct frame_case *now;
static uintptr_t main_start, main_end;

static __attribute__((always_inline)) inline struct remote_registers registers_here(void) {
  struct remote_registers here = {.known = REMOTE_ALL_KNOWN, .exact = true};
  __asm__ volatile(
      "movq %%rbx, 24(%0)\n movq %%rbp, 48(%0)\n movq %%rsp, 56(%0)\n"
      "movq %%r12, 96(%0)\n movq %%r13, 104(%0)\n movq %%r14, 112(%0)\n"
      "movq %%r15, 120(%0)\n leaq 0(%%rip), %%rcx\n movq %%rcx, 128(%0)\n"
      :
      : "r"(here.value)
      : "rcx", "memory");
  return here;
}

static size_t index_of(const uint64_t *frames, size_t count, uintptr_t start, uintptr_t end) {
  for (size_t i = 0; i < count; i++)
    if (frames[i] > start && frames[i] <= end) return i;
  return count;
}

/* The same from copies of the stack, of which only the first is long enough. */
static void check_copies(const struct remote_registers *registers, const uint64_t *whole,
                         size_t count) {
  enum { COPIED = 300000 };
  uintptr_t sp = registers->value[REMOTE_RSP];
  char *bytes = malloc(COPIED);
  uint64_t frames[FRAMES_MAX];
  enum remote_step end;
  ssize_t read = own_memory_read(sp, bytes, COPIED); /* up to the stack's top at most */
  CHECK(read > 0);
  for (size_t size = (size_t)read; size > 64; size /= 2) {
    char *copy = malloc(size); /* the address sanitizer watches its end */
    memcpy(copy, bytes, size);
    struct stack_copy piece = {sp, copy, size, false};
    size_t got = remote_unwind(unwinder, registers, &piece, frames, FRAMES_MAX, &end);
    CHECK(got <= count && memcmp(frames, whole, got * sizeof *whole) == 0);
    CHECK(got == count || end == REMOTE_PAST_COPY);
    piece.rest_is_as_it_was = true;
    got = remote_unwind(unwinder, registers, &piece, frames, FRAMES_MAX, &end);
    CHECK(got == count && memcmp(frames, whole, got * sizeof *whole) == 0);
    free(copy);
  }
  free(bytes);
}

static __attribute__((noinline)) void look(void) {
  struct remote_registers here = registers_here();
  uint64_t frames[FRAMES_MAX];
  enum remote_step end;
  size_t count = remote_unwind(unwinder, &here, NULL, frames, FRAMES_MAX, &end);
  size_t callee = index_of(frames, count, (uintptr_t)now->start, (uintptr_t)now->end);
  size_t caller = index_of(frames, count, (uintptr_t)needs_rbp, (uintptr_t)needs_rbp_end);
  size_t outer = index_of(frames, count, main_start, main_end);
  CHECK(callee == 1);
  if (now->leads_on) {
    CHECK(caller == 2 && outer > 2 && outer < count && end == REMOTE_OUTERMOST);
    check_copies(&here, frames, count);
  } else {
    CHECK(count == 2 && end != REMOTE_OUTERMOST);
  }
  if (failures)
    printf("%s: %zu frames, %zu %zu %zu, end %d\n", now->name, count, callee, caller, outer, end);
}

/* Interrupted at its first instruction: not the row of the call that returns there, which is
 * asked for next. */
static void test_interrupted_behind(void) {
  uint64_t stack[8] = {(uintptr_t)plain + 5}, frames[2];
  struct stack_copy piece = {(uintptr_t)stack, stack, sizeof stack, false};
  struct remote_registers registers = {.known = REMOTE_ALL_KNOWN, .exact = true};
  registers.value[REMOTE_PC] = (uintptr_t)behind;
  registers.value[REMOTE_RSP] = (uintptr_t)stack;
  enum remote_step end;
  CHECK(remote_unwind(unwinder, &registers, &piece, frames, 2, &end) == 2);
  CHECK(frames[0] == (uintptr_t)behind + 1 && frames[1] == stack[0]);
}

static void test_frames(void) {
  test_interrupted_behind();
  for (now = cases; now < cases + CASES; now++)
    ((void (*)(void (*)(void), const void *))(uintptr_t)needs_rbp)(look, now->start);
}

/* A register that is not known is asked for, and can be given. */
static __attribute__((noinline)) void look_without_rbx(void) {
  struct remote_registers here = registers_here(), few = here;
  few.known = 1u << REMOTE_PC | 1u << REMOTE_RSP | 1u << REMOTE_RBP;
  enum remote_step step;
  remote_unwind_begin(unwinder, &few, NULL);
  while ((step = remote_unwind_step(unwinder)) == REMOTE_CALLER) {}
  CHECK(step == REMOTE_NEEDS_REGISTER || step == REMOTE_OUTERMOST);
  if (step == REMOTE_NEEDS_REGISTER) {
    const struct remote_frame *frame = remote_unwind_frame(unwinder);
    CHECK(frame->missing == REMOTE_RBX);
    CHECK(frame->pc > (uintptr_t)by_rbx && frame->pc <= (uintptr_t)by_rbx_end);
    remote_unwind_set_register(unwinder, REMOTE_RBX, here.value[REMOTE_RBX]);
    while ((step = remote_unwind_step(unwinder)) == REMOTE_CALLER) {}
    CHECK(step == REMOTE_OUTERMOST);
  }
}

static void on_signal(int number) {
  now = &cases[0];
  struct remote_registers here = registers_here();
  uint64_t frames[FRAMES_MAX];
  enum remote_step end;
  size_t count = remote_unwind(unwinder, &here, NULL, frames, FRAMES_MAX, &end);
  CHECK(end == REMOTE_OUTERMOST && index_of(frames, count, main_start, main_end) < count);
}

/* ---- damage ---- */

static uint64_t state;
static uint64_t next(void) {
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

/* What the loader says of the copy that is damaged. */
static struct dl_find_object copied;

int _dl_find_object(void *pc, struct dl_find_object *out) {
  static int (*real)(void *, struct dl_find_object *);
  if (!real) real = (int (*)(void *, struct dl_find_object *))dlsym(RTLD_NEXT, "_dl_find_object");
  if ((uintptr_t)pc - (uintptr_t)copied.dlfo_map_start >=
      (uintptr_t)copied.dlfo_map_end - (uintptr_t)copied.dlfo_map_start)
    return real(pc, out);
  *out = copied;
  return 0;
}

static void test_damage(long usual) {
  enum { WORDS = 512 };
  struct dl_find_object found;
  CHECK(_dl_find_object((void *)main_start, &found) == 0);
  const ElfW(Ehdr) *header = found.dlfo_map_start;
  const ElfW(Phdr) *phdr = (const ElfW(Phdr) *)((const char *)header + header->e_phoff);
  uintptr_t tables = (uintptr_t)found.dlfo_eh_frame, end = 0;
  for (int i = 0; i < header->e_phnum; i++) {
    uintptr_t start = found.dlfo_link_map->l_addr + phdr[i].p_vaddr;
    if (phdr[i].p_type == PT_LOAD && tables - start < phdr[i].p_memsz)
      end = start + phdr[i].p_memsz;
  }
  size_t size = end - tables;
  uint8_t *copy = malloc(size);
  uint64_t stack[WORDS], frames[FRAMES_MAX];
  /* The code is where the copy's tables say that it is: as far from them as before. */
  uintptr_t code = (uintptr_t)copy + (main_start - tables);
  copied = (struct dl_find_object){.dlfo_map_start = (void *)(code - 100000),
                                   .dlfo_map_end = copy + size,
                                   .dlfo_eh_frame = copy};
  if ((uintptr_t)copy < code - 100000) {
    copied.dlfo_map_start = copy;
    copied.dlfo_map_end = (void *)(code + 100000);
  }
  long further = 0, round = 0;
  fuzz_part(1);
  for (; fuzz_goes_on(round, usual); round++) {
    if (round % 16 == 0) memcpy(copy, (const void *)tables, size);
    for (uint64_t i = next() % 8; round % 16 && i > 0; i--)
      copy[next() % (next() & 1 ? size : 200)] = (uint8_t)next();
    for (int i = 0; i < WORDS; i++)
      stack[i] = next() & 1   ? code + next() % 8192 - 4096
                 : next() & 1 ? (uint64_t)&stack[next() % WORDS]
                              : next();
    struct remote_registers registers = {.known = (uint32_t)next() & REMOTE_ALL_KNOWN,
                                         .exact = next() & 1};
    for (int i = 0; i < REMOTE_REGISTERS; i++)
      registers.value[i] = next() & 3 ? (uint64_t)&stack[next() % WORDS] : next();
    registers.value[REMOTE_PC] = code + next() % 8192 - 4096;
    struct stack_copy piece = {(uintptr_t)stack, stack, next() % sizeof stack, next() & 1};
    enum remote_step how;
    /* as when an object has gone: else the rows of the round before would be believed */
    unwind_rule_unload_begin();
    unwind_rule_unload_end();
    size_t count = remote_unwind(unwinder, &registers, next() & 1 ? &piece : NULL, frames,
                                 1 + next() % FRAMES_MAX, &how);
    CHECK(count >= 1 && count <= FRAMES_MAX && how != REMOTE_CALLER);
    further += count > 1;
  }
  free(copy);
  copied = (struct dl_find_object){0};
  printf("%ld of %ld damaged stacks had a second frame\n", further, round);
  CHECK(further >= round / 50);
}

static void test_no_memory(void) {
  for (int64_t n = 0; n < 6; n++) {
    agent_memory_fail_after = n;
    struct remote_unwinder *made = remote_unwinder_new();
    agent_memory_fail_after = INT64_MAX;
    CHECK(made != NULL || n < 5);
    remote_unwinder_release(made);
  }
}

int main(void) {
  struct cfi_rule rule;
  state = fuzz_seed(88172645463325252u);
  CHECK(unwind_rule_find((uintptr_t)main, &rule));
  main_start = rule.start, main_end = rule.end;
  unwinder = remote_unwinder_new();
  CHECK(unwinder != NULL);
  test_frames();
  now = &cases[1];
  ((void (*)(void (*)(void), const void *))(uintptr_t)needs_rbp)(look_without_rbx, by_rbx);
  signal(SIGUSR1, on_signal);
  raise(SIGUSR1);
  test_damage(20000);
  test_no_memory();
  remote_unwinder_release(unwinder);
  return failures != 0;
}

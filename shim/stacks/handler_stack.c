#include "handler_stack.h"

#include <stdatomic.h>
#include <stddef.h>
#include <sys/syscall.h>

#include "shim/base/at_fork.h"
#include "shim/base/confinement.h"
#include "shim/base/counters.h"
#include "shim/next/interposed.h"
#include "shim/base/raw_syscall.h"
#include "stack_capture.h"
#include "shim/base/table_memory.h"
#include "shim/base/thread_state.h"

enum { WORD_BITS = 64, WORDS = HANDLER_STACKS / WORD_BITS };

/* memory: published by the CAS of whoever mapped it, before the handler is installed. free: a bit
 * for each stack that nobody has, taken and given back by its users (locked instructions). */
struct {
  _Atomic(char *) memory;
  _Atomic uint64_t free[WORDS];
  size_t bytes; /* of each: written before memory is, always the same */
} handler_stacks = {.free = {[0 ... WORDS - 1] = UINT64_MAX}};

bool handler_stacks_map(void) {
  if (LIKELY(atomic_load(&handler_stacks.memory) != NULL)) return true;
  handler_stacks.bytes = HANDLER_STACK_BYTES + stack_depth_bytes_beyond();
  size_t size = HANDLER_STACKS * handler_stacks.bytes;
  char *fresh = table_memory_map(size), *none = NULL;
  if (fresh && !atomic_compare_exchange_strong(&handler_stacks.memory, &none, fresh))
    table_memory_unmap(fresh, size); /* another thread was first */
  return fresh;
}

/* Writes only what is not as it should be: a page that a child writes is copied first. */
AT_FORK void handler_stacks_forget(void) {
  if (!atomic_load(&handler_stacks.memory)) return;
  for (int i = 0; i < WORDS; i++)
    if (atomic_load(&handler_stacks.free[i]) != UINT64_MAX)
      atomic_store(&handler_stacks.free[i], UINT64_MAX);
}

/* Its number, or -1. */
static int take_stack(void) {
  for (int i = 0; i < WORDS; i++) {
    uint64_t free = atomic_load(&handler_stacks.free[i]);
    while (free)
      if (atomic_compare_exchange_weak(&handler_stacks.free[i], &free, free & (free - 1)))
        return i * WORD_BITS + __builtin_ctzll(free);
  }
  return -1;
}

static void give_stack_back(int number) {
  atomic_fetch_or(&handler_stacks.free[number / WORD_BITS], (uint64_t)1 << number % WORD_BITS);
}

static void call_on(char *top, void (*function)(void *), void *argument);

static __attribute__((noinline)) bool call_elsewhere(void (*function)(void *), void *argument) {
  uint64_t all = UINT64_MAX, before = 0;
  if (confinement_forbids_calls() || !handler_stacks_map()) return false;
  if (raw_syscall4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&before, sizeof all) < 0)
    return false;
  int number = take_stack();
  if (number >= 0) {
    call_on(atomic_load(&handler_stacks.memory) + (size_t)(number + 1) * handler_stacks.bytes,
            function, argument);
    give_stack_back(number);
  }
  raw_syscall4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&before, 0, sizeof before);
  return number >= 0;
}

bool handler_stack_call(void (*function)(void *), void *argument) {
  if (UNLIKELY(!stack_capture_has_room((uintptr_t)__builtin_frame_address(0))))
    return call_elsewhere(function, argument);
  function(argument);
  return true;
}

#if defined(__x86_64__)

#define IN_REGISTER __attribute__((unused))

/* The shadow stack stays the thread's own. */
static __attribute__((naked, noinline)) void call_on(char *top IN_REGISTER,
                                                     void (*function)(void *) IN_REGISTER,
                                                     void *argument IN_REGISTER) {
  __asm__ volatile(
      "  pushq %rbp\n"
      "  .cfi_def_cfa_offset 16\n"
      "  .cfi_offset %rbp, -16\n"
      "  movq %rsp, %rbp\n"
      "  .cfi_def_cfa_register %rbp\n"
      "  movq %rdi, %rsp\n"
      "  movq %rdx, %rdi\n"
      "  call *%rsi\n"
      "  movq %rbp, %rsp\n"
      "  popq %rbp\n"
      "  .cfi_def_cfa %rsp, 8\n"
      "  ret\n");
}

/* While somebody else's signal waits for a stack: 50 us. */
const long handler_stack_pause[2] = {0, 50 * 1000};

/* Nothing is pushed before the stack is ours. All registers are free: they are in the kernel's
 * frame. rbx, r12, r13: the three arguments; r14: number of the stack; rbp: rsp at the entry. */
__attribute__((naked)) void handler_stack_enter(int number IN_REGISTER, siginfo_t *info IN_REGISTER,
                                                void *context IN_REGISTER) {
  __asm__ volatile(
      "  movl %%edi, %%ebx\n"
      "  movq %%rsi, %%r12\n"
      "  movq %%rdx, %%r13\n"
      "  leaq handler_stacks(%%rip), %%r8\n"
      "1: xorl %%ecx, %%ecx\n"
      "2: bsfq %c[free](%%r8, %%rcx, 8), %%r14\n"
      "  jz 3f\n"
      "  movq %%rcx, %%rax\n"
      "  shlq $6, %%rax\n"
      "  addq %%rax, %%r14\n"
      "  lock btrq %%r14, %c[free](%%r8)\n"
      "  jnc 2b\n" /* another thread took it first */
      "  movq %%rsp, %%rbp\n"
      "  .cfi_def_cfa %%rbp, 8\n"
      "  leaq 1(%%r14), %%rax\n"
      "  imulq %c[bytes](%%r8), %%rax\n"
      "  addq %c[memory](%%r8), %%rax\n"
      "  leaq -16(%%rax), %%rsp\n"
      "  movq %%rsp, %%rcx\n"
      "  call handler_stack_body\n"
      "  movq (%%rsp), %%rcx\n"
      "  movq %%rbp, %%rsp\n"
      "  .cfi_def_cfa %%rsp, 8\n"
      "  lock btsq %%r14, handler_stacks+%c[free](%%rip)\n"
      "  testq %%rax, %%rax\n"
      "  jnz 5f\n"
      "  ret\n"
      /* The host's handler. Its mask lets signals in whose handlers may jump away: the stack has
       * been given back before. The mask lies below this frame, as what that handler pushes will.
       */
      "5: movq %%rax, %%rbp\n"
      "  movq %%rcx, -8(%%rsp)\n"
      "  leaq -8(%%rsp), %%rsi\n"
      "  movl %[setmask], %%edi\n"
      "  xorl %%edx, %%edx\n"
      "  movl $8, %%r10d\n"
      "  movl %[sigprocmask], %%eax\n"
      "  syscall\n"
      "  movl %%ebx, %%edi\n"
      "  movq %%r12, %%rsi\n"
      "  movq %%r13, %%rdx\n"
      "  jmpq *%%rbp\n"
      /* none left in this word */
      "3: incl %%ecx\n"
      "  cmpl %[words], %%ecx\n"
      "  jb 2b\n"
      "  cmpl %[timer], %c[code](%%r12)\n"
      "  jne 4f\n"
      "  cmpw %[magic], %c[value]+6(%%r12)\n"
      "  jne 4f\n"
      "  lock incq shim_counters+%c[lost](%%rip)\n"
      "  ret\n"
      "4: leaq handler_stack_pause(%%rip), %%rdi\n"
      "  xorl %%esi, %%esi\n"
      "  movl %[nanosleep], %%eax\n"
      "  syscall\n"
      "  movl %%ebx, %%edi\n"
      "  movq %%r12, %%rsi\n"
      "  movq %%r13, %%rdx\n"
      "  jmp 1b\n"
      :
      : [free] "i"(offsetof(__typeof__(handler_stacks), free)),
        [memory] "i"(offsetof(__typeof__(handler_stacks), memory)),
        [bytes] "i"(offsetof(__typeof__(handler_stacks), bytes)), [words] "i"(WORDS),
        [setmask] "i"(SIG_SETMASK), [sigprocmask] "i"(SYS_rt_sigprocmask),
        [nanosleep] "i"(SYS_nanosleep), [timer] "i"(SI_TIMER),
        [code] "i"(offsetof(siginfo_t, si_code)), [value] "i"(offsetof(siginfo_t, si_value)),
        [magic] "i"((int16_t)SAMPLING_SIGNAL_MAGIC),
        [lost] "i"(offsetof(struct shim_counters, cpu_lost_no_stack)));
}

#else
#error "handler_stack_enter is not written for this architecture yet"
#endif

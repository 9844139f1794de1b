#define _GNU_SOURCE
#include "bare_thread.h"

#include <errno.h>
#include <locale.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "shim/base/raw_syscall.h"
#include "shim/base/thread_state.h"
#include "agent_memory.h"

/* A thread's memory, from its low end: a guard page, the stack, the TLS block, the control block.
 *
 * Of the TLS block libc's variables and ours are used, and what lies between them and the thread
 * pointer. libc's are all zero at first but for the locale, which the thread sets. */
enum {
  GUARD = 4096,
  TLS_SPARE = 4096, /* more than libc's block, of which only errno's place is known */
  ON_FIRST_PAGE = 1024, /* of the TLS block: as a rule all that is used of it */
  CONTROL_BLOCK = 8192 - ON_FIRST_PAGE /* more than libc's struct pthread (2304 bytes in 2.36) */
};

struct start {
  void (*function)(void *);
  void *argument;
  char *memory;
  size_t size;
};

#if defined(__x86_64__)

/* The head of the control block, as the ABI for TLS and libc's tcbhead_t have it. */
struct control_block {
  void *self_as_tls;
  void *dtv;
  void *self;
  uint32_t multiple_threads, global_scope_flag;
  uintptr_t sysinfo, stack_guard, pointer_guard;
};

static struct control_block *own_control_block(void) {
  return (struct control_block *)__builtin_thread_pointer();
}

/* Distance of a variable of this thread from its thread pointer, downwards. */
static size_t distance_of(const void *variable) {
  return (size_t)((uintptr_t)__builtin_thread_pointer() - (uintptr_t)variable);
}

/* With what is above the block on its page it fills pages: the stack has its first for itself. */
static size_t tls_size(void) {
  size_t libc = distance_of(&errno), own = distance_of(&thread_state);
  size_t used = (libc > own ? libc : own) + TLS_SPARE;
  return ((used - ON_FIRST_PAGE + 4095) & ~(size_t)4095) + ON_FIRST_PAGE;
}

static void control_block_init(struct control_block *block) {
  const struct control_block *creators = own_control_block();
  block->self_as_tls = block->self = block;
  block->stack_guard = creators->stack_guard;
  block->pointer_guard = creators->pointer_guard;
  block->dtv = (char *)block + CONTROL_BLOCK - 64; /* of no modules */
  struct thread_state *state = (void *)((char *)block - distance_of(&thread_state));
  state->agent = 1; /* for good */
}

/* The new thread finds its start at the top of its stack. */
static long clone_thread(char *stack, struct start *start, _Atomic int32_t *tid, void *control) {
  const unsigned long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                              CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID |
                              CLONE_CHILD_CLEARTID;
  void **top = (void **)stack - 2;
  top[0] = start;
  long result;
  register void *child_tid __asm__("r10") = tid;
  register void *tls __asm__("r8") = control;
  __asm__ volatile(
      "syscall\n\t"
      "test %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      ".cfi_remember_state\n\t"
      ".cfi_undefined rip\n\t"
      "xorl %%ebp, %%ebp\n\t"
      "movq (%%rsp), %%rdi\n\t"
      "call bare_thread_main\n\t"
      "ud2\n"
      ".cfi_restore_state\n"
      "1:"
      : "=a"(result)
      : "0"(SYS_clone), "D"(flags), "S"(top), "d"(tid), "r"(child_tid), "r"(tls)
      : "rcx", "r11", "memory", "cc");
  return result;
}

static __attribute__((noreturn)) void unmap_and_exit(char *memory, size_t size) {
  __asm__ volatile(
      "syscall\n\t"
      "movl %[exit], %%eax\n\t"
      "xorl %%edi, %%edi\n\t"
      "syscall\n\t"
      "ud2"
      :
      : "a"(SYS_munmap), "D"(memory), "S"(size), [exit] "i"(SYS_exit)
      : "rcx", "r11", "memory");
  __builtin_unreachable();
}

#else
#error "bare threads are not written for this architecture yet"
#endif

/* The C locale, whatever the program has set: a constant of libc's. */
void bare_thread_enter_libc(void) { uselocale(newlocale(LC_ALL_MASK, "C", (locale_t)0)); }

__attribute__((noreturn, used, noinline)) void bare_thread_main(struct start *start);
void bare_thread_main(struct start *start) {
  struct start own = *start;
  own.function(own.argument);
  const uint64_t all = UINT64_MAX; /* agent_thread_call's signal would find no stack */
  raw_syscall4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, 0, sizeof all);
  agent_pages_forget(own.memory);
  unmap_and_exit(own.memory, own.size);
}

static char *map_memory(size_t size) {
  char *memory = agent_pages_map(size);
  if (memory) raw_syscall4(SYS_mprotect, (long)memory, GUARD, PROT_NONE, 0);
  return memory;
}

int bare_thread_create(_Atomic int32_t *tid, size_t stack_size, void (*start)(void *),
                       void *argument) {
  size_t below = tls_size(), size = (GUARD + stack_size + below + CONTROL_BLOCK + 4095) & ~4095ul;
  char *memory = map_memory(size);
  if (!memory) return ENOMEM;
  struct control_block *control = (void *)(memory + size - CONTROL_BLOCK);
  control_block_init(control);
  char *stack = (char *)control - below - sizeof(struct start);
  struct start *to_start = (void *)((uintptr_t)stack & ~(uintptr_t)15);
  *to_start = (struct start){start, argument, memory, size};
  long result = clone_thread((char *)to_start, to_start, tid, control);
  if (result > 0) return 0;
  agent_pages_unmap(memory, size);
  return (int)-result;
}

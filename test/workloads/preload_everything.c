/* A preloaded library that defines every function of libc that the agent calls (-include of the
 * list, scripts/libc_names), as so many preloads do for some of them. Each goes on to the next
 * definition, but ends the process with 97 and says so where the agent called it: on an agent
 * thread, or from the agent's code. Nothing here may call what it defines. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <linux/prctl.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "shim/base/raw_syscall.h"

static const struct {
  const char *name, *call, *version;
} functions[] = {
#define X(number, name, call, version) {#name, #call, #version},
    LIBC_FUNCTIONS(X)
#undef X
};
enum { COUNT = sizeof functions / sizeof *functions };

static void *next[COUNT];
static uintptr_t agent_low, agent_high;

static void *find(const char *name, const char *version) {
  void *found = dlvsym(RTLD_NEXT, name, version);
  if (!found) __builtin_trap();
  return found;
}

static int contains(const char *text, const char *part) {
  for (; *text; text++)
    for (int i = 0; !part[i] || part[i] == text[i]; i++)
      if (!part[i]) return 1;
  return 0;
}

static int look_for_agent(struct dl_phdr_info *info, size_t size, void *data) {
  (void)size, (void)data;
  if (!contains(info->dlpi_name, "libpprofagent.so")) return 0;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    uintptr_t end = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;
    if (info->dlpi_phdr[i].p_type == PT_LOAD && end > agent_high) agent_high = end;
  }
  agent_low = info->dlpi_addr;
  return 1;
}

static void find_agent(void) {
  static int tried;
  if (tried++) return;
  int (*iterate)(int (*)(struct dl_phdr_info *, size_t, void *), void *) =
      find("dl_iterate_phdr", "GLIBC_2.2.5");
  iterate(look_for_agent, 0);
}

static void fail(const char *name, const char *why) {
  const char *parts[] = {"preload_everything: ", name, why};
  for (int i = 0; i < 3; i++) {
    long length = 0;
    while (parts[i][length]) length++;
    raw_syscall4(SYS_write, 2, (long)parts[i], length, 0);
  }
  raw_syscall4(SYS_exit_group, 97, 0, 0, 0);
}

/* What the agent's wrappers hand on is for the next definition: this one. */
static int is_wrapped(long number) {
  return functions[number].call[0] == '_' && contains(functions[number].call, "__wrap_");
}

__attribute__((used)) static void *everything_called(long number, uintptr_t return_address) {
  char name[16] = "";
  find_agent();
  if (return_address - agent_low < agent_high - agent_low && !is_wrapped(number))
    fail(functions[number].name, ": called by the agent's code\n");
  raw_syscall4(SYS_prctl, PR_GET_NAME, (long)name, 0, 0);
  if (contains(name, "pprofagent")) fail(functions[number].name, ": called on an agent thread\n");
  if (!next[number]) next[number] = find(functions[number].name, functions[number].version);
  return next[number];
}

__asm__(
    ".text\n"
    "everything:\n"
    "push %rbp; mov %rsp, %rbp\n"
    "push %rax; push %rdi; push %rsi; push %rdx; push %rcx; push %r8; push %r9; push %r10\n"
    "sub $128, %rsp; and $-16, %rsp\n"
    "movups %xmm0, (%rsp); movups %xmm1, 16(%rsp); movups %xmm2, 32(%rsp); movups %xmm3, 48(%rsp)\n"
    "movups %xmm4, 64(%rsp); movups %xmm5, 80(%rsp)\n"
    "movups %xmm6, 96(%rsp); movups %xmm7, 112(%rsp)\n"
    "mov %r11, %rdi; mov 8(%rbp), %rsi\n"
    "call everything_called\n"
    "mov %rax, %r11\n"
    "movups (%rsp), %xmm0; movups 16(%rsp), %xmm1; movups 32(%rsp), %xmm2; movups 48(%rsp), %xmm3\n"
    "movups 64(%rsp), %xmm4; movups 80(%rsp), %xmm5\n"
    "movups 96(%rsp), %xmm6; movups 112(%rsp), %xmm7\n"
    "lea -64(%rbp), %rsp\n"
    "pop %r10; pop %r9; pop %r8; pop %rcx; pop %rdx; pop %rsi; pop %rdi; pop %rax; pop %rbp\n"
    "jmp *%r11\n");
#define X(number, name, call, version)                                            \
  __asm__(".globl " #name "\n.type " #name ",@function\n" #name ": mov $" #number \
          ", %r11d\n jmp everything\n");
LIBC_FUNCTIONS(X)

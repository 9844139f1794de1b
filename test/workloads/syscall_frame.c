/* syscall_frame: syscall() has as many arguments as it is given. What lies above its return
 * address, where a seventh would be, is its caller's. */
#define _GNU_SOURCE
#include <linux/seccomp.h>
#include <sys/syscall.h>

#include "workload.h"

enum { WORDS = 6 };
static const uint64_t PATTERN = 0x5a5a1234a5a54321;

__attribute__((noinline)) static int words_that_changed(long number, long a, long b, long c) {
  uint64_t words[WORDS];
  __asm__ volatile(
      "movq %%rsp, %%r12\n\t"
      "andq $-16, %%rsp\n\t"
      "movl $6, %%ecx\n"
      "1: pushq %[pattern]\n\t"
      "loop 1b\n\t"
      "call syscall@plt\n\t"
      "popq 0(%[words])\n\t"
      "popq 8(%[words])\n\t"
      "popq 16(%[words])\n\t"
      "popq 24(%[words])\n\t"
      "popq 32(%[words])\n\t"
      "popq 40(%[words])\n\t"
      "movq %%r12, %%rsp\n\t"
      : "+D"(number), "+S"(a), "+d"(b)
      : [pattern] "r"(PATTERN), [words] "r"(words), "r"(c)
      : "rax", "rcx", "r8", "r9", "r10", "r11", "r12", "memory", "cc");
  int changed = 0;
  for (int i = 0; i < WORDS; i++) changed += words[i] != PATTERN;
  return changed;
}

int main(void) {
  static const struct {
    const char *name;
    long number, a, b;
  } calls[] = {
      {"getpid", SYS_getpid, 0, 0},
      {"futex", SYS_futex, 0, 0},
      {"prctl", SYS_prctl, 21 /* PR_GET_SECCOMP */, 0},
      {"strict", SYS_seccomp, SECCOMP_SET_MODE_STRICT, 1},
      {"filter", SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC},
      {"setresuid", SYS_setresuid, -1, -1},
      {"setgroups", SYS_setgroups, -1, 0},
      {"capset", SYS_capset, 0, 0},
      {"unshare", SYS_unshare, 0, 0},
      {"setns", SYS_setns, -1, 0},
      {"mlockall", SYS_mlockall, -1, 0},
      {"landlock", 446 /* landlock_restrict_self */, -1, 0},
      {"read", SYS_read, -1, 0},
      {"nanosleep", SYS_nanosleep, 0, 0},
  };
  for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
    say("%s %d\n", calls[i].name, words_that_changed(calls[i].number, calls[i].a, calls[i].b, 0));
  return 0;
}

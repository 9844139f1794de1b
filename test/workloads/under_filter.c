/* under_filter ACTION NUMBER[,NUMBER...] PROGRAM...: the program starts under a filter that refuses
 * those system calls, as service managers have it. ACTION: kill_process or errno. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "workload.h"

enum { CALLS_MAX = 40 };

int main(int argc, char **argv) {
  CHECK(argc > 3);
  struct sock_filter code[2 * CALLS_MAX + 2];
  unsigned short size = 0;
  unsigned verdict =
      strcmp(argv[1], "errno") == 0 ? SECCOMP_RET_ERRNO | EPERM : SECCOMP_RET_KILL_PROCESS;
  code[size++] =
      (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  for (char *at = argv[2]; *at; at += *at == ',') {
    unsigned number = (unsigned)strtoul(at, &at, 10);
    CHECK(size < 2 * CALLS_MAX && (*at == ',' || *at == 0));
    code[size++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1);
    code[size++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, verdict);
  }
  code[size++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  struct sock_fprog program = {size, code};
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0);
  execv(argv[3], argv + 3);
  return 96;
}

/* seccomp_probes MODE: calls of seccomp that do not succeed, as programs make them to learn what
 * the kernel can do (qemu, firefox, runc, libseccomp). harmless: from the arguments alone it is
 * clear. refused: it is not. child: a child is forked after one. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "workload.h"

#define PROBE(call)                                   \
  do {                                                \
    errno = 0;                                        \
    long result = (call);                             \
    say("%s: %ld, errno %d\n", #call, result, errno); \
  } while (0)

static FRAME void allocate_after(int times) {
  for (int i = 0; i < times; i++) free(keep(malloc(1000)));
}

static void harmless(void) {
  struct sock_filter one = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  struct sock_fprog of_nothing = {0, &one}, nowhere = {1, NULL}, right = {1, &one};
  unsigned action = SECCOMP_RET_KILL_PROCESS;
  PROBE(prctl(PR_SET_SECCOMP, 77, 0, 0, 0));
  PROBE(syscall(SYS_seccomp, 77, 0, NULL));
  PROBE(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action));
  PROBE(syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, NULL));
  PROBE(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 1, NULL));
  PROBE(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, &one));
  PROBE(prctl(PR_GET_SECCOMP, 0, 0, 0, 0));
  for (int may = 0; may < 2; may++) {
    PROBE(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL, 0, 0));
    PROBE(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, 1, 0, 0));
    PROBE(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &of_nothing, 0, 0));
    PROBE(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &nowhere, 0, 0));
    PROBE(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, NULL));
    PROBE(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, NULL));
    PROBE(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, -4096L));
    if (!may && geteuid() != 0) PROBE(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &right, 0, 0));
    PROBE(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  }
  PROBE(prctl(PR_GET_SECCOMP, 0, 0, 0, 0));
}

static void refused(void) {
  struct sock_filter nonsense = BPF_STMT(0xffff, 0), no_end = BPF_STMT(BPF_LD | BPF_IMM, 0);
  struct sock_fprog one = {1, &nonsense}, two = {1, &no_end}, far = {1, (void *)-4096L};
  PROBE(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  PROBE(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &one, 0, 0));
  PROBE(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &two));
  PROBE(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &far));
  PROBE(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0x80000000u, &one));
  PROBE(prctl(PR_GET_SECCOMP, 0, 0, 0, 0));
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  ready();
  if (strcmp(argv[1], "harmless") == 0) harmless();
  else if (strcmp(argv[1], "refused") == 0) refused();
  else PROBE(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL, 0, 0));
  pid_t child = strcmp(argv[1], "child") == 0 ? fork() : -1;
  if (child == 0) {
    while (getppid() != 1) usleep(10000);
    _exit(0);
  }
  allocate_after(1000);
  ready();
  return 0;
}

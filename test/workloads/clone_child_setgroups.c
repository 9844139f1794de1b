/* clone_child_setgroups HOW WHAT: as container runtimes do, a child by clone(2) itself (HOW: call)
 * or by libc's clone (libc) that changes its user by libc's functions. WHAT: nothing, keepcaps or
 * unshare, before that. With a thread that libc had a half-made record of the child waited for
 * ever. */
#define _GNU_SOURCE
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "workload.h"

static int child(void *unused) {
  (void)unused;
  int groups = setgroups(0, NULL), group = setgid(65534), user = setuid(65534);
  say("setgroups %d, setgid %d, setuid %d, is %d\n", groups, group, user, (int)getuid());
  return user == 0 ? 5 : 6;
}

int main(int count, char **arguments) {
  static char stack[65536] __attribute__((aligned(16)));
  const char *how = count > 1 ? arguments[1] : "", *what = count > 2 ? arguments[2] : "";
  if (strcmp(what, "keepcaps") == 0) CHECK(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0);
  if (strcmp(what, "unshare") == 0) CHECK(unshare(CLONE_NEWUTS) == 0);
  pid_t pid = strcmp(how, "libc") == 0
                  ? clone(child, stack + sizeof stack, CLONE_NEWPID | SIGCHLD, NULL)
                  : (pid_t)syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0);
  if (pid == 0) _exit(child(NULL));
  int status = -1;
  CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
  say("status %d\n", status);
  return 0;
}

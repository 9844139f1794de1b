/* gives_up_rights WAY...: does each, in turn, and is ready after each. What a thread may do is in
 * /proc/self/task/T: the test compares all threads' with the first one's. */
#define _GNU_SOURCE
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "workload.h"

static int change_capabilities(unsigned keep) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2];
  if (syscall(SYS_capget, &header, data) != 0) return -1;
  for (int i = 0; i < 2; i++) data[i].permitted &= keep, data[i].effective &= keep;
  return (int)syscall(SYS_capset, &header, data);
}

static int way(const char *name) {
  static const gid_t groups[] = {7, 8, 9};
  if (strcmp(name, "setgroups") == 0) return setgroups(3, groups);
  if (strcmp(name, "initgroups") == 0) return initgroups("root", 12);
  if (strcmp(name, "setegid") == 0) return setegid(1000);
  if (strcmp(name, "seteuid") == 0) return seteuid(1000);
  if (strcmp(name, "seteuid_back") == 0) return seteuid(0);
  if (strcmp(name, "setgid") == 0) return setgid(65534);
  if (strcmp(name, "setuid") == 0) return setuid(65534);
  if (strcmp(name, "setresgid") == 0) return setresgid(5, 6, 7);
  if (strcmp(name, "setresuid") == 0) return setresuid(5, 6, 7);
  if (strcmp(name, "setregid") == 0) return setregid(11, 12);
  if (strcmp(name, "setreuid") == 0) return setreuid(11, 12);
  if (strcmp(name, "number") == 0) return (int)syscall(SYS_setresuid, 65534, 65534, 65534);
  if (strcmp(name, "keepcaps") == 0) return prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
  if (strcmp(name, "capset") == 0) return change_capabilities(0xf0f0f0f0u);
  if (strcmp(name, "no_capability") == 0) return change_capabilities(0);
  if (strcmp(name, "unshare_uts") == 0) return unshare(CLONE_NEWUTS);
  if (strcmp(name, "unshare_net") == 0) return unshare(CLONE_NEWNET);
  if (strcmp(name, "unshare_mount") == 0) return unshare(CLONE_NEWNS);
  if (strcmp(name, "unshare_user") == 0) return unshare(CLONE_NEWUSER);
  return -1;
}

int main(int count, char **arguments) {
  if (!ready()) return 1;
  for (int i = 1; i < count; i++) {
    say("%s %d\n", arguments[i], way(arguments[i]));
    if (!ready()) return 1;
  }
  return 0;
}

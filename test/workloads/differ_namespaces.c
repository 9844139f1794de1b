/* unshare, setns and chroot, and what comes after them. See differ.h. */
#define _GNU_SOURCE
#include <grp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>

#include "differ.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

static const struct {
  const char *name, *file;
  int flags;
} kinds[] = {
    {"mnt", "mnt", CLONE_NEWNS},
    {"uts", "uts", CLONE_NEWUTS},
    {"ipc", "ipc", CLONE_NEWIPC},
    {"net", "net", CLONE_NEWNET},
    {"pid", "pid_for_children", CLONE_NEWPID},
    {"user", "user", CLONE_NEWUSER},
    {"cgroup", "cgroup", CLONE_NEWCGROUP},
    {"time", "time_for_children", CLONE_NEWTIME},
    {"fs", NULL, CLONE_FS},
    {"files", NULL, CLONE_FILES},
    {"sysvsem", NULL, CLONE_SYSVSEM},
    {"vm", NULL, CLONE_VM},
    {"sighand", NULL, CLONE_SIGHAND},
    {"thread", NULL, CLONE_THREAD},
    {"all", NULL,
     CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWUSER},
};

static size_t kind_of(const char *name) {
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
    if (strcmp(strchr(name, '_') + 1, kinds[i].name) == 0) return i;
  _exit(99);
}

static void write_map(const char *path, const char *text) {
  int fd = open(path, O_WRONLY);
  say("%s: %s\n", path, write(fd, text, strlen(text)) > 0 ? "written" : strerrorname_np(errno));
  close(fd);
}

static void after(int flags) {
  if (flags & CLONE_NEWUSER) {
    write_map("/proc/self/setgroups", "deny");
    write_map("/proc/self/uid_map", "0 0 1");
    write_map("/proc/self/gid_map", "0 0 1");
    TRY(setuid(0));
  }
  if (flags & CLONE_NEWNS) {
    TRY(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
    TRY(mount("none", "/tmp", "tmpfs", 0, NULL));
  }
  if (flags & CLONE_NEWUTS) {
    struct utsname name;
    TRY(sethostname("inside", 6));
    uname(&name);
    say("host %s\n", name.nodename);
  }
  if (flags & CLONE_NEWNET) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    say("socket: %s\n", fd >= 0 ? "open" : strerrorname_np(errno));
    if (fd >= 0) close(fd);
  }
  if (flags & CLONE_NEWTIME) write_map("/proc/self/timens_offsets", "monotonic 86400 0\n");
}

static void leave(const char *name) {
  int flags = kinds[kind_of(name)].flags;
  if (TRY(unshare(flags)) == 0) after(flags); /* or it would be done to the machine */
  pid_t pid = fork();
  if (pid == 0) {
    if (flags & CLONE_NEWPID) say("first: %s\n", getpid() == 1 ? "yes" : "no");
    _exit(3);
  }
  if (pid > 0) say_end("child", pid);
  ordinary_life();
}

static void raw_leave(const char *name) {
  int flags = kinds[kind_of(name)].flags;
  if (TRY(syscall(SYS_unshare, flags)) == 0) after(flags);
  ordinary_life();
}

/* A child with namespaces of its own, and its descriptor of one of them. */
static pid_t child_in(int flags, int *end) {
  int pipes[2], ready[2];
  CHECK(pipe(pipes) == 0 && pipe(ready) == 0);
  pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0);
  if (pid == 0) {
    char c = unshare(flags) == 0;
    close(pipes[1]);
    if (write(ready[1], &c, 1) != 1 || read(pipes[0], &c, 1) != 0) _exit(1);
    _exit(0);
  }
  char c;
  CHECK(read(ready[0], &c, 1) == 1);
  close(pipes[0]), close(ready[0]), close(ready[1]);
  *end = pipes[1];
  return c ? pid : (close(pipes[1]), -1);
}

static void enter(const char *name, int by_pidfd) {
  size_t kind = kind_of(name);
  int end, fd;
  char path[64];
  pid_t pid = child_in(kinds[kind].flags, &end);
  if (pid < 0) {
    say("not here\n");
    return;
  }
  if (by_pidfd) {
    fd = (int)syscall(SYS_pidfd_open, pid, 0);
  } else {
    snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)pid, kinds[kind].file);
    fd = open(path, O_RDONLY);
  }
  TRY(setns(fd, kinds[kind].flags));
  TRY(setns(fd, kinds[kind].flags));
  close(fd), close(end);
  say_end("other", pid);
  if (kinds[kind].flags == CLONE_NEWPID) return; /* whose first process is gone */
  ordinary_life();
}

static void by_file(const char *name) { enter(name, 0); }
static void pidfd(const char *name) { enter(name, 1); }

static void first_user_then_all(const char *name) {
  (void)name;
  gid_t groups[] = {7};
  TRY(setgroups(1, groups));
  TRY(setresgid(1234, 1234, 1234));
  TRY(setresuid(1234, 1234, 1234));
  TRY(unshare(CLONE_NEWUSER));
  write_map("/proc/self/uid_map", "0 1234 1");
  if (TRY(unshare(CLONE_NEWNS | CLONE_NEWPID)) == 0) TRY(mount("none", "/mnt", "tmpfs", 0, NULL));
  ordinary_life();
}

static void new_root(const char *name, int with_proc) {
  (void)name;
  char root[] = "root-XXXXXX", proc[64];
  CHECK(mkdtemp(root));
  snprintf(proc, sizeof proc, "%s/proc", root);
  if (TRY(unshare(CLONE_NEWNS)) || TRY(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))) return;
  if (with_proc) {
    TRY(mkdir(proc, 0755));
    TRY(mount("proc", proc, "proc", 0, NULL));
  }
  TRY(chroot(root));
  TRY(chdir("/"));
  TRY(access("/proc/self/status", F_OK));
  gid_t groups[] = {7};
  TRY(setgroups(1, groups));
  TRY(setresuid(1234, 1234, 1234));
  TRY(setresuid(0, 0, 0));
  ordinary_life();
}

static void root_without_proc(const char *name) { new_root(name, 0); }
static void root_with_proc(const char *name) { new_root(name, 1); }

static const struct differ_case cases[] = {
    {"unshare_mnt", leave},
    {"unshare_uts", leave},
    {"unshare_ipc", leave},
    {"unshare_net", leave},
    {"unshare_pid", leave},
    {"unshare_user", leave},
    {"unshare_cgroup", leave},
    {"unshare_time", leave},
    {"unshare_fs", leave},
    {"unshare_files", leave},
    {"unshare_sysvsem", leave},
    {"unshare_vm", leave},
    {"unshare_sighand", leave},
    {"unshare_thread", leave},
    {"unshare_all", leave},
    {"raw_mnt", raw_leave},
    {"raw_uts", raw_leave},
    {"raw_net", raw_leave},
    {"raw_user", raw_leave},
    {"raw_time", raw_leave},
    {"raw_fs", raw_leave},
    {"raw_files", raw_leave},
    {"raw_vm", raw_leave},
    {"raw_sighand", raw_leave},
    {"raw_thread", raw_leave},
    {"raw_all", raw_leave},
    {"setns_mnt", by_file},
    {"setns_uts", by_file},
    {"setns_ipc", by_file},
    {"setns_net", by_file},
    {"setns_user", by_file},
    {"setns_cgroup", by_file},
    {"setns_time", by_file},
    {"pidfd_mnt", pidfd},
    {"pidfd_user", pidfd},
    {"pidfd_net", pidfd},
    {"pidfd_all", pidfd},
    {"first_user_then_all", first_user_then_all},
    {"root_without_proc", root_without_proc},
    {"root_with_proc", root_with_proc},
};

DIFFER_MAIN(cases)

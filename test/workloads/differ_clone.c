/* Children of every kind do at once what they may do without the agent. See differ.h. */
#define _GNU_SOURCE
#include <grp.h>
#include <linux/sched.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "differ.h"

extern char **environ;

static const struct {
  const char *name;
  unsigned long long flags;
} forms[] = {
    {"none", 0},
    {"fs", CLONE_FS},
    {"files", CLONE_FILES},
    {"sysvsem", CLONE_SYSVSEM},
    {"io", CLONE_IO},
    {"untraced", CLONE_UNTRACED},
    {"ptrace", CLONE_PTRACE},
    {"vfork", CLONE_VFORK},
    {"settid", CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID},
    {"pidfd", CLONE_PIDFD},
    {"newns", CLONE_NEWNS},
    {"newuts", CLONE_NEWUTS},
    {"newipc", CLONE_NEWIPC},
    {"newnet", CLONE_NEWNET},
    {"newpid", CLONE_NEWPID},
    {"newuser", CLONE_NEWUSER},
    {"newcgroup", CLONE_NEWCGROUP},
    {"container", CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWPID},
    {"newuser_newpid", CLONE_NEWUSER | CLONE_NEWPID},
    {"newns_fs", CLONE_NEWNS | CLONE_FS}, /* refused */
    {"thread_alone", CLONE_THREAD}, /* refused */
    {"sighand_alone", CLONE_SIGHAND}, /* refused */
};

static unsigned long long flags_of(const char *name) {
  for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
    if (strcmp(strchr(name, '_') + 1, forms[i].name) == 0) return forms[i].flags;
  _exit(99);
}

/* What libc does for the sake of other threads waits for ever where it knows of one that is not
 * there: the alarm ends that. */
static int live(void *argument) {
  const char *name = argument;
  alarm(40);
  if (flags_of(name) & CLONE_NEWPID) say("first: %s\n", getpid() == 1 ? "yes" : "no");
  ordinary_life();
  gid_t groups[] = {5, 6};
  TRY(setgroups(2, groups));
  TRY(setgid(2000));
  TRY(setuid(2000));
  TRY(setuid(0));
  TRY(unshare(CLONE_NEWUSER));
  ordinary_life();
  return 9;
}

static void by_syscall(const char *name) {
  unsigned long flags = (unsigned long)flags_of(name);
  int parent_tid = 0, child_tid = 0; /* PARENT_SETTID and PIDFD write there */
  long pid = syscall(SYS_clone, flags | SIGCHLD, NULL, &parent_tid, &child_tid, 0);
  if (pid == 0) _exit(live((void *)name));
  if (pid < 0) say("clone: %s\n", strerrorname_np(errno));
  else say_end("child", (pid_t)pid);
}

static void by_clone3(const char *name) {
  struct clone_args arguments = {.flags = flags_of(name), .exit_signal = SIGCHLD};
  int parent_tid = 0, child_tid = 0, pidfd = -1;
  arguments.parent_tid = (uintptr_t)&parent_tid;
  arguments.child_tid = (uintptr_t)&child_tid;
  arguments.pidfd = (uintptr_t)&pidfd;
  long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid == 0) _exit(live((void *)name));
  if (pid < 0) say("clone3: %s\n", strerrorname_np(errno));
  else say_end("child", (pid_t)pid);
}

enum { STACK = 1 << 20 };

static char *new_stack(void) {
  char *start = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return start + STACK;
}

static void by_libc(const char *name) {
  int parent_tid = 0, child_tid = 0;
  int flags = (int)flags_of(name);
  int pid = clone(live, new_stack(), flags | SIGCHLD, (void *)name, &parent_tid, NULL, &child_tid);
  if (pid < 0) say("clone: %s\n", strerrorname_np(errno));
  else say_end("child", pid);
}

static int exec_true(void *argument) {
  execl("/bin/true", "true", NULL);
  return argument == NULL ? 98 : 97;
}

/* In the parent's memory until it execs: what posix_spawn and container runtimes do. */
static void vm_vfork(const char *name) {
  int pid = clone(exec_true, new_stack(), CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
  say_end("child", pid);
  (void)name;
}

static int set_ids(void *argument) {
  gid_t groups[] = {5};
  if (syscall(SYS_setgroups, 1, groups) || syscall(SYS_setresgid, 7, 7, 7)) return 96;
  if (syscall(SYS_setresuid, 7, 7, 7)) return 95;
  return exec_true(argument);
}

static void vm_set_ids(const char *name) {
  int pid = clone(set_ids, new_stack(), CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
  say_end("child", pid);
  TRY(setuid(0));
  (void)name;
}

static void by_vfork(const char *name) {
  pid_t pid = vfork();
  if (pid == 0) _exit(3);
  say_end("vfork", pid);
  pid = vfork();
  if (pid == 0) {
    execl("/bin/true", "true", NULL);
    _exit(98);
  }
  say_end("vfork and exec", pid);
  ordinary_life();
  (void)name;
}

static void by_fork(const char *name) {
  pid_t pid = fork();
  if (pid == 0) _exit(live((void *)"fork_none"));
  say_end("fork", pid);
  (void)name;
}

static void by__Fork(const char *name) {
  pid_t pid = _Fork();
  if (pid == 0) _exit(live((void *)"fork_none"));
  say_end("_Fork", pid);
  (void)name;
}

static void by_spawn(const char *name) {
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t set;
  sigfillset(&set);
  posix_spawnattr_setsigdefault(&attributes, &set);
  posix_spawnattr_setsigmask(&attributes, &set);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK |
                                            POSIX_SPAWN_SETSID | POSIX_SPAWN_RESETIDS);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 5, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addclose(&actions, 0);
  pid_t pid;
  char *grep[] = {"grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status", NULL};
  say("posix_spawn: %d\n", posix_spawn(&pid, "/bin/grep", &actions, &attributes, grep, environ));
  say_end("grep", pid);
  say("none: %d\n", posix_spawnp(&pid, "no-such-program", NULL, NULL, grep, environ));
  say("bad actions: %d\n", posix_spawn_file_actions_addclose(&actions, -1));
  say("system: %d\n", system("exit 5"));
  FILE *pipe = popen("echo popen", "r");
  char line[64] = "";
  say("popen: %s", pipe ? fgets(line, sizeof line, pipe) : "failed\n");
  say("pclose: %d\n", pclose(pipe));
  (void)name;
}

/* The first process of a pid namespace: its children, its orphans, its end. */
static int first_process(void *argument) {
  say("pid %d of parent %d\n", (int)getpid(), (int)getppid());
  ordinary_life();
  pid_t middle = fork();
  if (middle == 0) {
    if (fork() == 0) _exit(11); /* becomes an orphan: ours */
    _exit(12);
  }
  int ends[2] = {0}, status, count = 0;
  while (count < 2 && wait(&status) > 0) ends[count++] = WEXITSTATUS(status);
  say("%d ends, %d in all\n", count, ends[0] + ends[1]);
  TRY(wait(NULL));
  TRY(kill(1, SIGTERM)); /* has no effect on it */
  return argument == NULL;
}

static void pid_1(const char *name) {
  static char any;
  int pid = clone(first_process, new_stack(), CLONE_NEWPID | SIGCHLD, &any);
  say_end("first process", pid);
  pid = (int)syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, 0);
  if (pid == 0) _exit(first_process(&any));
  say_end("first process, raw", pid);
  (void)name;
}

static void set_tid(const char *name) {
  pid_t wanted[] = {300};
  TRY(unshare(CLONE_NEWPID));
  pid_t init = fork();
  if (init == 0) {
    struct clone_args arguments = {
        .exit_signal = SIGCHLD, .set_tid = (uintptr_t)wanted, .set_tid_size = 1};
    long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
    if (pid == 0) _exit(getpid() == 300 ? 30 : 31);
    say_end("set_tid", (pid_t)pid);
    _exit(0);
  }
  say_end("init", init);
  (void)name;
}

static void clear_sighand(const char *name) {
  signal(SIGUSR1, SIG_IGN);
  struct clone_args arguments = {.exit_signal = SIGCHLD, .flags = CLONE_CLEAR_SIGHAND};
  long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid == 0) {
    raise(SIGUSR2);
    _exit(1);
  }
  say_end("child", (pid_t)pid);
  (void)name;
}

static int storm_child(void *argument) {
  gid_t groups[] = {5};
  setgroups(1, groups);
  return setuid(3000) == 0 ? 0 : argument != NULL;
}

/* Many in turn: some are made in an unlucky moment. */
static void storm(const char *name) {
  char *stack = new_stack();
  int failed = 0;
  for (int i = 0; i < 200; i++) {
    int status, pid = clone(storm_child, stack, SIGCHLD, NULL);
    if (waitpid(pid, &status, 0) != pid || status != 0) failed++;
  }
  say("%d failed\n", failed);
  (void)name;
}

/* clang-format off */
#define FORMS(prefix, run)                                                                      \
  {prefix "_none", run}, {prefix "_fs", run}, {prefix "_files", run}, {prefix "_sysvsem", run}, \
      {prefix "_io", run}, {prefix "_untraced", run}, {prefix "_ptrace", run},                  \
      {prefix "_vfork", run}, {prefix "_settid", run}, {prefix "_newns", run},                  \
      {prefix "_newuts", run}, {prefix "_newipc", run}, {prefix "_newnet", run},                \
      {prefix "_newpid", run}, {prefix "_newuser", run}, {prefix "_newcgroup", run},            \
      {prefix "_container", run}, {prefix "_newuser_newpid", run}, {prefix "_newns_fs", run},   \
      {prefix "_thread_alone", run}, {prefix "_sighand_alone", run}
/* clang-format on */

static const struct differ_case cases[] = {
    FORMS("syscall", by_syscall),
    {"syscall_pidfd", by_syscall},
    FORMS("clone3", by_clone3),
    {"clone3_pidfd", by_clone3},
    FORMS("libc", by_libc),
    {"vm_vfork", vm_vfork},
    {"vm_set_ids", vm_set_ids},
    {"vfork", by_vfork},
    {"fork", by_fork},
    {"_Fork", by__Fork},
    {"spawn", by_spawn},
    {"pid_1", pid_1},
    {"set_tid", set_tid},
    {"clear_sighand", clear_sighand},
    {"storm", storm},
};

DIFFER_MAIN(cases)

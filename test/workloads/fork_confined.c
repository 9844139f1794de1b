/* fork_confined MODE [FILE]: children that daemonize, give up rights, or have little left. Each
 * prints the same with and without the agent; where it says `ready` the test may look at the
 * processes that there are. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "workload.h"

enum { NOBODY = 65534 };

static void allocate(int times) {
  for (int i = 0; i < times; i++) free(keep(malloc((size_t)(1 + i * 7 % 3000))));
}

static int status_of(pid_t child) {
  int status = 0;
  CHECK(child > 0 && waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : WIFSIGNALED(status) ? -WTERMSIG(status) : -1000;
}

/* ---- daemons: they report in a file, and end when it is removed ---- */

static void report(const char *path, const char *format, ...) {
  char temporary[1000];
  snprintf(temporary, sizeof temporary, "%s.new", path);
  FILE *file = fopen(temporary, "w");
  va_list arguments;
  if (!file) _exit(94);
  va_start(arguments, format);
  vfprintf(file, format, arguments);
  va_end(arguments);
  if (fclose(file) != 0 || rename(temporary, path) != 0) _exit(93);
}

static void live_while(const char *path) {
  struct timespec pause = {.tv_nsec = 20000000};
  while (access(path, F_OK) == 0) nanosleep(&pause, NULL);
  allocate(100);
  exit(0);
}

static int count_descriptors(void) {
  DIR *directory = opendir("/proc/self/fd");
  int count = -1; /* this one */
  for (struct dirent *entry; (entry = readdir(directory));) count += entry->d_name[0] != '.';
  closedir(directory);
  return count;
}

static void libc_daemon(const char *path) {
  if (daemon(0, 0) != 0) _exit(92);
  allocate(3000);
  report(path, "descriptors %d, next %d, leader %d\n", count_descriptors(),
         open("/dev/null", O_RDONLY), getsid(0) == getpid());
  live_while(path);
}

/* As Stevens has it: twice, and every descriptor closed, at once and again when all is well. */
static void double_fork(const char *path) {
  if (fork() != 0) _exit(0);
  setsid();
  signal(SIGHUP, SIG_IGN);
  if (fork() != 0) _exit(0);
  syscall(SYS_close_range, 0, ~0U, 0);
  int a = open("/dev/null", O_RDWR), b = dup(0), c = dup(0);
  chdir("/");
  umask(0);
  struct timespec pause = {.tv_nsec = 100000000}; /* beyond the agent's start */
  nanosleep(&pause, NULL);
  syscall(SYS_close_range, 0, ~0U, 0);
  a = a * 100 + open("/dev/null", O_RDWR), b = b * 100 + dup(0), c = c * 100 + dup(0);
  allocate(3000);
  for (int i = 3; i < 200; i++) CHECK(open("/dev/null", O_RDONLY) == i);
  for (int i = 3; i < 200; i++) CHECK(close(i) == 0);
  report(path, "descriptors %d %d %d, in all %d\n", a, b, c, count_descriptors());
  live_while(path);
}

/* ---- rights given up ---- */

static void chroot_child(const char *path) {
  pid_t pid = fork();
  if (pid == 0) {
    if (chroot(path) != 0 || chdir("/") != 0) _exit(91);
    if (setgroups(0, NULL) != 0 || setgid(NOBODY) != 0 || setuid(NOBODY) != 0) _exit(90);
    allocate(3000);
    say("uid %d, /proc %d, back to root %d\n", getuid(), access("/proc", F_OK), setuid(0));
    ready();
    allocate(100);
    _exit(3);
  }
  say("child exit %d\n", status_of(pid));
}

/* Only what the child itself does is allowed, and the call by which the sampler asks for pages of a
 * stack; everything else kills the process. */
static void install_filter(void) {
  struct sock_filter code[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
#define ALLOW(number) \
  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
                               ALLOW(SYS_read),
                               ALLOW(SYS_write),
                               ALLOW(SYS_exit_group),
                               ALLOW(SYS_brk),
                               ALLOW(SYS_mmap),
                               ALLOW(SYS_munmap),
                               ALLOW(SYS_rt_sigprocmask),
                               BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)};
  struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static void filter_child(void) {
  for (int later = 0; later < 2; later++) {
    pid_t pid = fork();
    if (pid == 0) {
      if (later) ready();
      install_filter();
      allocate(100000);
      say("filtered\n");
      ready();
      allocate(1000);
      _exit(4);
    }
    say("child exit %d\n", status_of(pid));
  }
}

static void strict_child(void) {
  pid_t pid = fork();
  if (pid == 0) {
    free(keep(malloc(100000)));
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
    allocate(100000);
    say("strict\n");
    syscall(SYS_exit, 5);
  }
  say("child exit %d\n", status_of(pid));
}

/* The parent has a filter of its own, which kills for calls that an agent makes: its children get
 * none. */
static void filtered_parent(void) {
  struct sock_filter code[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
                               BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 2, 0),
                               BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpid, 1, 0),
                               BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_unshare, 0, 1),
                               BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
                               BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
  pid_t pid = fork();
  if (pid == 0) {
    allocate(3000);
    ready();
    _exit(6);
  }
  say("child exit %d\n", status_of(pid));
}

static void unshare_child(void) {
  for (int later = 0; later < 2; later++) {
    pid_t pid = fork();
    if (pid == 0) {
      if (later) ready();
      int result = unshare(CLONE_NEWUSER), error = result ? errno : 0;
      say("unshare %d %d\n", result, error);
      ready();
      allocate(3000);
      pid_t grandchild = fork();
      if (grandchild == 0) _exit(8);
      _exit(status_of(grandchild));
    }
    say("child exit %d\n", status_of(pid));
  }
}

/* ---- little left ---- */

static void *nothing(void *unused) { return unused; }

static long address_space(void) {
  char text[100] = "";
  int file = open("/proc/self/statm", O_RDONLY);
  CHECK(read(file, text, sizeof text - 1) > 0);
  close(file);
  return atol(text) * sysconf(_SC_PAGESIZE);
}

/* kilobytes: address space that is left when the parent forks. */
static void memory_limit(long kilobytes) {
  struct rlimit limit;
  CHECK(getrlimit(RLIMIT_AS, &limit) == 0);
  limit.rlim_cur = (rlim_t)(address_space() + kilobytes * 1024);
  CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
  for (int i = 0; i < 5; i++) {
    pid_t pid = fork();
    if (pid == 0) {
      for (int j = 0; j < 2000; j++) free(keep(malloc((size_t)(j % 100))));
      _exit(20 + i);
    }
    int status = status_of(pid);
    if (status != 20 + i) say("child exit %d\n", status);
  }
  say("limited\n");
}

/* No process or thread more than there are; the limit is not root's. */
static void process_limit(void) {
  struct rlimit limit = {1, 1};
  CHECK(setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
  int gate[2];
  CHECK(pipe(gate) == 0);
  pid_t pid = fork();
  if (pid == 0) {
    pthread_t thread;
    CHECK(setrlimit(RLIMIT_NPROC, &limit) == 0);
    int error = pthread_create(&thread, NULL, nothing, NULL);
    say("thread: %s, fork: %s\n", strerror(error), fork() < 0 ? strerror(errno) : "made");
    allocate(3000);
    ready();
    _exit(7);
  }
  say("child exit %d\n", status_of(pid));
  struct rlimit own = {2, 2}; /* this one and its next child, in a plain run */
  CHECK(setrlimit(RLIMIT_NPROC, &own) == 0);
  ready();
}

int main(int argc, char **argv) {
  CHECK(argc > 1);
  alarm(300);
  allocate(1); /* malloc's first call asks for random numbers, which a filter may forbid */
  const char *mode = argv[1], *word = argc > 2 ? argv[2] : "";
  if (strcmp(mode, "libc_daemon") == 0) libc_daemon(word);
  else if (strcmp(mode, "double_fork") == 0) double_fork(word);
  else if (strcmp(mode, "chroot_child") == 0) chroot_child(word);
  else if (strcmp(mode, "filter_child") == 0) filter_child();
  else if (strcmp(mode, "strict_child") == 0) strict_child();
  else if (strcmp(mode, "filtered_parent") == 0) filtered_parent();
  else if (strcmp(mode, "unshare_child") == 0) unshare_child();
  else if (strcmp(mode, "memory_limit") == 0) memory_limit(atol(word));
  else if (strcmp(mode, "process_limit") == 0) process_limit();
  else CHECK(!"mode");
  return 0;
}

/* Sandboxes that a program puts itself into. See differ.h. */
#define _GNU_SOURCE
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>

#include "differ.h"

/* What most sandboxes let a program go on with; no clone, no socket, no prctl, no open. */
static const int few[] = {SYS_read,
                          SYS_write,
                          SYS_exit,
                          SYS_exit_group,
                          SYS_brk,
                          SYS_mmap,
                          SYS_munmap,
                          SYS_mprotect,
                          SYS_mremap,
                          SYS_madvise,
                          SYS_futex,
                          SYS_rt_sigreturn,
                          SYS_rt_sigprocmask,
                          SYS_clock_nanosleep,
                          SYS_nanosleep,
                          SYS_getpid,
                          SYS_gettid,
                          SYS_tgkill,
                          SYS_getrandom,
                          SYS_close,
                          SYS_wait4,
                          -1};
static const int fork_too[] = {SYS_clone, SYS_set_robust_list, SYS_rseq, -1};

enum { NUMBER = offsetof(struct seccomp_data, nr) };

/* Allows the calls of two lists; what is not in them: otherwise. */
static long filter(unsigned otherwise, unsigned flags, const int *calls, const int *more) {
  struct sock_filter code[100];
  size_t n = 0;
  code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, NUMBER);
  for (const int *list = calls; list; list = list == calls ? more : NULL)
    for (size_t i = 0; list[i] >= 0; i++) {
      code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)list[i], 0, 1);
      code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
  code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, otherwise);
  struct sock_fprog program = {(unsigned short)n, code};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (flags == 99) return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

static long all_but(int call, unsigned action, unsigned flags) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, NUMBER),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, action),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {sizeof code / sizeof *code, code};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

/* Blocks of all sizes, so that some are sampled whatever the rate is. */
static void allocate(void) {
  for (int round = 0; round < 20; round++) {
    void *blocks[100];
    for (size_t i = 0; i < 100; i++)
      memset(blocks[i] = keep(malloc(i * 3000 + 1)), 1, i * 3000 + 1);
    for (size_t i = 0; i < 100; i++) free(blocks[i]);
  }
  say("allocated\n");
}

static void wait_seconds(long seconds) {
  struct timespec left = {seconds, 0};
  nanosleep(&left, NULL);
}

static long kill_others(unsigned flags) {
  return filter(SECCOMP_RET_KILL_PROCESS, flags, few, NULL);
}

static void own_filter(const char *name) {
  TRY(kill_others(0));
  allocate();
  (void)name;
}

static void by_prctl(const char *name) {
  TRY(kill_others(99));
  allocate();
  exit(4); /* destructors too */
  (void)name;
}

static void own_filter_errno(const char *name) {
  TRY(filter(SECCOMP_RET_ERRNO | EPERM, 0, few, NULL));
  allocate();
  TRY(open("/dev/null", O_RDONLY));
  TRY(fork());
  (void)name;
}

static void own_filter_fork(const char *name) {
  TRY(filter(SECCOMP_RET_KILL_PROCESS, 0, few, fork_too));
  pid_t pid = fork();
  if (pid == 0) {
    allocate();
    _exit(5);
  }
  say_end("child", pid);
  allocate();
  (void)name;
}

static void tsync_kill(const char *name) {
  TRY(kill_others(SECCOMP_FILTER_FLAG_TSYNC));
  allocate();
  wait_seconds(1);
  say("alive\n");
  (void)name;
}

static void tsync_kill_long(const char *name) {
  TRY(kill_others(SECCOMP_FILTER_FLAG_TSYNC));
  wait_seconds(7); /* longer than anything periodic is apart */
  allocate();
  (void)name;
}

static void tsync_errno(const char *name) {
  TRY(filter(SECCOMP_RET_ERRNO | ENOSYS, SECCOMP_FILTER_FLAG_TSYNC, few, NULL));
  wait_seconds(1);
  allocate();
  (void)name;
}

static volatile int traps;
static void trapped(int number) {
  traps++;
  (void)number;
}

static void tsync_trap(const char *name) {
  signal(SIGSYS, trapped);
  TRY(filter(SECCOMP_RET_TRAP, SECCOMP_FILTER_FLAG_TSYNC, few, NULL));
  wait_seconds(1);
  syscall(SYS_getppid);
  say("%d traps\n", traps);
  (void)name;
}

static void tsync_log(const char *name) {
  TRY(filter(SECCOMP_RET_LOG, SECCOMP_FILTER_FLAG_TSYNC, few, NULL));
  ordinary_life();
  (void)name;
}

static void allow_all(const char *name) {
  TRY(all_but(SYS_getppid, SECCOMP_RET_ERRNO | EDOM, 0));
  TRY(syscall(SYS_getppid));
  ordinary_life();
  (void)name;
}

static void allow_all_flags(const char *name) {
  TRY(all_but(SYS_getppid, SECCOMP_RET_ERRNO | EDOM, SECCOMP_FILTER_FLAG_TSYNC));
  TRY(all_but(SYS_getuid, SECCOMP_RET_ERRNO | EDOM, SECCOMP_FILTER_FLAG_LOG));
  TRY(all_but(SYS_getgid, SECCOMP_RET_ERRNO | EDOM, SECCOMP_FILTER_FLAG_SPEC_ALLOW));
  TRY(all_but(SYS_getegid, SECCOMP_RET_ERRNO | EDOM, 1 << 20));
  TRY(syscall(SYS_getuid));
  ordinary_life();
  (void)name;
}

static void kill_process(const char *name) {
  TRY(all_but(SYS_getppid, SECCOMP_RET_KILL_PROCESS, 0));
  syscall(SYS_getppid);
  say("alive\n");
  (void)name;
}

static void kill_thread(const char *name) {
  TRY(all_but(SYS_getppid, SECCOMP_RET_KILL_THREAD, 0));
  syscall(SYS_getppid);
  say("alive\n");
  (void)name;
}

static void kill_thread_in_child(const char *name) {
  pid_t pid = fork();
  if (pid == 0) kill_thread(name);
  say_end("child", pid);
}

static void strict(const char *name) {
  TRY(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
  say("in strict mode\n");
  syscall(SYS_exit, 6);
  (void)name;
}

static void strict_killed(const char *name) {
  TRY(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, NULL));
  syscall(SYS_getppid);
  (void)name;
}

static void strict_malloc(const char *name) {
  free(keep(malloc(1000)));
  TRY(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
  for (int i = 0; i < 10000; i++) free(keep(malloc(1000))); /* 10 MB, of which libc maps nothing */
  say("allocated\n");
  syscall(SYS_exit, 7);
  (void)name;
}

static void probes(const char *name) {
  TRY(prctl(PR_GET_SECCOMP));
  TRY(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL));
  TRY(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, NULL));
  TRY(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, NULL));
  TRY(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_LOG, NULL));
  TRY(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 1, NULL));
  TRY(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, "x"));
  TRY(syscall(SYS_seccomp, 77, 0, NULL));
  unsigned action = SECCOMP_RET_KILL_PROCESS;
  TRY(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action));
  struct sock_fprog none = {0, NULL};
  TRY(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &none));
  TRY(prctl(PR_SET_SECCOMP, 77));
  TRY(prctl(PR_GET_SECCOMP));
  ordinary_life();
  (void)name;
}

static void listener(const char *name) {
  long fd = TRY(all_but(SYS_getppid, SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER));
  close((int)fd);
  TRY(syscall(SYS_getppid)); /* nobody answers: ENOSYS */
  ordinary_life();
  (void)name;
}

static void exec_under_filter(const char *name) {
  TRY(all_but(SYS_acct, SECCOMP_RET_KILL_PROCESS, SECCOMP_FILTER_FLAG_TSYNC));
  execl("/bin/sh", "sh", "-c", "echo from sh; exit 8", NULL);
  (void)name;
}

static void *filtered_thread(void *argument) {
  TRY(all_but(SYS_getppid, SECCOMP_RET_ERRNO | EDOM, SECCOMP_FILTER_FLAG_TSYNC));
  return argument;
}

static void tsync_from_a_thread(const char *name) {
  pthread_t thread;
  pthread_create(&thread, NULL, filtered_thread, NULL);
  pthread_join(thread, NULL);
  TRY(syscall(SYS_getppid));
  ordinary_life();
  (void)name;
}

/* Threads that have filters of their own: TSYNC names one that is in the way. */
static void *other_filter(void *argument) {
  all_but(SYS_getuid, SECCOMP_RET_ERRNO | EDOM, 0);
  pthread_barrier_wait(argument);
  pthread_barrier_wait(argument);
  return NULL;
}

static void tsync_refused(const char *name) {
  pthread_t thread;
  pthread_barrier_t barrier;
  pthread_barrier_init(&barrier, NULL, 2);
  pthread_create(&thread, NULL, other_filter, &barrier);
  pthread_barrier_wait(&barrier);
  TRY(all_but(SYS_getppid, SECCOMP_RET_ERRNO | EDOM, SECCOMP_FILTER_FLAG_TSYNC));
  pthread_barrier_wait(&barrier);
  pthread_join(thread, NULL);
  (void)name;
}

#define CASE(name) \
  { #name, name }
static const struct differ_case cases[] = {
    CASE(own_filter),
    CASE(by_prctl),
    CASE(own_filter_errno),
    CASE(own_filter_fork),
    CASE(tsync_kill),
    CASE(tsync_kill_long),
    CASE(tsync_errno),
    CASE(tsync_trap),
    CASE(tsync_log),
    CASE(allow_all),
    CASE(allow_all_flags),
    CASE(kill_process),
    CASE(kill_thread),
    CASE(kill_thread_in_child),
    CASE(strict),
    CASE(strict_killed),
    CASE(strict_malloc),
    CASE(probes),
    CASE(listener),
    CASE(exec_under_filter),
    CASE(tsync_from_a_thread),
    CASE(tsync_refused),
};

DIFFER_MAIN(cases)

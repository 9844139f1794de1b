/* Keeps 100 blocks of 10,000 bytes that f allocates, frees 50 of 2,000 that g allocates, and ends
 * in the way that its first argument names; "wait": when its input ends, or it is told to go on,
 * with more of f's first. */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "workload.h"

enum { F_BLOCKS = 100, F_SIZE = 10000, G_BLOCKS = 50, G_SIZE = 2000 };

static FRAME void *f(void) { return keep(malloc(F_SIZE)); }
static FRAME void *g(void) { return keep(malloc(G_SIZE)); }

static void allocates(void) {
  for (int i = 0; i < F_BLOCKS; i++) f();
  for (int i = 0; i < G_BLOCKS; i++) free(g());
}

/* So many blocks of 1 MB, each written to, so many a second; kept. */
static FRAME void *grows(void) { return keep(memset(malloc(1 << 20), 1, 1 << 20)); }
static void grows_by(int megabytes, int a_second) {
  for (int i = 0; i < megabytes; i++) {
    grows();
    usleep(1000000 / (useconds_t)a_second);
  }
}

/* 64 MB, freed at once. */
static FRAME void *spikes(void) { return keep(malloc(64 << 20)); }

static long long cpu_time(void) {
  struct timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static FRAME void burns(int milliseconds) {
  for (long long end = cpu_time() + milliseconds * 1000000LL; cpu_time() < end;)
    for (volatile int i = 0; i < 100000; i++) {}
}

static void first_handler(void) { say("registered first\n"); }
static void last_handler(void) { say("registered last\n"); }
static void quick_handler(void) { say("at quick exit\n"); }

static void *ends_the_process(void *unused) {
  (void)unused;
  exit(7);
}

static void *ends_later(void *joined) {
  pthread_join(*(pthread_t *)joined, NULL);
  return NULL; /* the last thread: libc ends the process */
}

static void on_alarm(int number) {
  (void)number;
  _exit(8);
}

static void child_of_fork(int own_end) {
  pid_t child = fork();
  int status;
  if (child == 0) {
    f();
    if (own_end) exit(3);
    _exit(4);
  }
  waitpid(child, &status, 0);
  say("child %d %d\n", (int)child, status);
}

static void child_of_vfork(void) {
  int status;
  pid_t child = vfork();
  if (child == 0) _exit(5);
  waitpid(child, &status, 0);
  say("vfork %d\n", status);
}

/* From here on the kernel kills for what a program that only ends does not need. */
static void confines_itself(void) {
  static const int calls[] = {SYS_futex,  SYS_getpid,   SYS_rt_sigprocmask,
                              SYS_openat, SYS_renameat, SYS_tgkill};
  enum { CALLS = sizeof calls / sizeof *calls };
  struct sock_filter program[2 + CALLS * 2] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
  for (int i = 0; i < CALLS; i++) {
    program[1 + 2 * i] =
        (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i], 0, 1);
    program[2 + 2 * i] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
  }
  program[1 + 2 * CALLS] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  struct sock_fprog filter = {2 + CALLS * 2, program};
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0) == 0);
}

static int ends(const char *way) {
  static pthread_t self, other;
  if (strcmp(way, "return") == 0) return 3;
  if (strcmp(way, "exit") == 0) exit(4);
  if (strcmp(way, "_exit") == 0) _exit(5);
  if (strcmp(way, "_Exit") == 0) _Exit(6);
  if (strcmp(way, "quick_exit") == 0) quick_exit(9);
  if (strcmp(way, "exit_group") == 0) syscall(SYS_exit_group, 10);
  if (strcmp(way, "raw_exit") == 0) syscall(SYS_exit, 11);
  if (strcmp(way, "abort") == 0) abort();
  if (strcmp(way, "kill") == 0) raise(SIGKILL);
  if (strcmp(way, "segv") == 0) raise(SIGSEGV);
  if (strcmp(way, "thread") == 0) {
    pthread_create(&other, NULL, ends_the_process, NULL);
    pthread_join(other, NULL);
  }
  if (strcmp(way, "last_thread") == 0) {
    self = pthread_self();
    pthread_create(&other, NULL, ends_later, &self);
    pthread_exit(NULL);
  }
  if (strcmp(way, "handler") == 0) {
    signal(SIGALRM, on_alarm);
    raise(SIGALRM);
  }
  if (strcmp(way, "confined") == 0) {
    confines_itself();
    return 12;
  }
  if (strcmp(way, "exec") == 0) execl("/bin/true", "true", NULL);
  return 0;
}

int main(int argc, char **argv) {
  const char *way = argc > 1 ? argv[1] : "return";
  atexit(first_handler);
  atexit(last_handler);
  at_quick_exit(quick_handler);
  allocates();
  if (strcmp(way, "wait") == 0) {
    while (ready()) allocates();
  } else if (strcmp(way, "grow") == 0) {
    ready();
    grows_by(atoi(argv[2]), atoi(argv[3]));
    ready();
  } else if (strcmp(way, "spike") == 0) {
    ready();
    free(spikes());
    ready();
  } else if (strcmp(way, "burn") == 0) {
    burns(atoi(argv[2]));
    if (argc > 3) ready();
  } else if (strcmp(way, "children") == 0) {
    child_of_fork(1);
    child_of_fork(0);
    child_of_vfork();
    f(), f(); /* which a file of that child's end would not have */
  }
  printf("not written out yet "); /* libc does that last of all */
  return ends(way);
}

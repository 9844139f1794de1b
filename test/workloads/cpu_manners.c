/* What a host sees of its own signals, masks and filters while CPU profiles run: cpu_manners MODE.
 * As cpu_hazards.c: prints `ready`, goes on when it is told, prints what it saw and `ready`. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "workload.h"

static FRAME void burn(double seconds) {
  struct timespec start, now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
  do clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  while ((double)(now.tv_sec - start.tv_sec) + (double)(now.tv_nsec - start.tv_nsec) / 1e9 <
         seconds);
}

static FRAME void spin(unsigned long rounds) { /* without a system call */
  for (volatile unsigned long i = 0; i < rounds; i++) {}
}

/* ---- masks that handlers of pthread_atfork set ---- */

static void mask_in_child(void) {
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, NULL);
}
static void mask_in_parent(void) {
  sigset_t one;
  sigemptyset(&one);
  sigaddset(&one, SIGUSR1);
  sigprocmask(SIG_BLOCK, &one, NULL);
}

static void atfork_masks(void) {
  sigset_t now;
  burn(0.3);
  pthread_atfork(NULL, mask_in_parent, mask_in_child);
  pid_t child = fork();
  if (child == 0) {
    sigprocmask(SIG_BLOCK, NULL, &now);
    _exit(sigismember(&now, SIGTERM));
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  sigprocmask(SIG_BLOCK, NULL, &now);
  say("child blocks SIGTERM: %d; parent blocks SIGUSR1: %d\n", WEXITSTATUS(status),
      sigismember(&now, SIGUSR1));
}

/* ---- SIGURG that others send, whose default is to be ignored ---- */

static void urgent(void) {
  pid_t host = getpid(), child = fork();
  if (child == 0) {
    for (int i = 0; i < 400; i++) {
      kill(host, SIGURG);
      usleep(2500);
    }
    _exit(0);
  }
  int interrupted = 0;
  for (int i = 0; i < 20; i++) {
    burn(0.01);
    interrupted += poll(NULL, 0, 40) < 0 && errno == EINTR;
  }
  CHECK(waitpid(child, NULL, 0) == child);
  say("interrupted: %d\n", interrupted);
}

/* ---- filters of the host's own: one installed meanwhile, and one under which threads are born
 * ---- */

#define ALLOW(number) \
  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static void enter_filter(int by_system_call) {
  struct sock_filter instructions[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      ALLOW(SYS_exit_group),
      ALLOW(SYS_exit),
      ALLOW(SYS_read),
      ALLOW(SYS_write),
      ALLOW(SYS_rt_sigreturn),
      ALLOW(SYS_futex),
      ALLOW(SYS_mmap),
      ALLOW(SYS_munmap),
      ALLOW(SYS_mprotect),
      ALLOW(SYS_brk),
      ALLOW(SYS_rt_sigprocmask),
      ALLOW(SYS_clone3),
      ALLOW(SYS_clone),
      ALLOW(SYS_set_robust_list),
      ALLOW(SYS_rseq),
      ALLOW(SYS_madvise),
      ALLOW(SYS_rt_sigaction),
      ALLOW(SYS_fstat),
      ALLOW(SYS_newfstatat),
      ALLOW(SYS_lseek),
      ALLOW(SYS_getrandom),
      ALLOW(SYS_prlimit64),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)};
  struct sock_fprog program = {sizeof instructions / sizeof *instructions, instructions};
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  if (by_system_call) CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0);
  else CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0);
}

static void *nothing(void *argument) { return argument; }

static void filter(int by_system_call) {
  burn(0.3);
  enter_filter(by_system_call);
  spin(500000000);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, nothing, NULL) == 0 && pthread_join(thread, NULL) == 0);
  say("under a filter\n");
}

/* A thread that ends under a filter, while it still has its timer. */
static void *enters_filter(void *argument) {
  burn(0.01);
  enter_filter(0);
  return argument;
}

static void filter_of_a_thread(void) {
  pthread_t thread;
  burn(0.3); /* so that there is a sample, and the rest has nothing to do with that */
  CHECK(pthread_create(&thread, NULL, enters_filter, NULL) == 0 && pthread_join(thread, NULL) == 0);
  say("ended under a filter\n");
}

/* ---- a pool's threads, born with all signals blocked ---- */

enum { POOL = 2, URGENT = 20 };

static int blocks(int number) {
  sigset_t now;
  pthread_sigmask(SIG_SETMASK, NULL, &now);
  return sigismember(&now, number);
}

static FRAME void *pool(void *argument) {
  burn(1);
  return argument;
}

static void start_pool(pthread_t *threads, void *(*start)(void *)) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (intptr_t i = 0; i < POOL; i++)
    CHECK(pthread_create(&threads[i], NULL, start, (void *)i) == 0);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void join_pool(const pthread_t *threads) {
  for (int i = 0; i < POOL; i++) CHECK(pthread_join(threads[i], NULL) == 0);
}

static void blocked_pool(void) {
  pthread_t threads[POOL];
  start_pool(threads, pool);
  join_pool(threads);
}

/* What one of them sees of its own mask, and what its children do. */
static void *look_at_mask(void *first) {
  sigset_t others, before;
  burn(0.3);
  if (first) return NULL;
  sigemptyset(&others);
  sigaddset(&others, SIGUSR1);
  say("blocks SIGURG: %d", blocks(SIGURG));
  CHECK(pthread_sigmask(SIG_UNBLOCK, &others, &before) == 0);
  say(", %d, %d", sigismember(&before, SIGURG), blocks(SIGURG));
  CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
  burn(0.1);
  say(", %d", blocks(SIGURG));
  pid_t child = vfork();
  if (child == 0) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    _exit(0);
  }
  CHECK(waitpid(child, NULL, 0) == child);
  say(", %d", blocks(SIGURG));
  child = fork();
  if (child == 0) {
    if (execlp("grep", "grep", "SigBlk", "/proc/self/status", NULL)) _exit(1);
  }
  CHECK(waitpid(child, NULL, 0) == child);
  sigaddset(&others, SIGURG);
  CHECK(pthread_sigmask(SIG_UNBLOCK, &others, &before) == 0);
  say("%d, %d\n", sigismember(&before, SIGURG), blocks(SIGURG));
  return NULL;
}

static void masks_of_pool(void) {
  pthread_t threads[POOL];
  start_pool(threads, look_at_mask);
  join_pool(threads);
}

/* The kernel's view of it, while nobody profiles. */
static void *read_status(void *first) {
  char text[4096];
  FILE *file = first ? NULL : fopen("/proc/thread-self/status", "r");
  while (file && fgets(text, sizeof text, file))
    if (strncmp(text, "SigBlk", 6) == 0) say("%s", text);
  if (file) fclose(file);
  return NULL;
}

static void status_of_pool(void) {
  pthread_t threads[POOL];
  start_pool(threads, read_status);
  join_pool(threads);
}

/* Everybody blocks SIGURG, and the first thread waits for it. */
static void urgent_wait(void) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, NULL);
  pthread_t threads[POOL];
  start_pool(threads, pool);
  sigemptyset(&all);
  sigaddset(&all, SIGURG);
  int got = 0;
  for (int i = 0; i < URGENT; i++) {
    burn(0.01);
    CHECK(kill(getpid(), SIGURG) == 0);
    got += sigtimedwait(&all, NULL, &(struct timespec){10, 0}) == SIGURG;
  }
  join_pool(threads);
  say("got %d\n", got);
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  ready();
  if (strcmp(argv[1], "atfork_masks") == 0) atfork_masks();
  else if (strcmp(argv[1], "urgent") == 0) urgent();
  else if (strcmp(argv[1], "filter_by_prctl") == 0) filter(0);
  else if (strcmp(argv[1], "filter_by_seccomp") == 0) filter(1);
  else if (strcmp(argv[1], "filter_of_a_thread") == 0) filter_of_a_thread();
  else if (strcmp(argv[1], "blocked_pool") == 0) blocked_pool();
  else if (strcmp(argv[1], "masks_of_pool") == 0) masks_of_pool();
  else if (strcmp(argv[1], "status_of_pool") == 0) status_of_pool();
  else if (strcmp(argv[1], "urgent_wait") == 0) urgent_wait();
  else CHECK(!"a mode");
  ready();
  return 0;
}

/* confines_itself WAY ACTION DEED [late]: a program puts itself under a rule about its system calls
 * and does what that rule allows (or, `violate`, what it forbids). It says the same, and ends with
 * the same status, whoever else is in the process. late: by then the agent listens. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "shim/base/raw_syscall.h"
#include "workload.h"

#ifdef WITH_LIBSECCOMP
#include <seccomp.h>
#endif

static const char *way, *action, *deed;

static int is(const char *word, const char *wanted) { return strcmp(word, wanted) == 0; }

/* ---- the rules ---- */

enum { SET_DISPATCH = 59, ALLOWED = 0, BLOCKED = 1 }; /* linux/prctl.h, 5.11 */
enum { CALLS_MAX = 40 };
static int calls[CALLS_MAX], call_count;

static void allow(int number) {
  CHECK(call_count < CALLS_MAX);
  calls[call_count++] = number;
}

static unsigned verdict(void) {
  if (is(action, "kill_process")) return SECCOMP_RET_KILL_PROCESS;
  if (is(action, "kill_thread")) return SECCOMP_RET_KILL_THREAD;
  if (is(action, "trap")) return SECCOMP_RET_TRAP;
  if (is(action, "errno")) return SECCOMP_RET_ERRNO | EPERM;
  CHECK(is(action, "trace"));
  return SECCOMP_RET_TRACE; /* without a tracer: ENOSYS */
}

/* The rule is in force while this is BLOCKED: whatever calls the kernel then gets SIGSYS. */
static volatile char dispatch_selector = ALLOWED;

static void install(const struct sock_fprog *program) {
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  if (is(way, "prctl")) CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0) == 0);
  else if (is(way, "syscall"))
    CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, program) == 0);
  else if (is(way, "prctl_by_syscall"))
    CHECK(syscall(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0) == 0);
  else if (is(way, "tsync"))
    CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, program) == 0);
  else if (is(way, "unseen"))
    CHECK(raw_syscall4(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, (long)program, 0) == 0);
  else CHECK(!"a known way");
}

#ifdef WITH_LIBSECCOMP
static void confine(void) {
  unsigned what = is(action, "kill_process") ? SCMP_ACT_KILL_PROCESS : SCMP_ACT_KILL;
  scmp_filter_ctx filter = seccomp_init(what);
  for (int i = 0; i < call_count; i++) seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
  if (is(way, "tsync")) seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
  CHECK(seccomp_load(filter) == 0);
}
#else
static void confine(void) {
  if (is(way, "dispatch")) {
    free(keep(malloc(64 << 20))); /* what the deed allocates */
    CHECK(prctl(SET_DISPATCH, 1, 0, 0, &dispatch_selector) == 0);
    return;
  }
  if (is(way, "strict")) {
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
    return;
  }
  struct sock_filter code[2 + 2 * CALLS_MAX];
  unsigned short size = 0;
  code[size++] =
      (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  for (int i = 0; i < call_count; i++) {
    code[size++] =
        (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i], 0, 1);
    code[size++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  }
  code[size++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, verdict());
  install(&(struct sock_fprog){size, code});
}
#endif

/* ---- the deeds; what each needs is allowed before ---- */

static void leave(int status) {
  if (is(way, "strict")) syscall(SYS_exit, status);
  _exit(status);
}

/* Longer than the five seconds after which an agent looks around where it has to. */
static void idle(void) {
  struct timespec pause = {6, 0};
  clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
}

static void violate(void) { syscall(SYS_getppid); }

/* From its own memory, so that the plain program makes no call but brk. */
static void allocate(void) {
  int blocks = is(way, "dispatch");
  if (blocks) dispatch_selector = BLOCKED;
  for (int i = 0; i < 200000; i++) {
    char *block = keep(malloc((size_t)(100 + i % 5000)));
    block[0] = 1;
    if (i % 50 != 0) free(block);
  }
  if (blocks) dispatch_selector = ALLOWED;
}

static void fork_and_wait(void) {
  for (int i = 0; i < 3; i++) {
    pid_t child = fork();
    if (child == 0) {
      allocate();
      _exit(3);
    }
    int status = 0;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    say("child %x\n", status);
  }
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static volatile int shared;

static void *contend(void *unused) {
  for (int i = 0; i < 20000; i++) {
    pthread_mutex_lock(&mutex);
    shared++;
    pthread_mutex_unlock(&mutex);
  }
  return unused;
}

static void threads(void) {
  pthread_t two[2];
  for (int i = 0; i < 2; i++) CHECK(pthread_create(&two[i], NULL, contend, NULL) == 0);
  for (int i = 0; i < 2; i++) CHECK(pthread_join(two[i], NULL) == 0);
  allocate();
  say("counted %d\n", shared);
}

/* Brings in what libc loads for the end of a thread. */
static void *leaves(void *unused) { pthread_exit(unused); }

static void on_signal(int number) { (void)number; }

static void handlers(void) {
  CHECK(signal(SIGURG, on_signal) == SIG_DFL && signal(SIGURG, SIG_IGN) == on_signal);
  sigset_t one, before;
  sigemptyset(&one);
  sigaddset(&one, SIGURG);
  CHECK(sigprocmask(SIG_BLOCK, &one, &before) == 0 && sigismember(&before, SIGURG) == 0);
  say("handlers\n");
}

static void allow_for_the_deed(void) {
  static const int thread_calls[] = {
      SYS_clone3,  SYS_clone,           SYS_futex, SYS_mmap, SYS_munmap,         SYS_mprotect,
      SYS_madvise, SYS_set_robust_list, SYS_rseq,  SYS_exit, SYS_rt_sigprocmask, SYS_rt_sigaction};
  allow(SYS_write), allow(SYS_exit_group);
  if (is(deed, "idle") || is(deed, "violate")) allow(SYS_clock_nanosleep);
  if (!is(deed, "idle")) allow(SYS_brk), allow(SYS_read);
  if (is(deed, "fork")) allow(SYS_clone), allow(SYS_wait4), allow(SYS_set_robust_list);
  if (is(deed, "threads"))
    for (size_t i = 0; i < sizeof thread_calls / sizeof *thread_calls; i++) allow(thread_calls[i]);
  if (is(deed, "handlers")) allow(SYS_rt_sigaction), allow(SYS_rt_sigprocmask);
  if (is(deed, "leave_main")) allow(SYS_exit), allow(SYS_futex);
}

static void say_trapped(int number) {
  (void)number;
  say("trapped\n");
}

int main(int argc, char **argv) {
  CHECK(argc >= 4);
  way = argv[1], action = argv[2], deed = argv[3];
  if (is(action, "trap")) signal(SIGSYS, say_trapped);
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  allow_for_the_deed();
  pthread_t thread;
  if (is(deed, "leave_main"))
    CHECK(pthread_create(&thread, NULL, leaves, NULL) == 0 && pthread_join(thread, NULL) == 0);
  if (argc > 4) ready();
  confine();
  say("confined\n");
  if (is(deed, "idle")) idle();
  if (is(deed, "violate")) violate(), say("after a violation\n");
  if (is(deed, "heap")) allocate(), say("allocated\n");
  if (is(deed, "fork")) fork_and_wait();
  if (is(deed, "threads")) threads();
  if (is(deed, "handlers")) handlers();
  if (is(deed, "exit")) exit(5); /* with the destructors of everything that is loaded */
  if (is(deed, "leave_main")) pthread_exit(NULL);
  leave(7);
}

/* Hosts that a CPU profiler's timers, signals and handlers are known to break, one a mode:
 * cpu_hazards MODE [WORD ...]. Each says ready (a profile is started then), works, prints what it
 * saw, and says ready again. The test compares that with a plain run; lines that begin with # are
 * measured values. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <ucontext.h>

#include "workload.h"

#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* sigset, sigignore */
extern char **environ;

static double seconds_of(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static volatile unsigned sink;
/* Milliseconds of this thread's CPU time. */
static FRAME void burn(double milliseconds) {
  double end = seconds_of(CLOCK_THREAD_CPUTIME_ID) + milliseconds / 1000;
  do {
    unsigned x = sink;
    for (int i = 0; i < 20000; i++) x = x * 1664525u + 1013904223u;
    sink = x;
  } while (seconds_of(CLOCK_THREAD_CPUTIME_ID) < end);
}
static void *burn_for_ever(void *unused) {
  for (;;) burn(100);
  return unused;
}
static void *burn_once(void *milliseconds) {
  burn((double)(intptr_t)milliseconds);
  return milliseconds;
}

static pthread_t start(void *(*entry)(void *), void *argument) {
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, entry, argument) == 0);
  return thread;
}
static void join(pthread_t thread) { CHECK(pthread_join(thread, NULL) == 0); }

static int can_be_handled(int number) {
  return number != SIGKILL && number != SIGSTOP && (number < 32 || number >= SIGRTMIN);
}

/* ---- a host with a profiling timer of its own ---- */

static volatile long own_ticks, foreign_ticks;
static void on_sigprof(int number, siginfo_t *info, void *context) {
  (void)number, (void)context;
  if (info->si_code == SI_KERNEL) own_ticks++;
  else foreign_ticks++;
}
static double process_seconds(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}
static void own_sigprof(const char *when) {
  struct sigaction action = {.sa_sigaction = on_sigprof, .sa_flags = SA_SIGINFO | SA_RESTART}, old;
  int before = strcmp(when, "before") == 0;
  if (before) CHECK(sigaction(SIGPROF, &action, NULL) == 0);
  ready();
  if (!before) CHECK(sigaction(SIGPROF, &action, &old) == 0 && old.sa_handler == SIG_DFL);
  struct itimerval every = {{0, 10000}, {0, 10000}}, off = {{0, 0}, {0, 0}};
  double start_seconds = process_seconds();
  CHECK(setitimer(ITIMER_PROF, &every, NULL) == 0);
  while (process_seconds() < start_seconds + 2) burn(20);
  CHECK(setitimer(ITIMER_PROF, &off, NULL) == 0);
  double expected = (process_seconds() - start_seconds) / 0.01;
  say("# own SIGPROF ticks: %ld of %.0f\n", own_ticks, expected);
  say("ticks %s, %ld of somebody else's\n",
      own_ticks > 0.7 * expected && own_ticks < 1.4 * expected ? "all there" : "lost",
      foreign_ticks);
  CHECK(sigaction(SIGPROF, NULL, &old) == 0);
  say("handler is %s\n", old.sa_sigaction == on_sigprof ? "ours" : "another");
}

/* ---- a host that uses every signal itself ---- */

static volatile int handled[65], wrong_mask, wrong_value;
static void on_any(int number, siginfo_t *info, void *context) {
  (void)context;
  handled[number]++;
  sigset_t set;
  sigprocmask(SIG_BLOCK, NULL, &set);
  wrong_mask += sigismember(&set, number) != 1 ||
                sigismember(&set, number == SIGUSR2 ? SIGUSR1 : SIGUSR2) != 1 ||
                sigismember(&set, SIGWINCH) != (number == SIGWINCH);
  wrong_value += info->si_code == SI_QUEUE && info->si_value.sival_int != number;
}
static void on_simple(int number) { handled[number]++; }

static void set_all(const char *what, const struct sigaction *action, struct sigaction *last) {
  for (int number = 1; number <= SIGRTMAX; number++) {
    struct sigaction old, now;
    if (!can_be_handled(number)) continue;
    CHECK(sigaction(number, NULL, &old) == 0);
    if (last && (old.sa_handler != last->sa_handler ||
                 ((old.sa_flags ^ last->sa_flags) & (SA_SIGINFO | SA_RESTART | SA_ONSTACK)) != 0))
      say("%s: signal %d was %p flags %x\n", what, number, (void *)old.sa_handler, old.sa_flags);
    CHECK(sigaction(number, action, &old) == 0 && sigaction(number, NULL, &now) == 0);
    if (now.sa_handler != action->sa_handler)
      say("%s: signal %d is %p\n", what, number, (void *)now.sa_handler);
  }
  pthread_t threads[2] = {start(burn_once, (void *)100), start(burn_once, (void *)100)};
  burn(100);
  join(threads[0]), join(threads[1]);
}

static void every_signal(void) {
  struct sigaction standard = {.sa_handler = SIG_DFL}, ignore = {.sa_handler = SIG_IGN},
                   own = {.sa_sigaction = on_any, .sa_flags = SA_SIGINFO | SA_RESTART};
  sigaddset(&own.sa_mask, SIGUSR1);
  sigaddset(&own.sa_mask, SIGUSR2);
  ready();
  set_all("default", &standard, NULL);
  set_all("ignored", &ignore, &standard);
  for (int number = 1; number <= SIGRTMAX; number++)
    if (can_be_handled(number)) raise(number); /* nothing happens */
  set_all("own", &own, &ignore);
  int counts[2] = {0, 0};
  for (int number = 1; number <= SIGRTMAX; number++) {
    if (!can_be_handled(number)) continue;
    counts[0] += handled[number]; /* before any was sent */
    raise(number);
    CHECK(sigqueue(getpid(), number, (union sigval){.sival_int = number}) == 0);
    CHECK(syscall(SYS_tgkill, getpid(), gettid(), number) == 0);
    if (handled[number] != 3) say("signal %d handled %d times of 3\n", number, handled[number]);
    counts[1] += handled[number];
  }
  say("handled %d unasked, %d in all, %d with a wrong mask, %d with a wrong value\n", counts[0],
      counts[1], wrong_mask, wrong_value);
  sigset_t now;
  sigprocmask(SIG_BLOCK, NULL, &now);
  for (int number = 1; number <= SIGRTMAX; number++)
    if (sigismember(&now, number) == 1) say("left blocked: %d\n", number);
  set_all("default again", &standard, &own);
  /* the older calls */
  for (int number = 1; number <= SIGRTMAX; number++) {
    if (!can_be_handled(number)) continue;
    handled[number] = 0;
    struct sigaction old;
    if (signal(number, on_simple) != SIG_DFL)
      say("signal(%d) says that there was something\n", number);
    raise(number);
    if (sysv_signal(number, on_simple) != on_simple)
      say("sysv_signal(%d) says that there was something else\n", number);
    raise(number);
    CHECK(sigaction(number, NULL, &old) == 0);
    if (old.sa_handler != SIG_DFL) say("signal %d: sysv_signal's handler stays\n", number);
    if (sigset(number, on_simple) != SIG_DFL)
      say("sigset(%d) says that there was something\n", number);
    raise(number);
    CHECK(sigignore(number) == 0);
    raise(number);
    if (signal(number, SIG_DFL) != SIG_IGN) say("signal %d is not ignored\n", number);
    if (handled[number] != 3)
      say("signal %d handled %d times of 3 by the older calls\n", number, handled[number]);
  }
  burn(100);
  say("default dispositions again\n");
}

/* Handlers that are there first: the profiler must do with what is left, or do without. */
static void taken_signals(const char *which) {
  struct sigaction own = {.sa_sigaction = on_any, .sa_flags = SA_SIGINFO | SA_RESTART};
  for (int number = 1; number <= SIGRTMAX; number++)
    if (can_be_handled(number) &&
        (strcmp(which, "all") == 0 || number == SIGSTKFLT || number == SIGPROF || number == SIGURG))
      CHECK(sigaction(number, &own, NULL) == 0);
  ready();
  burn(300);
  int unasked = 0;
  for (int number = 1; number <= SIGRTMAX; number++) unasked += handled[number];
  for (int i = 0; i < 50; i++) raise(SIGSTKFLT), raise(SIGPROF), raise(SIGURG), burn(2);
  say("unasked %d, SIGSTKFLT %d, SIGPROF %d, SIGURG %d\n", unasked, handled[SIGSTKFLT],
      handled[SIGPROF], handled[SIGURG]);
}

/* The default action of a signal that nobody handles still ends the process; what is ignored stays
 * ignored by what is executed. */
static void default_actions(void) {
  ready();
  burn(100);
  for (int number = 1; number <= SIGRTMAX; number++) {
    if (number != SIGKILL && !can_be_handled(number)) continue;
    if (number == SIGTSTP || number == SIGTTIN || number == SIGTTOU) continue;
    pid_t pid = fork();
    if (pid == 0) {
      struct rlimit none = {0, 0};
      setrlimit(RLIMIT_CORE, &none);
      raise(number);
      _exit(5);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    say("signal %d: %s %d\n", number, WIFSIGNALED(status) ? "killed by" : "exit code",
        WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
  }
  struct sigaction ignore = {.sa_handler = SIG_IGN};
  CHECK(sigaction(SIGSTKFLT, &ignore, NULL) == 0 && sigaction(SIGPROF, &ignore, NULL) == 0 &&
        sigaction(SIGURG, &ignore, NULL) == 0);
  unsetenv("LD_PRELOAD"); /* what these children inherited, not what an agent of their own does */
  for (int i = 0; i < 2; i++) {
    char *arguments[] = {"grep", i ? "SigIgn" : "SigBlk", "/proc/self/status", NULL};
    pid_t pid;
    int status;
    CHECK(posix_spawn(&pid, "/bin/grep", NULL, NULL, arguments, environ) == 0 &&
          waitpid(pid, &status, 0) == pid && status == 0);
    if ((pid = fork()) == 0) execv("/bin/grep", arguments);
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
  }
  ready();
  signal(SIGSTKFLT, SIG_DFL);
  raise(SIGSTKFLT);
  say("still here\n");
}

/* ---- alternate stacks ---- */

static char *guarded(size_t size) { /* the end of a mapping whose page before is forbidden */
  size_t pages = (size + 4095) & ~4095ul;
  char *memory =
      mmap(NULL, pages + 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED && mprotect(memory, 4096, PROT_NONE) == 0 &&
        mprotect(memory + 4096 + pages, 4096, PROT_NONE) == 0);
  return memory + 4096;
}
static size_t altstack_size;
static pthread_barrier_t armed;
static void *burn_with_altstack(void *during) {
  stack_t stack = {.ss_sp = guarded(altstack_size), .ss_size = altstack_size}, now;
  if (!during) CHECK(sigaltstack(&stack, NULL) == 0);
  pthread_barrier_wait(&armed);
  pthread_barrier_wait(&armed);
  burn(100);
  if (during) CHECK(sigaltstack(&stack, NULL) == 0);
  burn(400);
  CHECK(sigaltstack(NULL, &now) == 0);
  CHECK(now.ss_sp == stack.ss_sp && now.ss_size == stack.ss_size && now.ss_flags == 0);
  return NULL;
}
static void tiny_altstack(const char *size, const char *when) {
  altstack_size = strcmp(size, "kernel") == 0 ? getauxval(AT_MINSIGSTKSZ) : (size_t)atol(size);
  say("# AT_MINSIGSTKSZ %lu\n", getauxval(AT_MINSIGSTKSZ));
  void *during = strcmp(when, "during") == 0 ? (void *)1 : NULL;
  pthread_barrier_init(&armed, NULL, 2);
  pthread_t thread = start(burn_with_altstack, during);
  pthread_barrier_wait(&armed);
  ready();
  pthread_barrier_wait(&armed);
  join(thread);
  say("alive\n");
}

static void burning_handler(int number) {
  burn(20);
  handled[number]++;
}
/* The host's handler has all the room that it needs on its alternate stack, and no more. */
static void busy_altstack(void) {
  size_t size = getauxval(AT_MINSIGSTKSZ) + 2048;
  stack_t stack = {.ss_sp = guarded(size), .ss_size = size};
  struct sigaction action = {.sa_handler = burning_handler, .sa_flags = SA_ONSTACK | SA_RESTART};
  /* so that every function is bound: the loader's resolver would need more */
  burning_handler(SIGUSR1);
  CHECK(raise(0) == 0 && sigaltstack(&stack, NULL) == 0 && sigaction(SIGUSR1, &action, NULL) == 0);
  ready();
  for (int i = 1; i < 40; i++) raise(SIGUSR1);
  say("handled %d\n", handled[SIGUSR1]);
}

static sigjmp_buf back;
static void jumping_handler(int number) {
  handled[number]++;
  burn(1);
  siglongjmp(back, 1);
}
static void *coroutines(void *unused) {
  enum { COUNT = 8, SIZE = 16384, ROUNDS = 400 };
  static __thread ucontext_t contexts[COUNT], home;
  static __thread int rounds;
  void body(void) {
    for (;;) {
      burn(0.2);
      int next = ++rounds % COUNT;
      swapcontext(&contexts[(rounds - 1) % COUNT], rounds >= ROUNDS ? &home : &contexts[next]);
    }
  }
  for (int i = 0; i < COUNT; i++) {
    CHECK(getcontext(&contexts[i]) == 0);
    contexts[i].uc_stack.ss_sp = guarded(SIZE);
    contexts[i].uc_stack.ss_size = SIZE;
    makecontext(&contexts[i], body, 0);
  }
  CHECK(swapcontext(&home, &contexts[0]) == 0);
  say("%d rounds\n", rounds);
  return unused;
}
static void contexts(void) {
  stack_t stack = {.ss_sp = guarded(65536), .ss_size = 65536};
  struct sigaction action = {.sa_handler = jumping_handler, .sa_flags = SA_ONSTACK};
  CHECK(sigaltstack(&stack, NULL) == 0 && sigaction(SIGUSR1, &action, NULL) == 0);
  ready();
  pthread_t threads[2] = {start(coroutines, NULL), start(coroutines, NULL)};
  for (volatile int i = 0; i < 200; i++) {
    if (sigsetjmp(back, 1) == 0) raise(SIGUSR1);
    burn(1);
  }
  join(threads[0]), join(threads[1]);
  say("%d jumps out of a handler\n", handled[SIGUSR1]);
}

/* ---- fork and exec ---- */

static void fork_large(const char *megabytes, const char *kind, const char *count) {
  size_t size = (size_t)atol(megabytes) << 20;
  char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED);
  madvise(memory, size, MADV_NOHUGEPAGE);
  memset(memory, 1, size);
  ready();
  pthread_t thread = start(burn_for_ever, NULL);
  (void)thread;
  double cpu = seconds_of(CLOCK_THREAD_CPUTIME_ID);
  int good = 0, wanted = atoi(count);
  for (int i = 0; i < wanted; i++) {
    pid_t pid;
    char *arguments[] = {"true", NULL};
    if (strcmp(kind, "fork") == 0) pid = fork();
    else if (strcmp(kind, "_Fork") == 0) pid = _Fork();
    else if (strcmp(kind, "clone") == 0) pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    else if (strcmp(kind, "vfork") == 0) pid = vfork();
    else CHECK(posix_spawn(&pid, "/bin/true", NULL, NULL, arguments, environ) == 0);
    if (pid == 0 && strcmp(kind, "vfork") == 0) _exit(0);
    if (pid == 0) {
      burn(3); /* a tick that came with it would end the child */
      _exit(memory[size - 1] == 1 ? 0 : 1);
    }
    int status = -1;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    good += status == 0;
  }
  say("# %s with %s MiB: %.1f per second of the thread's CPU time\n", kind, megabytes,
      wanted / (seconds_of(CLOCK_THREAD_CPUTIME_ID) - cpu));
  say("%d of %d children well\n", good, wanted);
}

static void *exec_next(void *left) {
  char count[20];
  snprintf(count, sizeof count, "%d", (int)(intptr_t)left);
  char *arguments[] = {"cpu_hazards", "exec_chain", count, NULL};
  burn(20);
  execv("/proc/self/exe", arguments);
  CHECK(0);
  return NULL;
}
static void exec_chain(const char *count) {
  intptr_t left = atoi(count);
  ready();
  if (left == 0) return say("last one\n");
  for (int i = 0; i < 3; i++) start(burn_for_ever, NULL);
  if (left % 2) join(start(exec_next, (void *)(left - 1)));
  exec_next((void *)(left - 1));
}

/* ---- threads that come and go ---- */

static _Atomic long ended;
static void *short_thread(void *kind) {
  burn(0.1);
  free(keep(malloc(1000)));
  ended++;
  if ((intptr_t)kind % 3 == 1) pthread_exit(NULL);
  return NULL;
}
static int short_c11(void *unused) {
  (void)unused;
  burn(0.1);
  ended++;
  thrd_exit(3);
}
static void churn(void) {
  enum { COUNT = 10000 };
  ready();
  for (intptr_t i = 0; i < COUNT; i++) {
    if (i % 4 == 3) {
      thrd_t thread;
      int result;
      CHECK(thrd_create(&thread, short_c11, NULL) == thrd_success &&
            thrd_join(thread, &result) == thrd_success && result == 3);
    } else if (i % 4 == 2) {
      pthread_t thread = start(short_thread, (void *)i);
      CHECK(pthread_detach(thread) == 0);
      while (i - ended > 50) usleep(1000);
    } else {
      join(start(short_thread, (void *)i));
    }
  }
  while (ended < COUNT) usleep(1000);
  say("%ld threads ended\n", ended);
}

static void count_cleanup(void *unused) {
  (void)unused;
  ended++;
}
static void *cancelled(void *kind) {
  pthread_cleanup_push(count_cleanup, NULL);
  if ((intptr_t)kind % 3 == 2) pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
  for (;;) {
    unsigned x = sink;
    for (int i = 0; i < 20000; i++) x = x * 1664525u + 1013904223u;
    sink = x;
    if ((intptr_t)kind % 3 == 0) pthread_testcancel();
    if ((intptr_t)kind % 3 == 1) poll(NULL, 0, 1);
  }
  pthread_cleanup_pop(0);
  return NULL;
}
static void cancellation(void) {
  enum { COUNT = 300 };
  ready();
  int good = 0;
  for (intptr_t i = 0; i < COUNT; i++) {
    pthread_t thread = start(cancelled, (void *)i);
    void *result;
    burn(3);
    CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, &result) == 0);
    good += result == PTHREAD_CANCELED;
  }
  say("%d cancelled, %ld cleaned up\n", good, ended);
}

int main(int argc, char **argv) {
  CHECK(argc >= 2);
  const char *word = argc > 2 ? argv[2] : "", *second = argc > 3 ? argv[3] : "",
             *third = argc > 4 ? argv[4] : "";
  int known = 0;
#define MODE(name, call) \
  if (strcmp(argv[1], #name) == 0) known = 1, call
  MODE(own_sigprof, own_sigprof(word));
  MODE(every_signal, every_signal());
  MODE(taken_signals, taken_signals(word));
  MODE(default_actions, default_actions());
  MODE(tiny_altstack, tiny_altstack(word, second));
  MODE(busy_altstack, busy_altstack());
  MODE(contexts, contexts());
  MODE(fork_large, fork_large(word, second, third));
  MODE(exec_chain, exec_chain(word));
  MODE(churn, churn());
  MODE(cancellation, cancellation());
  CHECK(known);
  ready();
  return 0;
}

/* Hosts that wrappers of locks are known to break, one a mode: lockhaz MODE [LIBRARY ...]. Each
 * checks its own invariants and prints what it saw; the output with the agent must be that without
 * it. Lines that begin with # are not compared. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <setjmp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "locksem.h"

static void join(pthread_t thread) { CHECK(pthread_join(thread, NULL) == 0); }
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static sem_t sem;
static pthread_spinlock_t spin;
static mtx_t mtx;
static _Atomic int stop;
static long counted;

/* A thread that contends for everything; each step is counted under the mutex. */
static void *contend(void *steps) {
  for (intptr_t i = 0; steps ? i < (intptr_t)steps : !stop; i++) {
    CHECK(pthread_mutex_lock(&mutex) == 0);
    counted++;
    if (i % 16 == 0) sched_yield();
    CHECK(pthread_mutex_unlock(&mutex) == 0);
    CHECK((i % 4 ? pthread_rwlock_rdlock(&rwlock) : pthread_rwlock_wrlock(&rwlock)) == 0);
    CHECK(pthread_rwlock_unlock(&rwlock) == 0);
    CHECK(mtx_lock(&mtx) == thrd_success && mtx_unlock(&mtx) == thrd_success);
    if (i % 8 == 0) CHECK(sem_wait(&sem) == 0 && sem_post(&sem) == 0);
  }
  return NULL;
}
static _Atomic int go;
static void *wait_for_go(void *unused) { /* without a lock */
  while (!go) sched_yield();
  return contend(unused);
}
static void initialize(void) {
  CHECK(sem_init(&sem, 0, 1) == 0 && pthread_spin_init(&spin, 0) == 0 &&
        mtx_init(&mtx, mtx_plain) == thrd_success);
}

/* ---- signal handlers ---- */

static sem_t from_handler;
static volatile sig_atomic_t handled;
static void post_from_handler(int number) {
  (void)number;
  int saved = errno;
  CHECK(sem_post(&from_handler) == 0);
  handled++;
  errno = saved;
}
/* A timer's handler posts while every thread locks; a thread takes as many tokens as were
 * posted. */
static void signal_posts(void) {
  struct sigaction action = {.sa_handler = post_from_handler, .sa_flags = SA_RESTART};
  struct itimerval timer = {{0, 200}, {0, 200}}, none = {0};
  long taken = 0;
  pthread_t threads[3];
  initialize(), sem_init(&from_handler, 0, 0);
  sigaction(SIGALRM, &action, NULL);
  for (int i = 0; i < 3; i++) threads[i] = start(contend, NULL);
  setitimer(ITIMER_REAL, &timer, NULL);
  while (taken < 3000)
    if (sem_wait(&from_handler) == 0) taken++;
    else CHECK(errno == EINTR);
  setitimer(ITIMER_REAL, &none, NULL);
  stop = 1;
  for (int i = 0; i < 3; i++) join(threads[i]);
  while (sem_trywait(&from_handler) == 0) taken++;
  say("every post was taken: %s\n", taken == handled ? "yes" : "no");
}

/* ---- fork ---- */

static _Atomic int prepared, in_parent, in_child;
static pthread_mutex_t atfork_mutex = PTHREAD_MUTEX_INITIALIZER;
static void before_fork(void) {
  pthread_mutex_lock(&atfork_mutex);
  prepared++;
}
static void after_fork_parent(void) {
  in_parent++;
  pthread_mutex_unlock(&atfork_mutex);
}
static void after_fork_child(void) {
  in_child++;
  pthread_mutex_unlock(&atfork_mutex);
}
static void *lock_atfork_mutex(void *unused) {
  while (!stop) pthread_mutex_lock(&atfork_mutex), pthread_mutex_unlock(&atfork_mutex);
  return unused;
}
/* Not for the rwlock: its readers of before the fork count as such in the child. */
static void *contend_for_mutex(void *steps) {
  for (intptr_t i = 0; i < (intptr_t)steps; i++) {
    CHECK(pthread_mutex_lock(&mutex) == 0);
    if (i % 16 == 0) sched_yield();
    CHECK(pthread_mutex_unlock(&mutex) == 0);
  }
  return NULL;
}
/* The child of a contended parent: what the forking thread holds is free to use, with threads of
 * its own. */
static void fork_in_contention(void) {
  pthread_t threads[4];
  int well = 0, rounds = 300;
  initialize();
  pthread_atfork(before_fork, after_fork_parent, after_fork_child);
  for (int i = 0; i < 3; i++) threads[i] = start(contend, NULL);
  threads[3] = start(lock_atfork_mutex, NULL);
  for (int i = 0; i < rounds; i++) {
    CHECK(pthread_mutex_lock(&mutex) == 0 && pthread_rwlock_wrlock(&rwlock) == 0 &&
          mtx_lock(&mtx) == 0 && sem_wait(&sem) == 0);
    pid_t child = i % 3 ? fork() : _Fork();
    CHECK(child >= 0);
    if (child == 0) alarm(20);
    CHECK(sem_post(&sem) == 0 && mtx_unlock(&mtx) == 0 && pthread_rwlock_unlock(&rwlock) == 0 &&
          pthread_mutex_unlock(&mutex) == 0);
    if (child == 0) {
      for (int round = 0; round < 20; round++)
        CHECK(pthread_mutex_lock(&mutex) == 0 && pthread_mutex_unlock(&mutex) == 0);
      if (i % 3)
        CHECK(pthread_mutex_lock(&atfork_mutex) == 0 && pthread_mutex_unlock(&atfork_mutex) == 0);
      if (i % 10 == 1) { /* contention in the child */
        for (int k = 0; k < 2; k++) threads[k] = start(contend_for_mutex, (void *)300);
        for (int k = 0; k < 2; k++) join(threads[k]);
      }
      _exit(11);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    well += WIFEXITED(status) && WEXITSTATUS(status) == 11;
  }
  stop = 1;
  for (int i = 0; i < 4; i++) join(threads[i]);
  say("%d of %d children well, handlers %d %d %d\n", well, rounds, (int)prepared, (int)in_parent,
      (int)in_child);
}

/* ---- threads ---- */

static pthread_key_t key;
static _Atomic int destroyed;
static void on_thread_end(void *value) {
  pthread_mutex_lock(&mutex);
  counted++;
  if ((intptr_t)value % 8 == 0) sched_yield();
  pthread_mutex_unlock(&mutex);
  CHECK(sem_wait(&sem) == 0 && sem_post(&sem) == 0);
  destroyed++;
  if ((intptr_t)value > 1) pthread_setspecific(key, (void *)((intptr_t)value - 1)); /* once more */
}
static void *end_with_values(void *unused) {
  pthread_setspecific(key, (void *)3);
  return unused;
}
static void thread_ends(void) {
  pthread_t threads[16];
  initialize();
  pthread_key_create(&key, on_thread_end);
  for (int round = 0; round < 30; round++) {
    for (int i = 0; i < 16; i++) threads[i] = start(end_with_values, NULL);
    for (int i = 0; i < 16; i++) join(threads[i]);
  }
  say("destructors %d, counted %ld\n", (int)destroyed, counted);
}

static pthread_t start_small(void *(*entry)(void *), void *argument) {
  pthread_attr_t attributes;
  pthread_t thread;
  pthread_attr_init(&attributes);
  CHECK(pthread_attr_setstacksize(&attributes, (size_t)sysconf(_SC_THREAD_STACK_MIN)) == 0);
  CHECK(pthread_create(&thread, &attributes, entry, argument) == 0);
  pthread_attr_destroy(&attributes);
  return thread;
}
static void small_stacks(void) {
  pthread_t threads[8];
  initialize();
  for (int i = 0; i < 8; i++) threads[i] = start_small(contend, (void *)2000);
  for (int i = 0; i < 8; i++) join(threads[i]);
  say("counted %ld\n", counted);
}
/* Handlers on small stacks, one inside the other, that post what somebody waits for. */
static sem_t tokens[2];
static void post_1(int number) { (void)number, sem_post(&tokens[0]); }
static void post_2(int number) { (void)number, sem_post(&tokens[1]); }
static pthread_t small;
static _Atomic long kicks;
static void *kick(void *which) {
  int number = which ? SIGUSR2 : SIGUSR1;
  while (!stop) {
    while (sem_wait(&tokens[which != NULL])) continue;
    kicks++;
    if (!stop) pthread_kill(small, number);
  }
  return NULL;
}
static void *be_kicked(void *unused) {
  while (!stop) CHECK(pthread_mutex_lock(&mutex) == 0 && pthread_mutex_unlock(&mutex) == 0);
  return unused;
}
static void small_stacks_and_signals(void) {
  struct sigaction action = {.sa_handler = post_1};
  sigset_t both;
  initialize();
  sigaction(SIGUSR1, &action, NULL), action.sa_handler = post_2, sigaction(SIGUSR2, &action, NULL);
  sigemptyset(&both), sigaddset(&both, SIGUSR1), sigaddset(&both, SIGUSR2);
  /* Bound here: the loader's looking up, begun anew in each of two handlers, takes most of such a
   * stack by itself. */
  CHECK(sem_init(&tokens[0], 0, 0) == 0 && sem_post(&tokens[0]) == 0 && sem_wait(&tokens[0]) == 0);
  CHECK(pthread_mutex_lock(&mutex) == 0 && pthread_mutex_unlock(&mutex) == 0);
  sem_init(&tokens[0], 0, 1), sem_init(&tokens[1], 0, 1);
  small = start_small(be_kicked, NULL);
  pthread_sigmask(SIG_BLOCK, &both, NULL);
  pthread_t kickers[2] = {start(kick, NULL), start(kick, (void *)1)};
  while (kicks < 60000) pause_briefly();
  stop = 1;
  sem_post(&tokens[0]), sem_post(&tokens[1]);
  for (int i = 0; i < 2; i++) join(kickers[i]);
  join(small);
  say("many signals: yes\n");
}

/* ---- the loader ---- */

static void loader(int count, char **libraries) {
  pthread_t threads[2];
  initialize();
  for (int i = 0; i < 2; i++) threads[i] = start(contend, NULL);
  for (int round = 0; round < 50; round++) {
    for (int i = 0; i < count; i++) {
      void *handle = dlopen(libraries[i], RTLD_NOW | RTLD_LOCAL);
      if (!handle) say("%s\n", dlerror());
      CHECK(handle);
      int (*answer)(void) = (int (*)(void))dlsym(handle, "lockhaz_answer");
      CHECK(answer && answer() == 42);
      dlclose(handle);
    }
  }
  stop = 1;
  for (int i = 0; i < 2; i++) join(threads[i]);
  say("loaded\n");
}

/* ---- symbol versions ---- */

static struct old_cond { /* of LinuxThreads: glibc makes the real one at the first use */
  void *cond;
  char rest[40];
} old_cond;
static int (*old_wait)(struct old_cond *, pthread_mutex_t *), (*old_signal)(struct old_cond *),
    (*old_broadcast)(struct old_cond *);
static int (*old_timedwait)(struct old_cond *, pthread_mutex_t *, const struct timespec *), turn;
static void *take_turns(void *me) {
  struct timespec far = time_of(CLOCK_REALTIME, 100000);
  for (int i = 0; i < 3000; i++) {
    CHECK(pthread_mutex_lock(&mutex) == 0);
    while (turn != (intptr_t)me)
      CHECK((i % 2 ? old_wait(&old_cond, &mutex) : old_timedwait(&old_cond, &mutex, &far)) == 0);
    turn = !turn, counted++;
    old_broadcast(&old_cond), old_signal(&old_cond);
    CHECK(pthread_mutex_unlock(&mutex) == 0);
  }
  return NULL;
}
static void versions(void) {
  static const char *const names[] = {"pthread_cond_wait", "pthread_cond_timedwait",
                                      "pthread_cond_signal", "pthread_cond_broadcast",
                                      "pthread_cond_init"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    void *oldest = dlvsym(RTLD_DEFAULT, names[i], "GLIBC_2.2.5"),
         *old = dlvsym(RTLD_DEFAULT, names[i], "GLIBC_2.3.2");
    void *any = dlsym(RTLD_DEFAULT, names[i]);
    say("%s: oldest %d, newer %d, two %d, default is newer %d\n", names[i], oldest != NULL,
        old != NULL, old != oldest, any == old);
  }
  *(void **)&old_wait = dlvsym(RTLD_DEFAULT, "pthread_cond_wait", "GLIBC_2.2.5");
  *(void **)&old_timedwait = dlvsym(RTLD_DEFAULT, "pthread_cond_timedwait", "GLIBC_2.2.5");
  *(void **)&old_signal = dlvsym(RTLD_DEFAULT, "pthread_cond_signal", "GLIBC_2.2.5");
  *(void **)&old_broadcast = dlvsym(RTLD_DEFAULT, "pthread_cond_broadcast", "GLIBC_2.2.5");
  CHECK(old_wait && old_timedwait && old_signal && old_broadcast);
  pthread_t other = start(take_turns, (void *)1);
  take_turns(NULL), join(other);
  say("turns %ld, the object is a pointer: %d\n", counted,
      old_cond.cond != NULL && old_cond.rest[0] == 0 && old_cond.rest[39] == 0);
  struct timespec past = time_of(CLOCK_REALTIME, -10);
  pthread_mutex_lock(&mutex), CALL(old_timedwait(&old_cond, &mutex, &past));
  CALL(pthread_mutex_unlock(&mutex));
}

/* ---- jumps ---- */

static jmp_buf plain;
static sigjmp_buf with_mask;
static void jumps(void) {
  volatile long sum = 0;
  sigset_t mask;
  for (volatile int i = 0; i < 1000000; i++) {
    int value = _setjmp(plain);
    if (value == 0) longjmp(plain, i % 7 + 1);
    sum += value;
  }
  say("sum %ld\n", (long)sum);
  for (volatile int way = 0; way < 3; way++) {
    sigemptyset(&mask), pthread_sigmask(SIG_SETMASK, &mask, NULL);
    if (sigsetjmp(with_mask, way != 2) == 0) {
      sigaddset(&mask, SIGUSR1), pthread_sigmask(SIG_SETMASK, &mask, NULL);
      way == 1 ? longjmp(with_mask, 1) : siglongjmp(with_mask, 0); /* 0 is given back as 1 */
    }
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    say("blocked after jump %d: %d\n", way, sigismember(&mask, SIGUSR1));
  }
}

/* ---- sandboxes ---- */

static _Atomic int strict_done;
static void *spin_too(void *unused) {
  while (!strict_done) CHECK(pthread_spin_lock(&spin) == 0 && pthread_spin_unlock(&spin) == 0);
  return unused;
}
/* Strict mode for one thread: it may lock what is free, and contend for a spin lock; anything else
 * would be a system call. Its clock is forbidden too. */
static void *strict(void *unused) {
  CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
  for (int i = 0; i < 100000; i++) {
    pthread_mutex_lock(&mutex), pthread_mutex_unlock(&mutex);
    pthread_rwlock_rdlock(&rwlock), pthread_rwlock_unlock(&rwlock);
    sem_wait(&sem), sem_post(&sem);
    pthread_spin_lock(&spin);
    for (int k = 0; k < 100; k++) __asm__ volatile("" ::: "memory");
    pthread_spin_unlock(&spin);
    mtx_lock(&mtx), mtx_unlock(&mtx);
  }
  say("strict mode survived\n");
  strict_done = 1;
  syscall(SYS_exit, 0); /* the only way out of a thread */
  return unused;
}
static void seccomp_strict(void) {
  initialize();
  pthread_t thread = start(contend, (void *)2000); /* so that the table of waiters is there */
  contend((void *)2000), join(thread);
  thread = start(spin_too, NULL);
  join(start(strict, NULL)), join(thread);
}

static void *hold_until_asked_for(void *unused) {
  CHECK(pthread_mutex_lock(&mutex) == 0 && sem_wait(&sem) == 0);
  counted = 1;
  wait_until_blocked(getpid());
  CHECK(pthread_mutex_unlock(&mutex) == 0);
  for (int i = 0; i < 50; i++) pause_briefly();
  wait_until_blocked(getpid());
  CHECK(sem_post(&sem) == 0);
  return unused;
}
/* A filter of the program's own, before the first wait of the process: what a profiler would like
 * to call is deadly. Contention goes on. */
static void seccomp_filter(void) {
#define DEADLY(number)                               \
  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), \
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      DEADLY(SYS_clock_gettime),
      DEADLY(SYS_gettimeofday),
      DEADLY(SYS_mmap),
      DEADLY(SYS_madvise),
      DEADLY(SYS_process_vm_readv),
      DEADLY(SYS_sigaltstack),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  struct sock_fprog program = {sizeof code / sizeof *code, code};
  uint32_t word = 0;
  struct timespec soon = {0, 1000000};
  initialize();
  pthread_t holder = start(hold_until_asked_for, NULL), threads[3];
  while (!__atomic_load_n(&counted, __ATOMIC_ACQUIRE)) sched_yield();
  for (int i = 0; i < 3; i++) threads[i] = start(wait_for_go, NULL);
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
  CHECK(pthread_mutex_lock(&mutex) == 0 && pthread_mutex_unlock(&mutex) == 0);
  CHECK(sem_wait(&sem) == 0 && sem_post(&sem) == 0);
  CALL(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &soon, NULL, 0));
  CHECK(syscall(SYS_futex, &word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0) == 0);
  CHECK(syscall(SYS_futex, &word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0) == 0);
  go = 1;
  contend((void *)20000);
  stop = 1;
  for (int i = 0; i < 3; i++) join(threads[i]);
  join(holder);
  say("filter survived\n");
}

/* ---- waits under a CPU profile: how many are interrupted ---- */

static void *burn(void *unused) {
  while (!stop) counted++;
  return unused;
}
static void interrupted_waits(void) {
  long interrupted = 0;
  uint32_t word = 0;
  pthread_t burner = start(burn, NULL);
  sem_init(&from_handler, 0, 0);
  ready();
  struct timespec end = time_of(CLOCK_MONOTONIC, 2500);
  for (;;) {
    struct timespec now = time_of(CLOCK_MONOTONIC, 0), soon = time_of(CLOCK_REALTIME, 3),
                    relative = {0, 3000000}, later;
    if (now.tv_sec > end.tv_sec || (now.tv_sec == end.tv_sec && now.tv_nsec > end.tv_nsec)) break;
    for (int i = 0; i < 30000; i++) __asm__ volatile("" ::: "memory");
    interrupted += sem_timedwait(&from_handler, &soon) == -1 && errno == EINTR;
    interrupted += syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &relative, NULL, 0) == -1 &&
                   errno == EINTR;
    later = time_of(CLOCK_MONOTONIC, 3);
    interrupted +=
        syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 0, &later, NULL, -1) == -1 &&
        errno == EINTR;
  }
  stop = 1;
  join(burner);
  say("interrupted %ld\n", interrupted);
  ready();
}

/* ---- everything once: for other allocators, other wrappers, sanitizers ---- */

static pthread_barrier_t barrier;
static void *meet(void *unused) {
  for (int i = 0; i < 200; i++) pthread_barrier_wait(&barrier), free(keep(malloc(100 + (size_t)i)));
  return unused;
}
static int queue, done;
static void *consume(void *unused) {
  pthread_mutex_lock(&mutex);
  for (;;) {
    while (queue == 0 && !done) CHECK(pthread_cond_wait(&cond, &mutex) == 0);
    if (queue == 0) break;
    queue--, counted++;
  }
  pthread_mutex_unlock(&mutex);
  return unused;
}
static void everything(void) {
  pthread_t threads[6];
  initialize();
  pthread_barrier_init(&barrier, NULL, 2);
  for (int i = 0; i < 4; i++) threads[i] = start(contend, (void *)3000);
  for (int i = 4; i < 6; i++) threads[i] = start(meet, NULL);
  for (int i = 0; i < 6; i++) join(threads[i]);
  say("counted %ld\n", counted);
  counted = 0;
  for (int i = 0; i < 4; i++) threads[i] = start(consume, NULL);
  for (int i = 0; i < 20000; i++) {
    pthread_mutex_lock(&mutex);
    queue++;
    pthread_mutex_unlock(&mutex);
    pthread_cond_signal(&cond);
  }
  pthread_mutex_lock(&mutex), done = 1, pthread_cond_broadcast(&cond), pthread_mutex_unlock(&mutex);
  for (int i = 0; i < 4; i++) join(threads[i]);
  struct timespec soon = time_of(CLOCK_REALTIME, 5);
  pthread_mutex_lock(&mutex);
  CALL(pthread_cond_timedwait(&cond, &mutex, &soon)), CALL(pthread_mutex_unlock(&mutex));
  say("consumed %ld\n", counted);
}

int main(int count, char **arguments) {
  static const struct {
    const char *name;
    void (*run)(void);
    /* clang-format off */
  } modes[] = {{"signal_posts", signal_posts}, {"fork_in_contention", fork_in_contention},
               {"thread_ends", thread_ends}, {"small_stacks", small_stacks},
               {"small_stacks_and_signals", small_stacks_and_signals}, {"versions", versions},
               {"jumps", jumps}, {"seccomp_strict", seccomp_strict},
               {"seccomp_filter", seccomp_filter}, {"interrupted_waits", interrupted_waits},
               {"everything", everything}};
  /* clang-format on */
  CHECK(count > 1);
  if (strcmp(arguments[1], "loader") == 0) return initialize(), loader(count - 2, arguments + 2), 0;
  for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
    if (strcmp(arguments[1], modes[i].name) == 0) return modes[i].run(), 0;
  return 96;
}

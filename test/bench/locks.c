/* One pattern of locking, timed from inside: locks PATTERN N. Two kinds:
 * alone (mutex, recursive, rwlock, sem, setjmp, syscall): N times in one thread while another
 * sleeps; prints CPU nanoseconds of the process a time. single_mutex: the same without that other
 * thread: glibc then locks without atomic operations, until the agent's thread makes it two;
 * together (short, long, readers, ping_pong): for N milliseconds; prints wall nanoseconds a time,
 * all threads' counted together. count PATTERN N: the N times stand between two breakpoint traps,
 * for step_count.c. */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#define BREAKPOINT() __asm__ volatile("int3")
#else
#define BREAKPOINT() __builtin_trap()
#endif

static double nanoseconds(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t recursive = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t turn_changed = PTHREAD_COND_INITIALIZER;
static sem_t semaphore;
static jmp_buf place;

static void mutex_pairs(long n) {
  for (long i = 0; i < n; i++) {
    pthread_mutex_lock(&mutex);
    pthread_mutex_unlock(&mutex);
  }
}
static void recursive_pairs(long n) {
  for (long i = 0; i < n; i++) {
    pthread_mutex_lock(&recursive);
    pthread_mutex_unlock(&recursive);
  }
}
static void read_pairs(long n) {
  for (long i = 0; i < n; i++) {
    pthread_rwlock_rdlock(&rwlock);
    pthread_rwlock_unlock(&rwlock);
  }
}
static void sem_pairs(long n) {
  for (long i = 0; i < n; i++) {
    sem_post(&semaphore);
    sem_wait(&semaphore);
  }
}
static void jumps(long n) {
  volatile long i = 0;
  setjmp(place);
  if (i++ < n) longjmp(place, 1);
}
static void calls(long n) {
  for (long i = 0; i < n; i++) syscall(SYS_getppid);
}

static const struct {
  const char *name;
  void (*run)(long);
} alone[] = {{"mutex", mutex_pairs},
             {"single_mutex", mutex_pairs},
             {"recursive", recursive_pairs},
             {"rwlock", read_pairs},
             {"sem", sem_pairs},
             {"setjmp", jumps},
             {"syscall", calls}};

static void *sleeper(void *argument) {
  for (;;) pause();
  return argument;
}

/* ---- together ---- */

enum { THREADS = 4 };
static atomic_bool stop;
static volatile uint64_t shared_count;
static int section; /* rounds of work with the lock held, and again without it */

static void work(int rounds) {
  for (int i = 0; i < rounds; i++) __asm__ volatile("" : : : "memory");
}

static void *contend(void *done) {
  long n = 0;
  for (; !atomic_load_explicit(&stop, memory_order_relaxed); n++) {
    pthread_mutex_lock(&mutex);
    shared_count++;
    work(section);
    pthread_mutex_unlock(&mutex);
    work(section);
  }
  *(long *)done = n;
  return NULL;
}

static void *read_and_write(void *done) { /* one write in 16 */
  long n = 0;
  for (; !atomic_load_explicit(&stop, memory_order_relaxed); n++) {
    if (n % 16 == 0) {
      pthread_rwlock_wrlock(&rwlock);
      shared_count++;
    } else {
      pthread_rwlock_rdlock(&rwlock);
    }
    work(200);
    pthread_rwlock_unlock(&rwlock);
    work(200);
  }
  *(long *)done = n;
  return NULL;
}

static atomic_int whose_turn, players;
static void *play(void *done) {
  long n = 0;
  int me = atomic_fetch_add(&players, 1);
  pthread_mutex_lock(&mutex);
  while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
    while (whose_turn != me && !atomic_load_explicit(&stop, memory_order_relaxed))
      pthread_cond_wait(&turn_changed, &mutex);
    whose_turn = !me;
    n++;
    pthread_cond_signal(&turn_changed);
  }
  pthread_cond_broadcast(&turn_changed);
  pthread_mutex_unlock(&mutex);
  *(long *)done = n;
  return NULL;
}

static double together(void *(*run)(void *), int threads, long milliseconds) {
  pthread_t thread[THREADS];
  long done[THREADS], total = 0;
  double start = nanoseconds(CLOCK_MONOTONIC);
  for (int i = 0; i < threads; i++) pthread_create(&thread[i], NULL, run, &done[i]);
  usleep((useconds_t)milliseconds * 1000);
  atomic_store(&stop, true);
  double end = nanoseconds(CLOCK_MONOTONIC);
  for (int i = 0; i < threads; i++) {
    pthread_join(thread[i], NULL);
    total += done[i];
  }
  return (end - start) / (double)total;
}

int main(int argc, char **argv) {
  bool count = argc > 1 && strcmp(argv[1], "count") == 0;
  if (argc != 3 + count) return 2;
  const char *pattern = argv[1 + count];
  long n = atol(argv[2 + count]);
  double result = -1;
  sem_init(&semaphore, 0, 0);
  for (size_t i = 0; i < sizeof alone / sizeof *alone; i++)
    if (strcmp(pattern, alone[i].name) == 0) {
      pthread_t thread;
      if (strcmp(pattern, "single_mutex") != 0) pthread_create(&thread, NULL, sleeper, NULL);
      alone[i].run(1000);
      double start = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
      if (count) BREAKPOINT();
      alone[i].run(n);
      if (count) BREAKPOINT();
      result = (nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - start) / (double)n;
    }
  if (strcmp(pattern, "short") == 0) result = together(contend, THREADS, n);
  if (strcmp(pattern, "long") == 0) section = 4000, result = together(contend, THREADS, n);
  if (strcmp(pattern, "readers") == 0) result = together(read_and_write, THREADS, n);
  if (strcmp(pattern, "ping_pong") == 0) result = together(play, 2, n);
  if (result < 0) return 2;
  printf("%.3f\n", result);
  return 0;
}

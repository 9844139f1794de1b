/* Threads that know their own schedule, and write it down by CLOCK_MONOTONIC: name, what, from, to
 * (nanoseconds) and the CPU time that the thread used in it; then "tid" lines. Rounds of it, until
 * stdin ends:
 *   holder  takes the mutex, computes for 7 ms, gives it back; then computes on
 *   waiter  waits for it meanwhile
 *   signaller, signalled  hand over by a condition
 *   sleeper sleeps 3 ms
 *   filler, reader  a pipe that is written each 5 ms
 *   born    is created, computes 10 ms, ends; its creator joins it
 * The first thread comes last, as a rule, to the barrier at which each round begins. */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int64_t clock_now(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

#define NOW() clock_now(CLOCK_MONOTONIC)
#define CPU() clock_now(CLOCK_THREAD_CPUTIME_ID)

static volatile int asked_to_stop, stopping; /* the second changes between two rounds */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER, pair = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t handed = PTHREAD_COND_INITIALIZER;
static sem_t held;
static int turn, pipes[2];
static pthread_barrier_t round_begins, round_ends;

static int32_t tid(void) { return (int32_t)syscall(SYS_gettid); }

static void say(const char *what, int64_t from, int64_t to, int64_t cpu) {
  char line[128];
  int size = snprintf(line, sizeof line, "%d %s %lld %lld %lld\n", tid(), what, (long long)from,
                      (long long)to, (long long)cpu);
  if (write(1, line, (size_t)size) != size) _exit(1);
}

__attribute__((noinline)) void compute_for(int64_t nanoseconds) {
  int64_t end = CPU() + nanoseconds;
  while (CPU() < end)
    for (volatile int i = 0; i < 1000; i++) {}
}

__attribute__((noinline)) void give_back_the_mutex(void) { pthread_mutex_unlock(&mutex); }

static void hold(void) {
  pthread_mutex_lock(&mutex);
  sem_post(&held);
  int64_t from = NOW(), cpu = CPU();
  compute_for(7000000);
  int64_t to = NOW();
  cpu = CPU() - cpu;
  give_back_the_mutex();
  say("holds", from, to, cpu);
}

__attribute__((noinline)) void wait_for_the_mutex(void) { pthread_mutex_lock(&mutex); }

static void wait_for_it(void) {
  sem_wait(&held);
  int64_t from = NOW();
  wait_for_the_mutex();
  int64_t to = NOW();
  pthread_mutex_unlock(&mutex);
  say("waits", from, to, 0);
}

__attribute__((noinline)) void wait_for_my_turn(void) {
  pthread_mutex_lock(&pair);
  while (!turn) pthread_cond_wait(&handed, &pair);
  turn = 0;
  pthread_mutex_unlock(&pair);
}

static void be_signalled(void) {
  int64_t from = NOW();
  wait_for_my_turn();
  say("is_signalled", from, NOW(), 0);
}

__attribute__((noinline)) void hand_over(void) {
  pthread_mutex_lock(&pair);
  turn = 1;
  pthread_cond_signal(&handed);
  pthread_mutex_unlock(&pair);
}

static void signal_it(void) {
  compute_for(4000000);
  int64_t from = NOW();
  hand_over();
  say("signals", from, NOW(), 0);
}

static void sleep_a_bit(void) {
  struct timespec pause = {.tv_nsec = 3000000};
  int64_t from = NOW();
  nanosleep(&pause, NULL);
  say("sleeps", from, NOW(), 0);
}

__attribute__((noinline)) void read_from_the_pipe(void) {
  char byte;
  if (read(pipes[0], &byte, 1) != 1) _exit(1);
}

static void read_one(void) {
  int64_t from = NOW();
  read_from_the_pipe();
  say("reads", from, NOW(), 0);
}

static void fill(void) {
  struct timespec pause = {.tv_nsec = 5000000};
  nanosleep(&pause, NULL);
  int64_t from = NOW();
  if (write(pipes[1], "x", 1) != 1) _exit(1);
  say("fills", from, NOW(), 0);
}

static void *live(void *unused) {
  int64_t from = NOW(), cpu = CPU();
  pthread_setname_np(pthread_self(), "born");
  compute_for(10000000);
  cpu = CPU() - cpu;
  say("lives", from, NOW(), cpu);
  return unused;
}

__attribute__((noinline)) void create_it(pthread_t *thread) {
  if (pthread_create(thread, NULL, live, NULL) != 0) _exit(1);
}

static void bear(void) {
  pthread_t thread;
  int64_t from = NOW();
  create_it(&thread);
  say("creates", from, NOW(), 0);
  from = NOW();
  pthread_join(thread, NULL);
  say("joins", from, NOW(), 0);
}

static const struct part {
  const char *name;
  void (*play)(void);
} parts[] = {{"holder", hold},         {"waiter", wait_for_it},  {"signalled", be_signalled},
             {"signaller", signal_it}, {"sleeper", sleep_a_bit}, {"reader", read_one},
             {"filler", fill},         {"creator", bear}};
enum { PARTS = sizeof parts / sizeof *parts };

static void *take_part(void *argument) {
  const struct part *part = argument;
  pthread_setname_np(pthread_self(), part->name);
  for (;;) {
    int64_t from = NOW();
    pthread_barrier_wait(&round_begins);
    int64_t to = NOW();
    if (stopping) return NULL;
    part->play();
    say("comes", from, to, 0);
    pthread_barrier_wait(&round_ends);
  }
}

static void *watch_stdin(void *unused) {
  char byte;
  while (read(0, &byte, 1) > 0) {}
  asked_to_stop = 1;
  return unused;
}

int main(void) {
  pthread_t threads[PARTS], watch;
  sem_init(&held, 0, 0);
  if (pipe(pipes) != 0) return 1;
  pthread_barrier_init(&round_begins, NULL, PARTS + 1);
  pthread_barrier_init(&round_ends, NULL, PARTS + 1);
  for (int i = 0; i < PARTS; i++)
    pthread_create(&threads[i], NULL, take_part, (void *)(uintptr_t)&parts[i]);
  pthread_create(&watch, NULL, watch_stdin, NULL);
  while (!asked_to_stop) {
    int64_t from = NOW();
    int is_last = pthread_barrier_wait(&round_begins) == PTHREAD_BARRIER_SERIAL_THREAD;
    if (is_last) say("begins", from, NOW(), 0);
    pthread_barrier_wait(&round_ends);
    usleep(2000);
  }
  stopping = 1;
  pthread_barrier_wait(&round_begins);
  for (int i = 0; i < PARTS; i++) pthread_join(threads[i], NULL);
  return 0;
}

/* Functions that use known amounts of CPU time, measured by the threads' own CPU clocks: cpu_shares
 * amounts|short|endless|phases|spin.
 *
 * amounts: 4 threads; for each line read, each uses 1.5 s of CPU time and waits again. short: the
 * same amount by 30 times 4 threads, which live for 50 ms of CPU time each. Then the truth is
 * printed: `truth FUNCTION nanoseconds`, `thread NAME nanoseconds`, `end`.
 * endless: 4 threads that never stop. phases: one thread, in phase_0; each line read makes it go on
 *   to the next function.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#include "workload.h"

enum { FUNCTIONS = 4, THREADS = 4, SHORT_LIFE = 50000000, LIVES = 30 };

/* All do the same; noinline bodies of their own, so that each has its name. */
#define BURN(name)                                                               \
  static FRAME void name(long turns) {                                           \
    __asm__ volatile(".p2align 6\n1: dec %0\n jnz 1b\n" : "+r"(turns) : : "cc"); \
    __asm__ volatile("# " #name);                                                \
  }
BURN(burn_10)
BURN(burn_20)
BURN(burn_30)
BURN(burn_40)
BURN(phase_0)
BURN(phase_1)
BURN(phase_2)

static struct {
  const char *name;
  void (*burn)(long);
  int percent;
  _Atomic unsigned long long nanoseconds;
} functions[FUNCTIONS] = {{"burn_10", burn_10, 10, 0},
                          {"burn_20", burn_20, 20, 0},
                          {"burn_30", burn_30, 30, 0},
                          {"burn_40", burn_40, 40, 0}};

static void (*const phases[])(long) = {phase_0, phase_1, phase_2, phase_2};
static _Atomic int phase, entered = -1;

static long long cpu_time(void) {
  struct timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static unsigned next_random(unsigned long long *state) { /* xorshift64* */
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return (unsigned)((*state * 2685821657736338717ULL) >> 32);
}

/* Which function is called is drawn, with the probabilities in their names: no rhythm that a timer
 * could fall in step with. */
static void burn_for(long long nanoseconds, unsigned long long seed) {
  unsigned long long state = seed * 2 + 1;
  for (int i = 0; i < 20; i++) next_random(&state);
  long long start = cpu_time(), now = start;
  while (now - start < nanoseconds) {
    int pick = (int)(next_random(&state) % 100), which = 0;
    while (pick >= functions[which].percent) pick -= functions[which++].percent;
    functions[which].burn(1000000);
    long long after = cpu_time();
    atomic_fetch_add(&functions[which].nanoseconds, (unsigned long long)(after - now));
    now = after;
  }
}

static sem_t go, done;
static long long thread_times[THREADS];

static void *short_life(void *number) {
  burn_for(SHORT_LIFE, (unsigned long long)number);
  return NULL;
}

static void one_after_the_other(long number) {
  for (long n = 0; n < LIVES; n++) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, short_life, (void *)(n * THREADS + number)) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
  }
}

static const char *mode;

static void *run(void *argument) {
  long number = (long)argument;
  char name[16];
  snprintf(name, sizeof name, "burner-%ld", number);
  pthread_setname_np(pthread_self(), name);
  for (unsigned long long round = 0;; round++) {
    if (strcmp(mode, "endless") != 0) sem_wait(&go);
    long long start = cpu_time();
    if (strcmp(mode, "short") == 0) one_after_the_other(number);
    else
      burn_for(strcmp(mode, "amounts") == 0 ? (long long)LIVES * SHORT_LIFE : INT64_MAX / 2,
               (unsigned long long)number + THREADS * round);
    thread_times[number] = cpu_time() - start;
    sem_post(&done);
  }
  return NULL;
}

static void *run_phases(void *unused) {
  for (;;) {
    int now = atomic_load(&phase);
    atomic_store(&entered, now);
    phases[now](100000);
  }
  return unused;
}

enum { SPIN_LINE = __LINE__ + 1 };
static FRAME void spin(void) { __asm__ volatile(".globl spin_here\nspin_here: jmp spin_here"); }
extern char spin_here[] __attribute__((visibility("hidden")));

static void *run_spin(void *unused) {
  spin();
  return unused;
}

static void start(void *(*run)(void *), int count) {
  for (long i = 0; i < count; i++) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, run, (void *)i) == 0);
  }
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  mode = argv[1];
  bool has_phases = strcmp(mode, "phases") == 0, has_spin = strcmp(mode, "spin") == 0;
  if (has_phases) start(run_phases, 1);
  else if (has_spin)
    start(run_spin, 1), say("spin %lx line %d\n", (unsigned long)spin_here, SPIN_LINE);
  else start(run, THREADS);
  say("ready\n");
  while (wait_for_line()) {
    for (int i = 0; i < THREADS && !has_phases; i++) sem_post(&go);
    for (int i = 0; i < THREADS && !has_phases; i++) sem_wait(&done);
    if (has_phases) {
      int next = atomic_fetch_add(&phase, 1) + 1;
      while (atomic_load(&entered) != next) usleep(100);
    }
    for (int i = 0; i < FUNCTIONS; i++)
      say("truth %s %llu\n", functions[i].name, atomic_exchange(&functions[i].nanoseconds, 0));
    for (int i = 0; i < THREADS; i++) say("thread burner-%d %lld\n", i, thread_times[i]);
    say("end\n");
  }
  _exit(0);
}

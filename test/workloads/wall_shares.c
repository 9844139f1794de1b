/* One thread sleeps, waits and computes by turns and says how long it has done each; many others
 * wait for ever. A line on stdin: the sums so far, in nanoseconds. */
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#include "workload.h"

static _Atomic uint64_t slept, waited, computed;
static _Atomic int parked; /* or about to */
static sem_t never;

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

FRAME void sleeping(void) {
  struct timespec time = {.tv_nsec = 35000000};
  nanosleep(&time, NULL);
  __asm__ volatile("");
}

FRAME void waiting(void) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_nsec += 20000000;
  if (until.tv_nsec >= 1000000000) {
    until.tv_sec++;
    until.tv_nsec -= 1000000000;
  }
  sem_timedwait(&never, &until);
  __asm__ volatile("");
}

FRAME void computing(void) {
  volatile uint64_t sum = 0;
  for (uint64_t end = now() + 25000000; now() < end;)
    for (int i = 0; i < 10000; i++) sum += (uint64_t)i;
}

static void take_turns(void (*work)(void), _Atomic uint64_t *total) {
  uint64_t before = now();
  work();
  atomic_fetch_add(total, now() - before);
}

static void *turns(void *argument) {
  pthread_setname_np(pthread_self(), "turns");
  for (;;) {
    take_turns(sleeping, &slept);
    take_turns(waiting, &waited);
    take_turns(computing, &computed);
  }
  return argument;
}

FRAME void idling(void) {
  atomic_fetch_add(&parked, 1);
  for (;;) sem_wait(&never);
}

static void *idle(void *argument) {
  pthread_setname_np(pthread_self(), "idler");
  idling();
  return argument;
}

int main(int argc, char **argv) {
  pthread_t thread;
  int idlers = argc > 1 ? atoi(argv[1]) : 0;
  sem_init(&never, 0, 0);
  for (int i = 0; i < idlers; i++)
    if (pthread_create(&thread, NULL, idle, NULL)) return 1;
  if (pthread_create(&thread, NULL, turns, NULL)) return 1;
  while (atomic_load(&parked) < idlers) sleeping();
  for (int more = ready(); more; more = wait_for_line())
    say("%llu %llu %llu\n", (unsigned long long)slept, (unsigned long long)waited,
        (unsigned long long)computed);
  return 0;
}

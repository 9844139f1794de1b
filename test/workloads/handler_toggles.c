/* Handlers are installed and taken away again, for two seconds, while other threads' waits are
 * interrupted by SIGURG, which is ignored. Prints how often something else was in force than what
 * had been asked for last. */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "workload.h"

enum { WAITERS = 6, TOGGLERS = 4, SECONDS = 2 };

static pthread_t waiters[WAITERS];
static _Atomic int over;
static _Atomic long lost;

static void handler(int number) { (void)number; }

static void *wait_on(void *unused) {
  while (!atomic_load(&over)) poll(NULL, 0, 1000);
  return unused;
}

static void *interrupt(void *unused) {
  for (int i = 0; !atomic_load(&over); i = (i + 1) % WAITERS) pthread_kill(waiters[i], SIGURG);
  return unused;
}

static int set(int number, void (*function)(int)) {
  struct sigaction action = {.sa_handler = function}, found;
  if (number == SIGUSR1 || number == SIGIO) CHECK(signal(number, function) != SIG_ERR);
  else CHECK(sigaction(number, &action, NULL) == 0);
  CHECK(sigaction(number, NULL, &found) == 0);
  return found.sa_handler != function;
}

static void *toggle(void *number) {
  while (!atomic_load(&over)) {
    int wrong = set(*(int *)number, handler) + set(*(int *)number, SIG_IGN);
    atomic_fetch_add(&lost, wrong);
  }
  return NULL;
}

int main(void) {
  static int numbers[TOGGLERS] = {SIGUSR1, SIGUSR2, SIGIO, SIGWINCH};
  pthread_t interrupter, togglers[TOGGLERS];
  say("ready\n");
  wait_for_line();
  for (int i = 0; i < WAITERS; i++) CHECK(pthread_create(&waiters[i], NULL, wait_on, NULL) == 0);
  for (int i = 0; i < TOGGLERS; i++)
    CHECK(pthread_create(&togglers[i], NULL, toggle, &numbers[i]) == 0);
  CHECK(pthread_create(&interrupter, NULL, interrupt, NULL) == 0);
  sleep(SECONDS);
  atomic_store(&over, 1);
  CHECK(pthread_join(interrupter, NULL) == 0);
  for (int i = 0; i < TOGGLERS; i++) CHECK(pthread_join(togglers[i], NULL) == 0);
  for (int i = 0; i < WAITERS; i++) CHECK(pthread_join(waiters[i], NULL) == 0);
  say("%ld lost\nready\n", atomic_load(&lost));
  wait_for_line();
  return 0;
}

/* What the agent does more for at a call, made on a small stack from the heap, with a pattern in
 * the memory below it: small_stack_calls coroutine SIZE, and small_stack_calls thread SIZE, where
 * signals come meanwhile, one inside another. Prints how many bytes below were overwritten. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <ucontext.h>

#include "workload.h"

enum { BELOW = 16384, PATTERN = 0xa5, ROUNDS = 200 };

static unsigned char *memory;
static size_t size;
static ucontext_t home, coroutine;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static sem_t awaited, taken, posted[2];
static volatile int going = 1;

static int overwritten(void) {
  int count = 0;
  for (int i = 0; i < BELOW; i++) count += memory[i] != PATTERN;
  return count;
}

static void *wait_for_post(void *argument) {
  CHECK(sem_wait(&awaited) == 0);
  return argument;
}

static void *hold(void *argument) {
  pthread_mutex_lock(&mutex);
  sem_post(&taken);
  usleep(1000);
  pthread_mutex_unlock(&mutex);
  return argument;
}

/* Leaf of the sample that the test looks for. */
FRAME void allocate(void) { free(keep(malloc(100))); }

static void calls(void) {
  for (int i = 0; i < ROUNDS; i++) {
    allocate();
    pthread_mutex_lock(&mutex); /* held */
    pthread_mutex_unlock(&mutex);
    sem_post(&awaited); /* waited for */
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, wait_for_post, NULL) == 0);
    sem_post(&awaited);
    pthread_join(thread, NULL);
    swapcontext(&coroutine, &home);
  }
}

static void on_coroutine(void) {
  CHECK(getcontext(&coroutine) == 0);
  coroutine.uc_stack.ss_sp = memory + BELOW;
  coroutine.uc_stack.ss_size = size;
  makecontext(&coroutine, calls, 0);
  for (int i = 0; i < ROUNDS; i++) {
    pthread_t holder, waiter;
    CHECK(pthread_create(&holder, NULL, hold, NULL) == 0);
    CHECK(pthread_create(&waiter, NULL, wait_for_post, NULL) == 0);
    while (sem_wait(&taken) != 0) CHECK(errno == EINTR);
    swapcontext(&home, &coroutine);
    pthread_join(holder, NULL);
    pthread_join(waiter, NULL);
  }
}

static void post(int number) { sem_post(&posted[number == SIGUSR2]); }

static void *send_signals(void *argument) {
  int number = *(int *)argument;
  sigset_t both;
  sigfillset(&both);
  pthread_sigmask(SIG_BLOCK, &both, NULL);
  while (going) {
    while (sem_wait(&posted[number == SIGUSR2]) != 0) CHECK(errno == EINTR);
    kill(getpid(), number);
  }
  return NULL;
}

static void *small_thread(void *argument) {
  sigset_t both;
  sigemptyset(&both);
  sigaddset(&both, SIGUSR1);
  sigaddset(&both, SIGUSR2);
  pthread_sigmask(SIG_UNBLOCK, &both, NULL);
  allocate();
  return argument;
}

static void on_threads(void) {
  static int numbers[] = {SIGUSR1, SIGUSR2};
  struct sigaction action = {.sa_handler = post};
  sigset_t both;
  sigemptyset(&both);
  sigaddset(&both, SIGUSR1);
  sigaddset(&both, SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &both, NULL);
  pthread_t thread;
  for (int i = 0; i < 2; i++) {
    sem_init(&posted[i], 0, 1);
    sigaction(numbers[i], &action, NULL);
    CHECK(pthread_create(&thread, NULL, send_signals, &numbers[i]) == 0);
  }
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  CHECK(pthread_attr_setstack(&attributes, memory + BELOW, size) == 0);
  for (int i = 0; i < 20 * ROUNDS; i++) {
    CHECK(pthread_create(&thread, &attributes, small_thread, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
  }
}

int main(int argc, char **argv) {
  CHECK(argc == 3);
  size = (size_t)atol(argv[2]);
  memory = aligned_alloc(4096, BELOW + size);
  memset(memory, PATTERN, BELOW);
  if (argv[1][0] == 'c') on_coroutine();
  else on_threads();
  say("%d bytes below the stack overwritten\n", overwritten());
  ready();
  _exit(0);
}

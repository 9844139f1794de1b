/* While threads are dumped: threads that are born, block for a moment in a library that is unloaded
 * right afterwards, and end; some that stay; and some that go on from one place where they block to
 * another all the time.
 * Argument: the library (this file with -DLIBRARY). Prints `stays TID` and `moves TID`, and ends
 * when its stdin does. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>

#include "workload.h"

#ifdef LIBRARY
static FRAME void in_library_inner(void) {
  char room[100];
  keep(room);
  struct timespec time = {.tv_nsec = 3000000};
  nanosleep(&time, NULL);
  keep(room);
}
void in_library(void) {
  in_library_inner();
  __asm__ volatile("");
}
#else
static const char *library;
static sem_t never, announced;
static _Atomic int ending;

static FRAME void stay(void) {
  char room[1000];
  keep(room);
  sem_wait(&never);
  keep(room);
}
static FRAME void *start_stay(void *nothing) {
  say("stays %d\n", (int)syscall(SYS_gettid));
  sem_post(&announced);
  stay();
  return nothing;
}
/* Two chains of different depth and size, in turn. */
static FRAME void nap(void) {
  struct timespec time = {.tv_nsec = 1000};
  nanosleep(&time, NULL);
  __asm__ volatile("");
}
static FRAME void left_inner(void) {
  char room[40];
  keep(room);
  nap();
  keep(room);
}
static FRAME void left(void) {
  char room[700];
  keep(room);
  left_inner();
  keep(room);
}
static FRAME void right_inner(void) {
  char room[900];
  keep(room);
  nap();
  keep(room);
}
static FRAME void right_middle(void) {
  char room[24];
  keep(room);
  right_inner();
  keep(room);
}
static FRAME void right(void) {
  char room[200];
  keep(room);
  right_middle();
  keep(room);
}
static FRAME void *start_moves(void *nothing) {
  say("moves %d\n", (int)syscall(SYS_gettid));
  sem_post(&announced);
  while (!ending) {
    left();
    right();
  }
  return nothing;
}

static FRAME void *start_short(void *nothing) {
  void *handle = dlopen(library, RTLD_NOW);
  if (handle) {
    ((void (*)(void))dlsym(handle, "in_library"))();
    dlclose(handle);
  }
  return nothing;
}
static FRAME void *start_churn(void *nothing) {
  while (!ending) {
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) CHECK(pthread_create(&threads[i], NULL, start_short, NULL) == 0);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  }
  return nothing;
}

int main(int argc, char **argv) {
  enum { STAYING = 4, MOVING = 4, CHURNING = 2 };
  CHECK(argc > 1);
  library = argv[1];
  sem_init(&never, 0, 0);
  pthread_t threads[STAYING], moving[MOVING], churning[CHURNING];
  for (int i = 0; i < STAYING; i++) CHECK(pthread_create(&threads[i], NULL, start_stay, NULL) == 0);
  for (int i = 0; i < MOVING; i++) CHECK(pthread_create(&moving[i], NULL, start_moves, NULL) == 0);
  for (int i = 0; i < STAYING + MOVING; i++) sem_wait(&announced);
  for (int i = 0; i < CHURNING; i++)
    CHECK(pthread_create(&churning[i], NULL, start_churn, NULL) == 0);
  ready();
  ending = 1;
  for (int i = 0; i < CHURNING; i++) pthread_join(churning[i], NULL);
  for (int i = 0; i < MOVING; i++) pthread_join(moving[i], NULL);
  return 0;
}
#endif

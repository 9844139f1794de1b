/* Threads created from functions of known names, ended in every way there is. Truth: `truth
 * FUNCTION created live`. After `ready` the first time some live; after the second time none does.
 * With an argument N: N short threads between the two. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <threads.h>

#include "workload.h"

enum { MANY = 32 };

static sem_t parked; /* nobody posts: where the canceled ones wait */
static int gate[2]; /* the living read from it until it is closed */

static void *returns(void *argument) { return argument; }
static void *exits(void *argument) { pthread_exit(argument); }
static int returns_int(void *argument) { return argument ? 7 : 8; }
static int exits_int(void *argument) { thrd_exit(argument ? 7 : 8); }
static void *canceled(void *argument) {
  sem_wait(&parked);
  return argument;
}
static void *lives(void *argument) {
  char byte;
  CHECK(read(gate[0], &byte, 1) == 0);
  return argument;
}
static int lives_int(void *argument) { return lives(argument) != NULL; }

FRAME static void create_joined(pthread_t *threads, int count) {
  for (int i = 0; i < count; i++) CHECK(pthread_create(&threads[i], NULL, returns, &parked) == 0);
}
FRAME static void create_exiting(pthread_t *threads, int count) {
  for (int i = 0; i < count; i++) CHECK(pthread_create(&threads[i], NULL, exits, &parked) == 0);
}
FRAME static void create_canceled(pthread_t *threads, int count) {
  for (int i = 0; i < count; i++) CHECK(pthread_create(&threads[i], NULL, canceled, &parked) == 0);
}
FRAME static void create_living(pthread_t *threads, int count) {
  for (int i = 0; i < count; i++) CHECK(pthread_create(&threads[i], NULL, lives, &parked) == 0);
}
FRAME static void create_detached(int count, void *(*start)(void *)) {
  pthread_attr_t attributes;
  pthread_t thread;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  for (int i = 0; i < count; i++) CHECK(pthread_create(&thread, &attributes, start, &parked) == 0);
  pthread_attr_destroy(&attributes);
}
FRAME static void create_c11(thrd_t *threads, int count, thrd_start_t start) {
  for (int i = 0; i < count; i++) CHECK(thrd_create(&threads[i], start, &parked) == thrd_success);
}
/* A stack larger than the address space: the creation fails, and there is no thread. */
FRAME static void create_failing(int count) {
  pthread_attr_t attributes;
  pthread_t thread;
  pthread_attr_init(&attributes);
  CHECK(pthread_attr_setstacksize(&attributes, (size_t)1 << 52) == 0);
  for (int i = 0; i < count; i++)
    CHECK(pthread_create(&thread, &attributes, returns, NULL) == EAGAIN);
  pthread_attr_destroy(&attributes);
}

static void join_all(pthread_t *threads, int count, void *expected) {
  for (int i = 0; i < count; i++) {
    void *result;
    CHECK(pthread_join(threads[i], &result) == 0 && result == expected);
  }
}

static void join_c11(thrd_t *threads, int count) {
  for (int i = 0; i < count; i++) {
    int result;
    CHECK(thrd_join(threads[i], &result) == thrd_success && (result == 7 || result == 1));
  }
}

FRAME static void create_short(long count) {
  for (long i = 0; i < count; i++) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, returns, NULL) == 0 && pthread_join(thread, NULL) == 0);
  }
}

static int short_threads(long count) {
  create_short(1000);
  ready();
  create_short(count);
  say("truth create_short %ld 0\n", count + 1000);
  ready();
  return 0;
}

int main(int argc, char **argv) {
  static pthread_t joined[MANY], exiting[MANY], canceled_ones[MANY], living[MANY];
  static thrd_t c11[MANY], c11_exiting[MANY], c11_living[MANY];
  if (argc > 1) return short_threads(atol(argv[1]));
  CHECK(sem_init(&parked, 0, 0) == 0 && pipe(gate) == 0);
  create_joined(joined, 5);
  join_all(joined, 5, &parked);
  create_exiting(exiting, 4);
  join_all(exiting, 4, &parked);
  create_canceled(canceled_ones, 3);
  for (int i = 0; i < 3; i++) CHECK(pthread_cancel(canceled_ones[i]) == 0);
  join_all(canceled_ones, 3, PTHREAD_CANCELED);
  create_detached(6, returns);
  create_detached(2, lives);
  create_c11(c11, 7, returns_int);
  join_c11(c11, 7);
  create_c11(c11_exiting, 2, exits_int);
  join_c11(c11_exiting, 2);
  create_c11(c11_living, 1, lives_int);
  create_living(living, 9);
  create_failing(3);
  say("truth create_joined 5 0\ntruth create_exiting 4 0\ntruth create_canceled 3 0\n");
  say("truth create_detached 8 2\ntruth create_c11 10 1\ntruth create_living 9 9\n");
  ready();
  close(gate[1]);
  join_all(living, 9, &parked);
  join_c11(c11_living, 1);
  ready();
  return 0;
}

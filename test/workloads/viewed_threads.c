/* What a table of threads must show. Prints `thread NAME TID` for each: `left` and `right` each
 * hold a mutex and wait for the other's, for ever; three `pool`s wait for a condition. Those that
 * wait may not do so yet when it is ready. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/prctl.h>

#include "workload.h"

static pthread_mutex_t of_left = PTHREAD_MUTEX_INITIALIZER, of_right = PTHREAD_MUTEX_INITIALIZER,
                       of_pool = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t all_announced, both_hold_one;

static FRAME void announce(const char *name) {
  prctl(PR_SET_NAME, name);
  say("thread %s %d\n", name, (int)syscall(SYS_gettid));
  pthread_barrier_wait(&all_announced);
}
static FRAME void take_both(pthread_mutex_t *own, pthread_mutex_t *other) {
  pthread_mutex_lock(own);
  pthread_barrier_wait(&both_hold_one);
  pthread_mutex_lock(other);
}
static FRAME void *go_left(void *nothing) {
  announce("left");
  take_both(&of_left, &of_right);
  return nothing;
}
static FRAME void *go_right(void *nothing) {
  announce("right");
  take_both(&of_right, &of_left);
  return nothing;
}
static FRAME void *wait_for_work(void *nothing) {
  announce("pool");
  pthread_mutex_lock(&of_pool);
  for (;;) pthread_cond_wait(&work, &of_pool);
  return nothing;
}

int main(void) {
  pthread_t thread;
  pthread_barrier_init(&all_announced, NULL, 6);
  pthread_barrier_init(&both_hold_one, NULL, 2);
  CHECK(pthread_create(&thread, NULL, go_left, NULL) == 0);
  CHECK(pthread_create(&thread, NULL, go_right, NULL) == 0);
  for (int i = 0; i < 3; i++) CHECK(pthread_create(&thread, NULL, wait_for_work, NULL) == 0);
  pthread_barrier_wait(&all_announced);
  ready();
  return 0;
}

/* Waits for two mutexes, in known number: each is seen waiting in the kernel before its mutex is
 * released, and nothing else waits. Prints `count FUNCTION number`; each line that it reads makes
 * it wait TWICE more for the first mutex and print `again`. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sys/syscall.h>

#include "workload.h"

enum { OFTEN = 7, SELDOM = 3, TWICE = 2 };

static pthread_mutex_t first = PTHREAD_MUTEX_INITIALIZER, second = PTHREAD_MUTEX_INITIALIZER;
static int orders[2], answers[2]; /* pipes: a byte each, 'f' or 's' */

FRAME static void wait_often(void) {
  CHECK(pthread_mutex_lock(&first) == 0);
  CHECK(pthread_mutex_unlock(&first) == 0);
}
FRAME static void wait_seldom(void) {
  CHECK(pthread_mutex_lock(&second) == 0);
  CHECK(pthread_mutex_unlock(&second) == 0);
}
FRAME static void release_often(void) { CHECK(pthread_mutex_unlock(&first) == 0); }
FRAME static void release_seldom(void) { CHECK(pthread_mutex_unlock(&second) == 0); }

static void *waiter(void *number) {
  *(pid_t *)number = gettid();
  char order = 0;
  CHECK(write(answers[1], &order, 1) == 1);
  while (read(orders[0], &order, 1) == 1) {
    if (order == 'f') wait_often();
    else wait_seldom();
    CHECK(write(answers[1], &order, 1) == 1);
  }
  return NULL;
}

static int waits_for(pid_t thread, const void *mutex) {
  char path[64], text[256] = "";
  snprintf(path, sizeof path, "/proc/self/task/%d/syscall", thread);
  int file = open(path, O_RDONLY);
  CHECK(file >= 0);
  ssize_t size = read(file, text, sizeof text - 1);
  close(file);
  long call = -1;
  unsigned long address = 0;
  return size > 0 && sscanf(text, "%ld %lx", &call, &address) == 2 && call == SYS_futex &&
         address == (unsigned long)mutex;
}

static void make_wait(pid_t thread, char order, int times) {
  pthread_mutex_t *mutex = order == 'f' ? &first : &second;
  for (int i = 0; i < times; i++) {
    CHECK(pthread_mutex_lock(mutex) == 0);
    CHECK(write(orders[1], &order, 1) == 1);
    while (!waits_for(thread, mutex)) usleep(100);
    if (order == 'f') release_often();
    else release_seldom();
    CHECK(read(answers[0], &order, 1) == 1);
  }
}

int main(void) {
  pthread_t thread;
  pid_t number = 0;
  char byte;
  CHECK(pipe(orders) == 0 && pipe(answers) == 0);
  CHECK(pthread_create(&thread, NULL, waiter, &number) == 0);
  CHECK(read(answers[0], &byte, 1) == 1);
  make_wait(number, 'f', OFTEN);
  make_wait(number, 's', SELDOM);
  say("count often %d\ncount seldom %d\n", OFTEN, SELDOM);
  if (!ready()) return 0;
  do {
    make_wait(number, 'f', TWICE);
    say("again\n");
  } while (wait_for_line());
  return 0;
}

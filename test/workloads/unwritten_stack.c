/* flags: -O1 */
/* A thread that computes below a large array of which only one end is ever written: the pages
 * between are none. */
#include "workload.h"

enum { ROOM = 40000 };

static FRAME void compute(void) {
  volatile uint64_t sum = 0;
  for (long i = 0; i < 1500000000; i++) sum += (uint64_t)i;
}

static FRAME void below_the_array(void) {
  volatile char room[ROOM];
  room[ROOM - 1] = 1;
  compute();
  __asm__ volatile("" : : "r"(room) : "memory");
}

static void *run(void *argument) {
  below_the_array();
  __asm__ volatile("");
  return argument;
}

int main(void) {
  if (!ready()) return 1;
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, run, NULL) == 0);
  pthread_join(thread, NULL);
  ready();
  return 0;
}

/* One leak among what looks like one. Runs for some seconds (argument 1), then prints how many
 * blocks `leaks` had allocated at each twentieth of that time, and `ready`. */
#include <time.h>

#include "workload.h"

enum { SIZE = 4096, AT_START = 2000, IN_QUEUE = 200, IN_BURST = 1000, SLICES = 20 };

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

FRAME static void at_start(void) {
  for (int i = 0; i < AT_START; i++) keep(malloc(SIZE));
}
FRAME static void leaks(void) { keep(malloc(SIZE)); }
FRAME static void comes_and_goes(void) { free(keep(malloc(SIZE))); }
FRAME static void queue(void) { /* keeps the last 200 */
  static void *blocks[IN_QUEUE];
  static int next;
  free(blocks[next]);
  blocks[next] = keep(malloc(SIZE));
  next = (next + 1) % IN_QUEUE;
}
FRAME static void burst(void) {
  for (int i = 0; i < IN_BURST; i++) keep(malloc(SIZE));
}

int main(int argument_count, char **arguments) {
  double seconds = argument_count > 1 ? atof(arguments[1]) : 6, start = now();
  const struct timespec pause = {.tv_nsec = 1000000};
  long leaked = 0, at[SLICES + 1] = {0};
  int slice = 0, burst_done = 0;
  at_start();
  for (double at_now = start; at_now < start + seconds; at_now = now()) {
    for (; slice <= SLICES && at_now >= start + seconds * slice / SLICES; slice++)
      at[slice] = leaked;
    leaks(), leaked++;
    comes_and_goes();
    queue();
    if (!burst_done && at_now > start + seconds * 0.35) burst(), burst_done = 1;
    nanosleep(&pause, NULL);
  }
  for (; slice <= SLICES; slice++) at[slice] = leaked;
  for (int i = 0; i <= SLICES; i++) say("leaked %ld\n", at[i]);
  while (ready()) {}
  return 0;
}

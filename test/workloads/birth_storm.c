/* birth_storm: threads are born and end without pause, by return and by pthread_exit, from one line
 * to the next; then none is, up to the next. */
#include <pthread.h>

#include "workload.h"

enum { CREATORS = 4, AT_ONCE = 4 };
static _Atomic int over;

static void *short_life(void *argument) {
  if (argument) pthread_exit(NULL);
  return NULL;
}

static void *creates(void *unused) {
  while (!over) {
    pthread_t threads[AT_ONCE];
    for (long i = 0; i < AT_ONCE; i++)
      CHECK(pthread_create(&threads[i], NULL, short_life, (void *)(i & 1)) == 0);
    for (int i = 0; i < AT_ONCE; i++) pthread_join(threads[i], NULL);
  }
  return unused;
}

int main(void) {
  pthread_t creators[CREATORS];
  while (ready()) {
    over = 0;
    for (int i = 0; i < CREATORS; i++)
      CHECK(pthread_create(&creators[i], NULL, creates, NULL) == 0);
    say("storm\n");
    wait_for_line();
    over = 1;
    for (int i = 0; i < CREATORS; i++) pthread_join(creators[i], NULL);
  }
  return 0;
}

/* setuid_crowd: eight threads change the effective group at once, 300 times each, while others are
 * created: libc tells every thread each time, by a signal of its own. */
#include <pthread.h>

#include "workload.h"

enum { THREADS = 8, TIMES = 300 };

static void *change(void *unused) {
  for (int i = 0; i < TIMES; i++) {
    CHECK(setegid(i % 2 ? 0 : 1) == 0);
    if (i % 50 == 0) usleep(1000);
  }
  return unused;
}

static void *nothing(void *unused) { return unused; }

int main(void) {
  pthread_t threads[THREADS], other;
  if (!ready()) return 1;
  for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, change, NULL) == 0);
  for (int i = 0; i < TIMES; i++) {
    CHECK(pthread_create(&other, NULL, nothing, NULL) == 0);
    pthread_join(other, NULL);
  }
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  CHECK(setegid(0) == 0);
  say("done\n");
  return ready() ? 0 : 1;
}

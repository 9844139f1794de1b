/* Waits before somebody looks, and waits that go on and on while somebody does, with a journal
 * (lock_journal.h). Prints `clock NS`: CLOCK_REALTIME minus CLOCK_MONOTONIC. */
#define _GNU_SOURCE
#include "lock_journal.h"

#include <poll.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

#define CONTENDED(name)                                                                           \
  FRAME static void wait_##name(void) {                                                           \
    MEASURED(&mutex, RELEASED, 0, pthread_mutex_lock, &mutex);                                    \
  }                                                                                               \
  FRAME static void give_##name(void) { MEASURED_RELEASE(&mutex, pthread_mutex_unlock, &mutex); } \
  static void body_##name(void) {                                                                 \
    wait_##name();                                                                                \
    CHECK(pthread_mutex_unlock(&mutex) == 0);                                                     \
  }
CONTENDED(before)
CONTENDED(meanwhile)

static void contend(void (*body)(void), void (*give)(void)) {
  CHECK(pthread_mutex_lock(&mutex) == 0);
  order(&workers[0], body);
  until_blocked(&workers[0]);
  hold();
  give();
  until_done(&workers[0]);
}

int main(void) {
  for (int i = 0; i < 4; i++) contend(body_before, give_before);
  say("clock %lld\n", (long long)(clock_ns(CLOCK_REALTIME) - now()));
  ready();
  struct pollfd input = {0, POLLIN, 0};
  while (poll(&input, 1, 0) == 0) contend(body_meanwhile, give_meanwhile);
  CHECK(wait_for_line());
  journal_print();
  ready();
  return 0;
}

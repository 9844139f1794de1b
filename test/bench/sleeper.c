/* The least that a preload with a thread of its own costs each process: a thread that sleeps. */
#include <pthread.h>
#include <unistd.h>

static void *sleep_on(void *unused) {
  for (;;) pause();
  return unused;
}

__attribute__((constructor)) static void start(void) {
  pthread_t thread;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 64 << 10);
  pthread_create(&thread, &attributes, sleep_on, NULL);
  pthread_attr_destroy(&attributes);
}

/* A library that starts threads for its users. */
#include <pthread.h>

__attribute__((visibility("default"))) void library_start(void *(*start)(void *), void *argument) {
  pthread_t thread;
  if (pthread_create(&thread, 0, start, argument) == 0) pthread_detach(thread);
}

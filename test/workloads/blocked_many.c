/* Many threads blocked alike, each at the end of a short chain of functions. Arguments: how many,
 * and the way they wait: sleep, futex, epoll. */
#define _GNU_SOURCE
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <time.h>

#include "workload.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static const char *way;
static int epoll;

static FRAME void waiting(void) {
  char room[300];
  keep(room);
  if (way[0] == 's') {
    struct timespec time = {.tv_sec = 100000};
    nanosleep(&time, NULL);
  } else if (way[0] == 'f') {
    pthread_mutex_lock(&mutex);
  } else {
    struct epoll_event event;
    epoll_wait(epoll, &event, 1, -1);
  }
  keep(room);
}
static FRAME void working(int level) {
  char room[80];
  keep(room);
  if (level > 0) working(level - 1);
  else waiting();
  keep(room);
}
static FRAME void *start(void *nothing) {
  working(5);
  return nothing;
}

int main(int argc, char **argv) {
  CHECK(argc == 3);
  way = argv[2];
  epoll = epoll_create1(0);
  pthread_mutex_lock(&mutex);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 64 << 10);
  for (int i = 0; i < atoi(argv[1]); i++) {
    pthread_t thread;
    CHECK(pthread_create(&thread, &attributes, start, NULL) == 0);
  }
  ready();
  _exit(0);
}

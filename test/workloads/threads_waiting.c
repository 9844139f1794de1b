/* Threads that wait, each at the end of a chain of three functions of its own, created from two
 * places. Truth, a line a thread: `thread NAME TID CREATOR FUNCTION LINE SUFFIX ARGUMENT`: created
 * by CREATOR in FUNCTION at LINE, its functions end in _SUFFIX, ARGUMENT is what the system call's
 * wrapper gets first (or -). */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

#include "workload.h"

static int epoll_descriptor, pipe_ends[2], sockets[2];
static sem_t semaphore;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER, other_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;

static char buffer[64];
static struct epoll_event events[16];
static struct pollfd polled;
static const struct timespec long_time = {100000, 0};

/* The value is used afterwards, so that no call is a tail call. */
#define CHAIN(suffix, wait)                                                       \
  static volatile long result_##suffix;                                           \
  FRAME static void leaf_##suffix(void) { result_##suffix = (long)(wait); }       \
  FRAME static void middle_##suffix(void) { leaf_##suffix(), result_##suffix++; } \
  FRAME static void *entry_##suffix(void *argument) {                             \
    return middle_##suffix(), result_##suffix++, argument;                        \
  }

CHAIN(epoll, epoll_wait(epoll_descriptor, events, 16, -1))
CHAIN(poll, poll(&polled, 1, -1))
CHAIN(read, read(pipe_ends[0], buffer, sizeof buffer))
CHAIN(recv, recv(sockets[0], buffer, sizeof buffer, 0))
CHAIN(sleep, clock_nanosleep(CLOCK_MONOTONIC, 0, &long_time, NULL))
CHAIN(semaphore, sem_wait(&semaphore))
CHAIN(mutex, pthread_mutex_lock(&mutex))
CHAIN(condition, (pthread_mutex_lock(&other_mutex), pthread_cond_wait(&condition, &other_mutex)))

struct kind {
  const char *suffix;
  void *(*entry)(void *);
  long argument; /* -1: none */
};

struct made {
  pthread_t thread;
  const struct kind *kind;
  int tid;
};

static sem_t named;

/* Runs first, so that the name is there before the thread waits. */
struct start {
  struct made *made;
  char name[16];
};
static void *begin(void *argument) {
  struct start *start = argument;
  start->made->tid = (int)syscall(SYS_gettid);
  CHECK(pthread_setname_np(pthread_self(), start->name) == 0);
  sem_post(&named);
  void *result = start->made->kind->entry(NULL);
  free(start);
  return result;
}

static struct start *new_start(struct made *made, const char *prefix) {
  struct start *start = malloc(sizeof *start);
  start->made = made;
  snprintf(start->name, sizeof start->name, "%s-%s", prefix, made->kind->suffix);
  return start;
}

static void report(const struct made *made, const char *prefix, int creator, const char *function,
                   int line) {
  char argument[32] = "-";
  if (made->kind->argument >= 0) snprintf(argument, sizeof argument, "0x%lx", made->kind->argument);
  const char *suffix = made->kind->suffix;
  say("thread %s-%s %d %d %s %d %s %s\n", prefix, suffix, made->tid, creator, function, line,
      suffix, argument);
}

static struct made from_main[8], from_thread[8];

FRAME static void spawn_from_main(struct made *made) {
  struct start *start = new_start(made, "m");
  int line = __LINE__ + 1;
  CHECK(pthread_create(&made->thread, NULL, begin, start) == 0);
  sem_wait(&named);
  report(made, "m", (int)syscall(SYS_gettid), "spawn_from_main", line);
}

FRAME static void spawn_from_thread(struct made *made) {
  struct start *start = new_start(made, "t");
  int line = __LINE__ + 1;
  CHECK(pthread_create(&made->thread, NULL, begin, start) == 0);
  sem_wait(&named);
  report(made, "t", (int)syscall(SYS_gettid), "spawn_from_thread", line);
}

static void *creates_and_ends(void *argument) {
  for (int i = 0; i < 8; i++) spawn_from_thread(&from_thread[i]);
  return argument;
}

int main(void) {
  epoll_descriptor = epoll_create1(0);
  CHECK(pipe(pipe_ends) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
  CHECK(sem_init(&semaphore, 0, 0) == 0 && sem_init(&named, 0, 0) == 0);
  polled.fd = pipe_ends[0];
  const struct kind kinds[8] = {
      {"epoll", entry_epoll, epoll_descriptor},
      {"poll", entry_poll, (long)&polled},
      {"read", entry_read, pipe_ends[0]},
      {"recv", entry_recv, sockets[0]},
      {"sleep", entry_sleep, CLOCK_MONOTONIC},
      {"semaphore", entry_semaphore, -1},
      {"mutex", entry_mutex, -1},
      {"condition", entry_condition, -1},
  };
  pthread_mutex_lock(&mutex);
  for (int i = 0; i < 8; i++) from_main[i].kind = from_thread[i].kind = &kinds[i];
  for (int i = 0; i < 8; i++) spawn_from_main(&from_main[i]);
  pthread_t creator;
  CHECK(pthread_create(&creator, NULL, creates_and_ends, NULL) == 0 &&
        pthread_join(creator, NULL) == 0);
  say("main %d\n", (int)getpid());
  ready();
  _exit(0);
}

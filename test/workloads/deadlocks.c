/* Threads that can never go on, each kind named by its threads, and others that only wait. Prints
 * `thread NAME TID` of each; the test asks the agent who is stuck. With `fork`: a child whose
 * parent held locks as it forked. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "workload.h"

static pthread_mutex_t mutexes[32];
static pthread_rwlock_t rwlocks[4];
static pthread_mutex_t inheriting[2], robust, recursive;
static sem_t never;
static pthread_cond_t nothing = PTHREAD_COND_INITIALIZER;

/* What a thread does: `first`, then the barrier until its fellows have done theirs, `second`. */
struct actor {
  char name[16];
  void (*first)(void *), (*second)(void *);
  void *one, *two;
  pthread_barrier_t *meet; /* or NULL */
  pthread_t thread;
};

static void mutex(void *lock) { pthread_mutex_lock(lock); }
static void timed_mutex(void *lock) {
  struct timespec end;
  clock_gettime(CLOCK_REALTIME, &end);
  end.tv_sec += 1000;
  pthread_mutex_timedlock(lock, &end);
}
static void reads(void *lock) { pthread_rwlock_rdlock(lock); }
static void writes(void *lock) { pthread_rwlock_wrlock(lock); }
static void joins(void *thread) { pthread_join(*(pthread_t *)thread, NULL); }
static void sleeps(void *unused) { (void)unused, sleep(1000); }
static void posts_never(void *semaphore) { sem_wait(semaphore); }
static void waits(void *lock) { pthread_cond_wait(&nothing, lock); }
static void ends(void *unused) { (void)unused, pthread_exit(NULL); }
static void goes_on(void *lock) { pthread_mutex_unlock(lock), sleep(1000); }
static void nothing_yet(void *unused) { (void)unused; }

static void *act(void *argument) {
  struct actor *actor = argument;
  prctl(PR_SET_NAME, actor->name);
  actor->first(actor->one);
  if (actor->meet) pthread_barrier_wait(actor->meet);
  say("thread %s %d\n", actor->name, (int)gettid());
  actor->second(actor->two);
  return NULL;
}

static struct actor *start(const char *name, int number, void (*first)(void *), void *one,
                           void (*second)(void *), void *two, pthread_barrier_t *meet) {
  struct actor *actor = calloc(1, sizeof *actor);
  *actor = (struct actor){.first = first, .second = second, .one = one, .two = two, .meet = meet};
  snprintf(actor->name, sizeof actor->name, number < 0 ? "%s" : "%s-%d", name, number);
  CHECK(pthread_create(&actor->thread, NULL, act, actor) == 0);
  return actor;
}

static pthread_barrier_t *meeting(unsigned count) {
  pthread_barrier_t *barrier = malloc(sizeof *barrier);
  CHECK(pthread_barrier_init(barrier, NULL, count) == 0);
  return barrier;
}

/* Each holds its own before any asks for the next; so do the others who meet with them. */
static pthread_barrier_t *cycle(const char *name, pthread_mutex_t *locks, int count, int others) {
  pthread_barrier_t *meet = meeting((unsigned)(count + others));
  for (int i = 0; i < count; i++)
    start(name, i, mutex, &locks[i], mutex, &locks[(i + 1) % count], meet);
  return meet;
}

static void prepare(void) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  for (int i = 0; i < 32; i++) pthread_mutex_init(&mutexes[i], NULL);
  for (int i = 0; i < 4; i++) pthread_rwlock_init(&rwlocks[i], NULL);
  pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
  pthread_mutex_init(&recursive, &attributes);
  pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_NORMAL);
  pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
  for (int i = 0; i < 2; i++) pthread_mutex_init(&inheriting[i], &attributes);
  pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_NONE);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&robust, &attributes);
  sem_init(&never, 0, 0);
}

static void plant_stuck(void) {
  pthread_barrier_t *meet = cycle("two", &mutexes[0], 2, 1);
  start("behind", 0, nothing_yet, NULL, mutex, &mutexes[0], meet);
  cycle("three", &mutexes[2], 3, 0);
  cycle("ten", &mutexes[5], 10, 0);
  start("self", -1, mutex, &mutexes[15], mutex, &mutexes[15], NULL);
  meet = meeting(2);
  start("rw", 0, writes, &rwlocks[0], mutex, &mutexes[16], meet);
  start("rw", 1, mutex, &mutexes[16], reads, &rwlocks[0], meet);
  meet = meeting(2);
  start("writers", 0, writes, &rwlocks[1], writes, &rwlocks[2], meet);
  start("writers", 1, writes, &rwlocks[2], writes, &rwlocks[1], meet);
  struct actor *dead = start("dead", -1, mutex, &mutexes[17], ends, NULL, NULL);
  pthread_join(dead->thread, NULL);
  start("orphan", -1, nothing_yet, NULL, mutex, &mutexes[17], NULL);
  struct actor *joined = calloc(1, sizeof *joined);
  *joined = (struct actor){"joined", nothing_yet, mutex, NULL, &mutexes[18], meeting(2), 0};
  start("joins", -1, mutex, &mutexes[18], joins, &joined->thread, joined->meet);
  CHECK(pthread_create(&joined->thread, NULL, act, joined) == 0);
  meet = meeting(2);
  start("pi", 0, mutex, &inheriting[0], mutex, &inheriting[1], meet);
  start("pi", 1, mutex, &inheriting[1], mutex, &inheriting[0], meet);
  meet = meeting(2);
  start("deep", 0, mutex, &recursive, mutex, &mutexes[19], meet);
  start("deep", 1, mutex, &mutexes[19], mutex, &recursive, meet);
}

/* They wait, and yet may go on. */
static void plant_innocent(void) {
  pthread_barrier_t *meet = meeting(2);
  start("slow", 0, mutex, &mutexes[20], mutex, &mutexes[21], meet);
  start("slow", 1, mutex, &mutexes[21], sleeps, NULL, meet);
  meet = meeting(2);
  start("timed", 0, mutex, &mutexes[22], timed_mutex, &mutexes[23], meet);
  start("timed", 1, mutex, &mutexes[23], mutex, &mutexes[22], meet);
  meet = meeting(3);
  start("readers", 0, reads, &rwlocks[3], mutex, &mutexes[24], meet);
  start("readers", 1, mutex, &mutexes[24], posts_never, &never, meet);
  start("writer", -1, nothing_yet, NULL, writes, &rwlocks[3], meet);
  start("condition", -1, mutex, &mutexes[25], waits, &mutexes[25], NULL);
  struct actor *dead = start("robust-dead", -1, mutex, &robust, ends, NULL, NULL);
  pthread_join(dead->thread, NULL);
  start("robust", -1, mutex, &robust, goes_on, &robust, NULL);
}

/* In the child mutexes[0] is held by a thread that it does not have, mutexes[1] by its only one. */
static int in_child(void) {
  prctl(PR_SET_NAME, "child");
  start("orphan", -1, nothing_yet, NULL, mutex, &mutexes[0], NULL);
  start("heir", -1, nothing_yet, NULL, mutex, &mutexes[1], NULL);
  say("child %d\n", (int)getpid());
  ready();
  pthread_mutex_unlock(&mutexes[1]);
  return 0;
}

int main(int count, char **arguments) {
  prepare();
  if (count > 1 && strcmp(arguments[1], "fork") == 0) {
    pthread_barrier_t *meet = meeting(2);
    start("holder", -1, mutex, &mutexes[0], sleeps, NULL, meet);
    pthread_barrier_wait(meet);
    mutex(&mutexes[1]);
    pid_t child = fork();
    if (child == 0) return in_child();
    return waitpid(child, NULL, 0) == child ? 0 : 1;
  }
  plant_stuck();
  plant_innocent();
  ready();
  return 0;
}

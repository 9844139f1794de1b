/* Process-shared locks between two processes, each of which may have the agent or not:
 * locksem_shared FILE [OTHER_PRELOAD]. The second process is started with LD_PRELOAD=OTHER_PRELOAD.
 * Both count under each kind of lock, hand tokens to each other, and one dies with a lock. */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/wait.h>

#include "locksem.h"

enum { ROUNDS = 60000, HANDOVERS = 4000, MUTEXES = 5 };
static const char *const mutex_names[MUTEXES] = {"normal", "recursive", "robust", "inherit",
                                                 "robust inherit errorcheck"};

struct shared {
  pthread_mutex_t mutexes[MUTEXES];
  long counts[MUTEXES], written, turn_count;
  pthread_rwlock_t rwlock;
  pthread_spinlock_t spin;
  long spun;
  pthread_mutex_t mutex;
  pthread_cond_t cond;
  int turn;
  sem_t to[2];
  pthread_barrier_t barrier;
  uint32_t futexes[2];
  _Atomic int stage;
};
static struct shared *shared;

static void initialize(void) {
  pthread_mutexattr_t mutex;
  pthread_rwlockattr_t rwlock;
  pthread_condattr_t cond;
  pthread_barrierattr_t barrier;
  for (int i = 0; i < MUTEXES; i++) {
    CHECK(pthread_mutexattr_init(&mutex) == 0 &&
          pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED) == 0);
    if (i == 1) CHECK(pthread_mutexattr_settype(&mutex, PTHREAD_MUTEX_RECURSIVE) == 0);
    if (i == 4) CHECK(pthread_mutexattr_settype(&mutex, PTHREAD_MUTEX_ERRORCHECK) == 0);
    if (i == 2 || i == 4) CHECK(pthread_mutexattr_setrobust(&mutex, PTHREAD_MUTEX_ROBUST) == 0);
    if (i >= 3) CHECK(pthread_mutexattr_setprotocol(&mutex, PTHREAD_PRIO_INHERIT) == 0);
    CHECK(pthread_mutex_init(&shared->mutexes[i], &mutex) == 0);
  }
  CHECK(pthread_mutexattr_init(&mutex) == 0 &&
        pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED) == 0);
  CHECK(pthread_mutex_init(&shared->mutex, &mutex) == 0);
  CHECK(pthread_rwlockattr_init(&rwlock) == 0 &&
        pthread_rwlockattr_setpshared(&rwlock, PTHREAD_PROCESS_SHARED) == 0);
  CHECK(pthread_rwlock_init(&shared->rwlock, &rwlock) == 0 &&
        pthread_spin_init(&shared->spin, PTHREAD_PROCESS_SHARED) == 0);
  CHECK(pthread_condattr_init(&cond) == 0 &&
        pthread_condattr_setpshared(&cond, PTHREAD_PROCESS_SHARED) == 0);
  CHECK(pthread_cond_init(&shared->cond, &cond) == 0);
  CHECK(sem_init(&shared->to[0], 1, 0) == 0 && sem_init(&shared->to[1], 1, 0) == 0);
  CHECK(pthread_barrierattr_init(&barrier) == 0 &&
        pthread_barrierattr_setpshared(&barrier, PTHREAD_PROCESS_SHARED) == 0);
  CHECK(pthread_barrier_init(&shared->barrier, &barrier, 2) == 0);
}

static void work(int side) {
  struct timespec far = time_of(CLOCK_REALTIME, 100000);
  int serial = 0;
  for (int i = 0; i < MUTEXES; i++) {
    pthread_barrier_wait(&shared->barrier);
    for (int round = 0; round < ROUNDS; round++) {
      CHECK((round % 4 ? pthread_mutex_lock(&shared->mutexes[i])
                       : pthread_mutex_timedlock(&shared->mutexes[i], &far)) == 0);
      long count = shared->counts[i];
      if (round % 64 == 0) sched_yield();
      shared->counts[i] = count + 1;
      CHECK(pthread_mutex_unlock(&shared->mutexes[i]) == 0);
    }
  }
  pthread_barrier_wait(&shared->barrier);
  for (int round = 0; round < ROUNDS; round++) {
    CHECK((round % 2 ? pthread_rwlock_wrlock(&shared->rwlock)
                     : pthread_rwlock_timedrdlock(&shared->rwlock, &far)) == 0);
    if (round % 2) shared->written++;
    CHECK(pthread_rwlock_unlock(&shared->rwlock) == 0);
    CHECK(pthread_spin_lock(&shared->spin) == 0);
    shared->spun++;
    CHECK(pthread_spin_unlock(&shared->spin) == 0);
  }
  pthread_barrier_wait(&shared->barrier);
  /* a token through a condition variable, semaphores, futexes, a barrier */
  for (int round = 0; round < HANDOVERS; round++) {
    CHECK(pthread_mutex_lock(&shared->mutex) == 0);
    while (shared->turn != side)
      CHECK((round % 2 ? pthread_cond_wait(&shared->cond, &shared->mutex)
                       : pthread_cond_timedwait(&shared->cond, &shared->mutex, &far)) == 0);
    shared->turn = !side, shared->turn_count++;
    pthread_cond_broadcast(&shared->cond);
    CHECK(pthread_mutex_unlock(&shared->mutex) == 0);
    CHECK(sem_post(&shared->to[!side]) == 0);
    CHECK((round % 2 ? sem_wait(&shared->to[side]) : sem_timedwait(&shared->to[side], &far)) == 0);
    __atomic_fetch_add(&shared->futexes[!side], 1, __ATOMIC_SEQ_CST);
    CHECK(syscall(SYS_futex, &shared->futexes[!side], 1 /* wake */, 1, NULL, NULL, 0) >= 0);
    uint32_t seen;
    while ((seen = __atomic_load_n(&shared->futexes[side], __ATOMIC_SEQ_CST)) <= (uint32_t)round)
      CHECK(syscall(SYS_futex, &shared->futexes[side], 0 /* wait */, seen, NULL, NULL, 0) == 0 ||
            errno == EAGAIN);
    serial += pthread_barrier_wait(&shared->barrier) == PTHREAD_BARRIER_SERIAL_THREAD;
  }
  __atomic_fetch_add(&shared->stage, serial, __ATOMIC_SEQ_CST);
  pthread_barrier_wait(&shared->barrier);
}

int main(int count, char **arguments) {
  int is_second = count > 3,
      descriptor = open(arguments[1], O_RDWR | O_CREAT | (is_second ? 0 : O_TRUNC), 0600);
  CHECK(descriptor >= 0 && ftruncate(descriptor, sizeof *shared) == 0);
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  CHECK(shared != MAP_FAILED);
  if (is_second) {
    work(1);
    CHECK(pthread_mutex_lock(&shared->mutexes[2]) == 0 &&
          pthread_mutex_lock(&shared->mutexes[4]) == 0);
    return 0; /* with two robust mutexes */
  }
  initialize();
  pid_t child = fork();
  if (child == 0) {
    if (count > 2 && arguments[2][0]) setenv("LD_PRELOAD", arguments[2], 1);
    else unsetenv("LD_PRELOAD");
    char *const again[] = {arguments[0], arguments[1], "", "second", NULL};
    execv(arguments[0], again);
    _exit(99);
  }
  work(0);
  int status;
  for (int i = 0; i < MUTEXES; i++) say("%s %ld\n", mutex_names[i], shared->counts[i]);
  say("rwlock %ld, spin %ld, cond %ld, barrier %d\n", shared->written, shared->spun,
      shared->turn_count, shared->stage);
  waitpid(child, &status, 0);
  say("the other's exit code %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
  for (int i = 2; i < MUTEXES; i += 2)
    CALL(pthread_mutex_lock(&shared->mutexes[i])),
        CALL(pthread_mutex_consistent(&shared->mutexes[i])),
        CALL(pthread_mutex_unlock(&shared->mutexes[i]));
  /* One that dies while the other waits for its lock. */
  pid_t main_process = getpid();
  for (int i = 2; i < MUTEXES; i += 2) {
    shared->stage = 0;
    if ((child = fork()) == 0) {
      CHECK(pthread_mutex_lock(&shared->mutexes[i]) == 0);
      shared->stage = 1;
      wait_until_asleep(main_process, main_process);
      _exit(0);
    }
    while (shared->stage != 1) pause_briefly();
    CALL(pthread_mutex_lock(&shared->mutexes[i])), CALL(pthread_mutex_unlock(&shared->mutexes[i]));
    waitpid(child, &status, 0);
    CALL(pthread_mutex_lock(&shared->mutexes[i])); /* it was not made consistent */
  }
  return 0;
}

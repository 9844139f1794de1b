/* sanitizer: thread */
/* Many threads wait for few objects, all of one bucket, and release them meanwhile: what releasers
 * are charged with lies between what each wait had been charged with for certain and how long it
 * lasted, whoever charged it; places are used again; a wait that was abandoned is left by nobody
 * else; a forked child has no waiters. */
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shim/base/counters.h"
#include "shim/locks/lock_status.h"
#include "shim/locks/lock_waiters.h"
#include "shim/base/thread_state.h"
#include "check.h"

struct shim_counters shim_counters;

enum { THREADS = 8, ROUNDS = 20000, OBJECTS = 3, TICK = 32 /* times are kept in units of this */ };
static char memory[1 << 20];
static const void *objects[OBJECTS];
static _Atomic uint64_t clock_ticks = TICK, charged[OBJECTS], at_least[OBJECTS], at_most[OBJECTS],
                        named, left_unnamed;
static _Atomic int wrong;

/* In place of the contention table: not used where every slice is looked at. */
void contention_table_add(uint32_t entry, uint64_t count, uint64_t delay) {
  (void)entry, (void)count, (void)delay, atomic_fetch_add(&wrong, 1);
}

static uint64_t now(void) {
  return atomic_fetch_add_explicit(&clock_ticks, TICK, memory_order_relaxed);
}

static void release(int object) {
  uint64_t moment = now();
  enum lock_release_look look = lock_waiters_look(objects[object], 0);
  if (look == RELEASE_PASSES) return;
  uint64_t mark, time = lock_waiters_charge(objects[object], look, moment, 0, &mark);
  atomic_fetch_add(&charged[object], time);
  atomic_fetch_add(&named, lock_waiters_name(objects[object], mark, (uint32_t)object + 1));
}

static void *work(void *argument) {
  unsigned seed = (unsigned)(uintptr_t)argument;
  for (int round = 0; round < ROUNDS; round++) {
    int object = rand_r(&seed) % OBJECTS;
    uint64_t weight = 1, start = now(), given;
    struct lock_waiter_claim claim = lock_waiters_enter(objects[object], start, weight);
    if (!claim.waiter || !lock_waiters_may_wait_for(objects[object]) ||
        lock_waiters_look(objects[object], 0) == RELEASE_PASSES)
      atomic_fetch_add(&wrong, 1);
    release(rand_r(&seed) % OBJECTS);
    bool charged_itself = rand_r(&seed) % 2;
    if (charged_itself) {
      uint64_t before = now();
      release(object); /* up to a moment after `before`, be it by us or by another */
      atomic_fetch_add(&at_least[object], weight * (before - start));
    }
    uint32_t by;
    if (!lock_waiters_leave(&claim, true, &by, &given)) atomic_fetch_add(&left_unnamed, 1);
    else if (by > OBJECTS || (by && by != (uint32_t)object + 1) || (charged_itself && !by) ||
             given != weight)
      atomic_fetch_add(&wrong, 1);
    if (lock_waiters_leave(&claim, true, &by, &given)) atomic_fetch_add(&wrong, 1); /* twice */
    atomic_fetch_add(&at_most[object], weight * (now() - start));
  }
  return NULL;
}

static void find_objects_of_one_bucket(void) {
  int found = 0;
  for (char *at = memory; at < memory + sizeof memory && found < OBJECTS; at += 4)
    if (lock_waiter_bucket_of(at) == lock_waiter_bucket_of(memory)) objects[found++] = at;
  CHECK(found == OBJECTS);
}

static void test_many_threads(void) {
  pthread_t threads[THREADS];
  for (uintptr_t i = 0; i < THREADS; i++)
    CHECK(pthread_create(&threads[i], NULL, work, (void *)(i + 1)) == 0);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  CHECK(wrong == 0 && named == left_unnamed); /* each wait that left before its releaser was named
                                                 was counted by that one */
  for (int i = 0; i < OBJECTS; i++) CHECK(charged[i] >= at_least[i] && charged[i] <= at_most[i]);
  CHECK(lock_waiters_now() == 0 && lock_waiters_places() <= 2 * THREADS &&
        lock_waiters_places() > 0);
}

static void test_nested_and_abandoned(void) {
  struct lock_waiter_claim outer = lock_waiters_enter(objects[0], now(), 1),
                           inner = lock_waiters_enter(objects[1], now(), 1);
  uint32_t by;
  uint64_t weight;
  CHECK(lock_waiters_leave(&inner, true, &by, &weight) && thread_state.waiting == outer.waiter &&
        lock_waiters_now() == 1);
  inner = lock_waiters_enter(objects[1], now(), 1);
  CHECK(lock_waiters_abandon() == 2 && thread_state.waiting == NULL && lock_waiters_now() == 0);
  CHECK(lock_waiters_look(objects[0], 0) == RELEASE_PASSES);
  struct lock_waiter_claim later =
      lock_waiters_enter(objects[0], now(), 1); /* may be at the same place */
  CHECK(!lock_waiters_leave(&outer, true, &by, &weight) &&
        !lock_waiters_leave(&inner, true, &by, &weight) && lock_waiters_now() == 1);
  thread_state.waiting = later.waiter;
  thread_state.waiting_life = later.life;
  CHECK(lock_waiters_leave(&later, true, &by, &weight) && lock_waiters_now() == 0);
}

/* Between a release and the naming of its releaser: a wait that it ended is that one's to count,
 * one that gave up is not. */
static void test_left_before_the_releaser_is_named(void) {
  for (int released = 0; released <= 1; released++) {
    uint64_t mark, weight, start = now();
    struct lock_waiter_claim claim = lock_waiters_enter(objects[0], start, 5);
    uint64_t moment = now();
    CHECK(lock_waiters_look(objects[0], 0) == RELEASE_IS_CHARGED);
    CHECK(lock_waiters_charge(objects[0], RELEASE_IS_CHARGED, moment, 0, &mark) ==
          5 * (moment - start));
    uint32_t by;
    CHECK(lock_waiters_leave(&claim, released, &by, &weight) == !released &&
          lock_waiters_now() == 0 && thread_state.waiting == NULL);
    CHECK(lock_waiters_name(objects[0], mark, 7) == (released ? 5 : 0));
    CHECK(!lock_waiters_may_wait_for(objects[0]) && lock_waiters_name(objects[0], mark, 7) == 0);
  }
}

/* One that has left waits for its own object's releaser, not for whoever releases another object of
 * its bucket later. */
static void test_left_is_not_named_by_another_object(void) {
  uint64_t mark, mark_of_other, weight, start = now();
  struct lock_waiter_claim claim = lock_waiters_enter(objects[0], start, 5),
                           other = lock_waiters_enter(objects[1], start, 3);
  uint32_t by;
  CHECK(lock_waiters_charge(objects[0], RELEASE_IS_CHARGED, now(), 0, &mark) > 0);
  CHECK(!lock_waiters_leave(&claim, true, &by, &weight)); /* left, unnamed */
  CHECK(lock_waiters_charge(objects[1], RELEASE_IS_CHARGED, now(), 0, &mark_of_other) > 0);
  CHECK(!lock_waiters_leave(&other, true, &by, &weight));
  CHECK(lock_waiters_name(objects[2], mark_of_other, 9) == 0);
  CHECK(lock_waiters_name(objects[1], mark_of_other, 8) == 3);
  CHECK(lock_waiters_name(objects[0], mark, 7) == 5);
  CHECK(lock_waiters_now() == 0 && !lock_waiters_may_wait_for(objects[0]));
}

static void test_forked_child_has_none(void) {
  struct lock_waiter_claim claim = lock_waiters_enter(objects[0], now(), 1);
  pid_t child = fork();
  if (child == 0) {
    uint32_t by;
    uint64_t weight;
    bool right = lock_waiters_now() == 0 && !lock_waiters_may_wait_for(objects[0]) &&
                 !lock_waiters_leave(&claim, true, &by, &weight) && thread_state.waiting == NULL;
    claim = lock_waiters_enter(objects[0], now(), 1);
    _exit(right && claim.waiter && lock_waiters_leave(&claim, true, &by, &weight) ? 0 : 1);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  uint32_t by;
  uint64_t weight;
  CHECK(lock_waiters_leave(&claim, true, &by, &weight));
}

static void test_full_table(void) {
  for (uint32_t i = 0; i < LOCK_WAITERS_MAX + 10; i++)
    lock_waiters_enter(&memory[i * 8 % sizeof memory], now(), 1);
  CHECK(lock_waiters_places() == LOCK_WAITERS_MAX && shim_counters.mutex_lost_waiters >= 10);
}

int main(void) {
  find_objects_of_one_bucket();
  test_many_threads();
  test_nested_and_abandoned();
  test_left_before_the_releaser_is_named();
  test_left_is_not_named_by_another_object();
  test_forked_child_has_none();
  test_full_table();
  return failures != 0;
}

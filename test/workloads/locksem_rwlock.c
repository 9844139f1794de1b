/* Every kind of rwlock, in every state, with every function (locksem.h); spin locks and
 * barriers. */
#define _GNU_SOURCE
#include "locksem.h"

static const struct kind {
  const char *name;
  int preference, shared;
} kinds[] = {
    {"prefer reader", PTHREAD_RWLOCK_PREFER_READER_NP, 0},
    {"prefer writer", PTHREAD_RWLOCK_PREFER_WRITER_NP, 0},
    {"prefer writer nonrecursive", PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP, 0},
    {"prefer reader shared", PTHREAD_RWLOCK_PREFER_READER_NP, 1},
    {"prefer writer nonrecursive shared", PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP, 1}};

enum state {
  FREE,
  READ_BY_SELF,
  READ_BY_OTHER,
  WRITE_BY_SELF,
  WRITE_BY_OTHER,
  WRITER_WAITS,
  TOO_MANY_READERS,
  STATES
};
static const char *const state_names[STATES] = {"free",
                                                "read by self",
                                                "read by other",
                                                "write by self",
                                                "write by other",
                                                "read by other, a writer waits",
                                                "too many readers"};

static pthread_rwlock_t lock;
static _Atomic int phase;
static pid_t main_thread;

static void initialize(const struct kind *kind) {
  pthread_rwlockattr_t attributes;
  memset(&lock, 0, sizeof lock);
  CHECK(pthread_rwlockattr_init(&attributes) == 0 &&
        pthread_rwlockattr_setkind_np(&attributes, kind->preference) == 0);
  CHECK(pthread_rwlockattr_setpshared(&attributes, kind->shared) == 0 &&
        pthread_rwlock_init(&lock, &attributes) == 0);
}
static void dump_lock(void) { dump("rwlock", &lock, sizeof lock, sizeof lock); }

static void *hold(void *write) {
  own_id();
  int result = write ? pthread_rwlock_wrlock(&lock) : pthread_rwlock_rdlock(&lock);
  phase = 1;
  while (phase < 2) pause_briefly();
  if (phase == 2) wait_until_blocked(main_thread);
  return (void *)(intptr_t)(result ? result : pthread_rwlock_unlock(&lock));
}
static _Atomic pid_t writer_id;
static void *wait_to_write(void *unused) {
  writer_id = own_id();
  CHECK(pthread_rwlock_wrlock(&lock) == 0 && pthread_rwlock_unlock(&lock) == 0);
  return unused;
}

static pthread_t other, writer;
static int has_other(enum state state) {
  return state == READ_BY_OTHER || state == WRITE_BY_OTHER || state == WRITER_WAITS;
}
static void enter(const struct kind *kind, enum state state, int release_when_blocked) {
  initialize(kind);
  if (has_other(state)) {
    phase = 0;
    other = start(hold, state == WRITE_BY_OTHER ? &phase : NULL);
    while (phase != 1) pause_briefly();
  }
  if (state == READ_BY_SELF) CHECK(pthread_rwlock_rdlock(&lock) == 0);
  if (state == WRITE_BY_SELF) CHECK(pthread_rwlock_wrlock(&lock) == 0);
  if (state == TOO_MANY_READERS) lock.__data.__readers = 0x7ffffff8u; /* the most that fit */
  if (state == WRITER_WAITS) {
    writer_id = 0;
    writer = start(wait_to_write, NULL);
    while (!writer_id) pause_briefly();
    wait_until_blocked(writer_id);
  }
  if (has_other(state) && release_when_blocked) phase = 2;
}
static void leave(enum state state, long result) {
  if (result == 0) CALL(pthread_rwlock_unlock(&lock));
  if (has_other(state)) {
    void *held;
    phase = 3;
    CHECK(pthread_join(other, &held) == 0);
    if (held) say("    the holder: %s\n", name_of((intptr_t)held));
    if (state == WRITER_WAITS) CHECK(pthread_join(writer, NULL) == 0);
  }
  dump_lock();
}

static void check_state(const struct kind *kind, enum state state) {
  int others_only = state != READ_BY_SELF && state != WRITE_BY_SELF && state != TOO_MANY_READERS;
  say("%s, %s\n", kind->name, state_names[state]);
#define EACH(release, call) enter(kind, state, release), leave(state, CALL(call))
  EACH(0, pthread_rwlock_tryrdlock(&lock));
  EACH(0, pthread_rwlock_trywrlock(&lock));
  EACH(1, pthread_rwlock_rdlock(&lock));
  if (others_only || state == WRITE_BY_SELF) EACH(1, pthread_rwlock_wrlock(&lock));
  for (enum when when = 0; when < WHENS; when++) {
    say(" %s\n", when_names[when]);
    const struct timespec *time;
    enter(kind, state, 0), time = deadline(when, CLOCK_REALTIME),
                           leave(state, CALL(pthread_rwlock_timedrdlock(&lock, time)));
    enter(kind, state, 0), time = deadline(when, CLOCK_REALTIME),
                           leave(state, CALL(pthread_rwlock_timedwrlock(&lock, time)));
    for (int i = 0; i < CLOCKS; i++) {
      say(" %s\n", clock_names[i]);
      enter(kind, state, 0), time = deadline(when, clocks[i]),
                             leave(state, CALL(pthread_rwlock_clockrdlock(&lock, clocks[i], time)));
      enter(kind, state, 0), time = deadline(when, clocks[i]),
                             leave(state, CALL(pthread_rwlock_clockwrlock(&lock, clocks[i], time)));
    }
  }
}

static pthread_spinlock_t spin;
static void *hold_spin(void *unused) {
  CHECK(pthread_spin_lock(&spin) == 0);
  phase = 1;
  while (phase != 2) pause_briefly();
  pause_briefly();
  CHECK(pthread_spin_unlock(&spin) == 0);
  return unused;
}
static void check_spin(void) {
  say("spin lock\n");
  CALL(pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE));
  CALL(pthread_spin_lock(&spin)), dump("spin", (void *)&spin, sizeof spin, sizeof spin);
  CALL(pthread_spin_trylock(&spin));
  CALL(pthread_spin_unlock(&spin)), dump("spin", (void *)&spin, sizeof spin, sizeof spin);
  CALL(pthread_spin_trylock(&spin)), CALL(pthread_spin_unlock(&spin));
  phase = 0;
  other = start(hold_spin, NULL);
  while (phase != 1) pause_briefly();
  CALL(pthread_spin_trylock(&spin));
  phase = 2;
  CALL(pthread_spin_lock(&spin)), dump("spin", (void *)&spin, sizeof spin, sizeof spin);
  pthread_join(other, NULL);
  CALL(pthread_spin_unlock(&spin));
  CALL(pthread_spin_destroy(&spin));
}

static pthread_barrier_t barrier;
static _Atomic long serials, plain_returns;
static void *meet(void *rounds) {
  for (intptr_t i = (intptr_t)rounds; i > 0; i--) {
    int result = pthread_barrier_wait(&barrier);
    if (result == PTHREAD_BARRIER_SERIAL_THREAD) serials++;
    else if (result == 0) plain_returns++;
    else say("barrier: %d\n", result);
  }
  return NULL;
}
static void check_barrier(int shared) {
  pthread_barrierattr_t attributes;
  say("barrier\n");
  pthread_barrierattr_init(&attributes), pthread_barrierattr_setpshared(&attributes, shared);
  CALL(pthread_barrier_init(&barrier, &attributes, 0));
  CALL(pthread_barrier_init(&barrier, &attributes, 1));
  CALL(pthread_barrier_wait(&barrier)), dump("barrier", &barrier, 20, 20);
  CALL(pthread_barrier_destroy(&barrier));
  CALL(pthread_barrier_init(&barrier, &attributes, 4));
  serials = plain_returns = 0;
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) threads[i] = start(meet, (void *)500);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  say("  %ld serial, %ld others\n", (long)serials, (long)plain_returns);
  CALL(pthread_barrier_destroy(&barrier));
}

int main(void) {
  main_thread = own_id();
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
    for (enum state state = 0; state < STATES; state++) check_state(&kinds[i], state);
  check_spin();
  check_barrier(PTHREAD_PROCESS_PRIVATE), check_barrier(PTHREAD_PROCESS_SHARED);
  return 0;
}

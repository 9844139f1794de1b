/* Every kind of mutex, in every state, with every function (locksem.h). */
#define _GNU_SOURCE
#include "locksem.h"

struct kind {
  const char *name;
  int type, robust, protocol, shared;
};
/* clang-format off */
#define TYPES(text, ...)                              \
  {"normal" text, PTHREAD_MUTEX_NORMAL, __VA_ARGS__}, \
  {"recursive" text, PTHREAD_MUTEX_RECURSIVE, __VA_ARGS__}, \
  {"errorcheck" text, PTHREAD_MUTEX_ERRORCHECK, __VA_ARGS__}, \
  {"adaptive" text, PTHREAD_MUTEX_ADAPTIVE_NP, __VA_ARGS__}
/* clang-format on */
static const struct kind kinds[] = {
    TYPES("", 0, PTHREAD_PRIO_NONE, 0),
    TYPES(" robust", 1, PTHREAD_PRIO_NONE, 0),
    TYPES(" inherit", 0, PTHREAD_PRIO_INHERIT, 0),
    TYPES(" inherit robust", 1, PTHREAD_PRIO_INHERIT, 0),
    TYPES(" protect", 0, PTHREAD_PRIO_PROTECT, 0),
    TYPES(" shared", 0, PTHREAD_PRIO_NONE, 1),
    TYPES(" shared robust", 1, PTHREAD_PRIO_NONE, 1),
    TYPES(" shared inherit", 0, PTHREAD_PRIO_INHERIT, 1),
};

enum state { FREE, SELF, TWICE, OTHER, DEAD, NOT_RECOVERABLE, DESTROYED, MANY_TIMES, STATES };
static const char *const state_names[STATES] = {
    "free",       "held by self",    "held twice by self", "held by other",
    "owner died", "not recoverable", "destroyed",          "held too often"};

static pthread_mutex_t mutex;

static void initialize(const struct kind *kind) {
  pthread_mutexattr_t attributes;
  memset(&mutex, 0, sizeof mutex);
  CHECK(pthread_mutexattr_init(&attributes) == 0 &&
        pthread_mutexattr_settype(&attributes, kind->type) == 0);
  CHECK(pthread_mutexattr_setrobust(
            &attributes, kind->robust ? PTHREAD_MUTEX_ROBUST : PTHREAD_MUTEX_STALLED) == 0);
  CHECK(pthread_mutexattr_setprotocol(&attributes, kind->protocol) == 0);
  if (kind->protocol == PTHREAD_PRIO_PROTECT)
    CHECK(pthread_mutexattr_setprioceiling(&attributes, 10) == 0);
  CHECK(pthread_mutexattr_setpshared(
            &attributes, kind->shared ? PTHREAD_PROCESS_SHARED : PTHREAD_PROCESS_PRIVATE) == 0);
  CHECK(pthread_mutex_init(&mutex, &attributes) == 0);
}

static void dump_mutex(const struct kind *kind) {
  pthread_mutex_t copy = mutex;
  if (kind->type == PTHREAD_MUTEX_ADAPTIVE_NP) copy.__data.__spins = 0;
  dump("mutex", &copy, sizeof copy, offsetof(pthread_mutex_t, __data.__list));
}

/* Ceilings are for threads with real-time priorities, which the user may not be allowed to start:
 * then every lock fails. glibc may leave a thread that failed with its priority raised, so each
 * state has a thread of its own, and those whose end is an error are left out. */
static int has_ceiling(const struct kind *kind) { return kind->protocol == PTHREAD_PRIO_PROTECT; }
static pthread_t start_for(const struct kind *kind, void *(*entry)(void *), void *argument) {
  pthread_attr_t attributes;
  pthread_t thread;
  struct sched_param parameters = {.sched_priority = 5};
  CHECK(pthread_attr_init(&attributes) == 0 &&
        pthread_attr_setinheritsched(&attributes, PTHREAD_EXPLICIT_SCHED) == 0);
  CHECK(pthread_attr_setschedpolicy(&attributes, SCHED_FIFO) == 0 &&
        pthread_attr_setschedparam(&attributes, &parameters) == 0);
  int failed = !has_ceiling(kind) || pthread_create(&thread, &attributes, entry, argument) != 0;
  pthread_attr_destroy(&attributes);
  return failed ? start(entry, argument) : thread;
}

/* Holds the mutex until told to let it go: after the main thread has blocked, or at once. */
static _Atomic int phase;
static pid_t actor; /* whose calls these are */
static void *hold(void *after_block) {
  own_id();
  int result = pthread_mutex_lock(&mutex);
  phase = 1;
  if (after_block) {
    while (phase < 2) pause_briefly();
    if (phase == 2) wait_until_blocked(actor);
  } else {
    while (phase < 3) pause_briefly();
  }
  return (void *)(intptr_t)(result ? result : pthread_mutex_unlock(&mutex));
}
static void *lock_and_end(void *unused) {
  own_id();
  pthread_mutex_lock(&mutex);
  return unused;
}

static pthread_t other;
static void enter(const struct kind *kind, enum state state, int release_when_blocked) {
  switch (state) {
    case SELF: pthread_mutex_lock(&mutex); break;
    case TWICE: pthread_mutex_lock(&mutex), pthread_mutex_trylock(&mutex); break;
    case OTHER:
      phase = 0;
      other = start_for(kind, hold, release_when_blocked ? &phase : NULL);
      while (phase != 1) pause_briefly();
      if (release_when_blocked) phase = 2;
      break;
    case DEAD: pthread_join(start(lock_and_end, NULL), NULL); break;
    case NOT_RECOVERABLE:
      pthread_join(start(lock_and_end, NULL), NULL);
      pthread_mutex_trylock(&mutex), pthread_mutex_unlock(&mutex);
      break;
    case DESTROYED: pthread_mutex_destroy(&mutex); break;
    case MANY_TIMES: pthread_mutex_lock(&mutex), mutex.__data.__count = UINT_MAX; break;
    default: break;
  }
}
static void leave(enum state state) {
  if (state != OTHER) return;
  phase = 3;
  void *result;
  CHECK(pthread_join(other, &result) == 0);
  if (result) say("    the holder: %s\n", name_of((intptr_t)result));
}

/* What an action left behind; a mutex that was got is used as it should be. */
static void settle(const struct kind *kind, enum state state, long result, int consistent) {
  dump_mutex(kind);
  if (result == EOWNERDEAD && consistent) CALL(pthread_mutex_consistent(&mutex)), dump_mutex(kind);
  if (result == 0 || result == EOWNERDEAD) CALL(pthread_mutex_unlock(&mutex)), dump_mutex(kind);
  if (result == EOWNERDEAD && !consistent) CALL(pthread_mutex_lock(&mutex)), dump_mutex(kind);
  leave(state);
  /* Robust mutexes must not stay on this thread's list. */
  if (state == MANY_TIMES && mutex.__data.__count > 1) mutex.__data.__count = 1;
  for (int i = 0; i < 3 && mutex.__data.__owner == actor; i++) pthread_mutex_unlock(&mutex);
}

static void *unlock_elsewhere(void *unused) {
  (void)unused;
  CALL(pthread_mutex_unlock(&mutex));
  return NULL;
}

struct check {
  const struct kind *kind;
  enum state state;
};

static void *check_state(void *argument) {
  const struct kind *kind = ((struct check *)argument)->kind;
  enum state state = ((struct check *)argument)->state;
  int recursive = kind->type == PTHREAD_MUTEX_RECURSIVE,
      checked = recursive || kind->type == PTHREAD_MUTEX_ERRORCHECK;
  int is_held = state == SELF || state == TWICE;
  if (has_ceiling(kind)) actor = own_id();
  say("%s, %s\n", kind->name, state_names[state]);
#define BEGIN(release_when_blocked) initialize(kind), enter(kind, state, release_when_blocked)
  BEGIN(0), dump_mutex(kind), settle(kind, state, CALL(pthread_mutex_trylock(&mutex)), 1);
  for (int consistent = 0; consistent < 2; consistent++) {
    /* A second lock of an unchecked mutex, and one of a dead thread's, waits for ever. */
    if ((is_held && !checked) || (state == DEAD && !kind->robust)) break;
    BEGIN(1), settle(kind, state, CALL(pthread_mutex_lock(&mutex)), consistent);
  }
  for (enum when when = 0; when < WHENS; when++) {
    if (has_ceiling(kind) && when != SOON) continue;
    say(" %s\n", when_names[when]);
    const struct timespec *time;
    BEGIN(0), time = deadline(when, CLOCK_REALTIME),
              settle(kind, state, CALL(pthread_mutex_timedlock(&mutex, time)), when % 2);
    for (int i = 0; i < (has_ceiling(kind) ? 2 : CLOCKS); i++) {
      say(" %s\n", clock_names[i]);
      BEGIN(0), time = deadline(when, clocks[i]),
                settle(kind, state, CALL(pthread_mutex_clocklock(&mutex, clocks[i], time)), 1);
    }
  }
  /* The unlock of a mutex that another holds is an error or (unchecked) has no meaning. */
  if (is_held || state == DESTROYED || state == MANY_TIMES || state == NOT_RECOVERABLE || checked ||
      kind->robust)
    BEGIN(0), settle(kind, state, CALL(pthread_mutex_unlock(&mutex)) + 1000, 1);
  if (is_held && (checked || kind->robust))
    BEGIN(0), pthread_join(start(unlock_elsewhere, NULL), NULL), settle(kind, state, 1000, 1);
  return NULL;
}

int main(void) {
  pid_t main_thread = own_id();
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    for (enum state state = 0; state < STATES; state++) {
      int recursive = kinds[i].type == PTHREAD_MUTEX_RECURSIVE,
          checked = recursive || kinds[i].type == PTHREAD_MUTEX_ERRORCHECK;
      if (state == NOT_RECOVERABLE && !kinds[i].robust) continue;
      if ((state == MANY_TIMES || state == TWICE) && !recursive) continue;
      if (has_ceiling(&kinds[i]) &&
          (state == DEAD || state == DESTROYED || (state == SELF && !checked)))
        continue;
      struct check check = {&kinds[i], state};
      actor = main_thread;
      if (has_ceiling(&kinds[i])) pthread_join(start_for(&kinds[i], check_state, &check), NULL);
      else check_state(&check);
    }
  }
  return 0;
}

/* A soak of every lock and wait: lockhaz_soak SECONDS SEED. 64 threads choose at random among
 * mutexes of every kind, rwlocks, condition variables, semaphores, spin locks, C11's locks,
 * futexes, barriers, joins, with timeouts and cancellation, while the main thread forks. It checks
 * its own invariants: what was counted under a lock, tokens, what went through a queue; main sees
 * to it that every thread goes on. It says ready when all is warm, once more when everything is
 * quiet, and then what it did. */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <sched.h>
#include <sys/wait.h>

#include "locksem.h"

enum { THREADS = 64, MUTEXES = 6, TOKENS = 5, QUEUE = 8, STUCK_SECONDS = 60 };

static _Atomic int stop;
static _Atomic long progress[THREADS];
static __thread uint64_t seed;
static unsigned draw(unsigned below) {
  seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
  return (unsigned)(seed >> 20) % below;
}
static struct timespec in_microseconds(clockid_t clock, unsigned microseconds) {
  struct timespec time;
  clock_gettime(clock, &time);
  time.tv_nsec += microseconds * 1000l;
  while (time.tv_nsec >= 1000000000) time.tv_nsec -= 1000000000, time.tv_sec++;
  return time;
}

/* ---- what is counted, and by how many each thread ---- */

static pthread_mutex_t mutexes[MUTEXES];
static long counts[MUTEXES];
enum { PREFERS_WRITERS = 1 };
static pthread_rwlock_t rwlocks[2];
static long left[2], right[2];
static pthread_spinlock_t spin;
static long spun;
static mtx_t mtx;
static long mtx_count;
static uint32_t futex_word;
static long futex_count;
static sem_t tokens;
static _Atomic int tokens_out;
static pthread_mutex_t queue_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t not_full = PTHREAD_COND_INITIALIZER, not_empty = PTHREAD_COND_INITIALIZER;
static int queue_length;
static long put, got;
static sem_t never; /* of which there is none: for those who are cancelled */
static _Atomic long cancelled, cleaned;
static pthread_barrier_t barrier;

struct tally {
  long mutexes[MUTEXES], written[2], spun, mtx, futex, put, got, timeouts, joined;
};
static struct tally tallies[THREADS];

static void initialize(void) {
  pthread_mutexattr_t attributes;
  for (int i = 0; i < MUTEXES; i++) {
    static const int types[MUTEXES] = {PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE,
                                       PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_ADAPTIVE_NP};
    pthread_mutexattr_init(&attributes), pthread_mutexattr_settype(&attributes, types[i]);
    if (i == 4) pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    if (i == 5) pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
    CHECK(pthread_mutex_init(&mutexes[i], &attributes) == 0);
  }
  pthread_rwlockattr_t kind;
  pthread_rwlockattr_init(&kind);
  CHECK(pthread_rwlock_init(&rwlocks[0], &kind) == 0);
  pthread_rwlockattr_setkind_np(&kind, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
  CHECK(pthread_rwlock_init(&rwlocks[PREFERS_WRITERS], &kind) == 0);
  CHECK(pthread_spin_init(&spin, 0) == 0 && mtx_init(&mtx, mtx_timed) == thrd_success);
  CHECK(sem_init(&tokens, 0, TOKENS) == 0 && sem_init(&never, 0, 0) == 0 &&
        pthread_barrier_init(&barrier, NULL, 3) == 0);
}

/* ---- the steps ---- */

static void hold_a_while(void) {
  if (draw(20) == 0) sched_yield();
  if (draw(200) == 0) usleep(draw(300));
}

static void use_mutex(struct tally *tally) {
  unsigned which = draw(MUTEXES);
  struct timespec time;
  int result;
  switch (draw(4)) {
    case 0:
      time = in_microseconds(CLOCK_REALTIME, draw(500)),
      result = pthread_mutex_timedlock(&mutexes[which], &time);
      break;
    case 1:
      time = in_microseconds(CLOCK_MONOTONIC, draw(500)),
      result = pthread_mutex_clocklock(&mutexes[which], CLOCK_MONOTONIC, &time);
      break;
    case 2: result = pthread_mutex_trylock(&mutexes[which]); break;
    default: result = pthread_mutex_lock(&mutexes[which]);
  }
  CHECK(result == 0 || result == EBUSY || result == ETIMEDOUT);
  if (result) {
    tally->timeouts++;
    return;
  }
  int twice = which == 1 && draw(4) == 0 && pthread_mutex_lock(&mutexes[which]) == 0;
  long count = counts[which];
  hold_a_while();
  counts[which] = count + 1, tally->mutexes[which]++;
  if (twice) CHECK(pthread_mutex_unlock(&mutexes[which]) == 0);
  CHECK(pthread_mutex_unlock(&mutexes[which]) == 0);
}

/* Where the lock prefers writers, they have no deadline: glibc (2.36 at least) would hang readers.
 * A writer that gives up hands over to the next one even when the last reader has begun the write
 * phase but has not said so in __wrphase_futex yet. The next writer does not wait for that word. If
 * it comes after that writer's release, those who wait for the read phase wait for ever. */
static void use_rwlock(struct tally *tally) {
  unsigned which = draw(2), write = draw(4) == 0;
  struct timespec time;
  int result;
  switch (write && which == PREFERS_WRITERS ? 2 : draw(3)) {
    case 0:
      time = in_microseconds(CLOCK_REALTIME, draw(500));
      result = write ? pthread_rwlock_timedwrlock(&rwlocks[which], &time)
                     : pthread_rwlock_timedrdlock(&rwlocks[which], &time);
      break;
    case 1:
      time = in_microseconds(CLOCK_MONOTONIC, draw(500));
      result = write ? pthread_rwlock_clockwrlock(&rwlocks[which], CLOCK_MONOTONIC, &time)
                     : pthread_rwlock_clockrdlock(&rwlocks[which], CLOCK_MONOTONIC, &time);
      break;
    default:
      result =
          write ? pthread_rwlock_wrlock(&rwlocks[which]) : pthread_rwlock_rdlock(&rwlocks[which]);
  }
  CHECK(result == 0 || result == ETIMEDOUT);
  if (result) {
    tally->timeouts++;
    return;
  }
  if (write) {
    left[which]++;
    hold_a_while();
    right[which]++, tally->written[which]++;
  } else {
    CHECK(left[which] == right[which]);
    hold_a_while();
    CHECK(left[which] == right[which]);
  }
  CHECK(pthread_rwlock_unlock(&rwlocks[which]) == 0);
}

static void use_others(struct tally *tally) {
  struct timespec time = in_microseconds(CLOCK_REALTIME, draw(500));
  if (draw(8) == 0) { /* a spinner that waits for one who does not run is no use with few cores */
    CHECK(pthread_spin_lock(&spin) == 0);
    spun++, tally->spun++;
    CHECK(pthread_spin_unlock(&spin) == 0);
  }
  int result = draw(2) ? mtx_lock(&mtx) : mtx_timedlock(&mtx, &time);
  CHECK(result == thrd_success || result == thrd_timedout);
  if (result == thrd_success) {
    long count = mtx_count;
    hold_a_while();
    mtx_count = count + 1, tally->mtx++;
    CHECK(mtx_unlock(&mtx) == thrd_success);
  }
}

/* A mutex of three states, as runtimes build it on the system call: free, held, held and waited
 * for. */
static void use_futex(struct tally *tally) {
  uint32_t seen = 0;
  if (!__atomic_compare_exchange_n(&futex_word, &seen, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
    while (__atomic_exchange_n(&futex_word, 2, __ATOMIC_ACQUIRE) != 0) {
      struct timespec time = {0, 1000 + draw(500000)};
      long result =
          syscall(SYS_futex, &futex_word, FUTEX_WAIT_PRIVATE, 2, draw(2) ? &time : NULL, NULL, 0);
      CHECK(result == 0 || errno == EAGAIN || errno == ETIMEDOUT || errno == EINTR);
    }
  }
  long count = futex_count;
  hold_a_while();
  futex_count = count + 1, tally->futex++;
  if (__atomic_exchange_n(&futex_word, 0, __ATOMIC_RELEASE) == 2)
    CHECK(syscall(SYS_futex, &futex_word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) >= 0);
}

static void use_token(struct tally *tally) {
  struct timespec time;
  int result;
  switch (draw(4)) {
    case 0:
      time = in_microseconds(CLOCK_REALTIME, draw(500)), result = sem_timedwait(&tokens, &time);
      break;
    case 1:
      time = in_microseconds(CLOCK_MONOTONIC, draw(500)),
      result = sem_clockwait(&tokens, CLOCK_MONOTONIC, &time);
      break;
    case 2: result = sem_trywait(&tokens); break;
    default: result = sem_wait(&tokens);
  }
  CHECK(result == 0 || errno == ETIMEDOUT || errno == EAGAIN || errno == EINTR);
  if (result) {
    tally->timeouts++;
    return;
  }
  int out = ++tokens_out;
  CHECK(out <= TOKENS);
  hold_a_while();
  tokens_out--;
  CHECK(sem_post(&tokens) == 0);
}

static int wait_for(pthread_cond_t *cond) {
  struct timespec time;
  switch (draw(3)) {
    case 0:
      time = in_microseconds(CLOCK_REALTIME, draw(2000));
      return pthread_cond_timedwait(cond, &queue_mutex, &time);
    case 1:
      time = in_microseconds(CLOCK_MONOTONIC, draw(2000));
      return pthread_cond_clockwait(cond, &queue_mutex, CLOCK_MONOTONIC, &time);
    default: return stop ? ETIMEDOUT : pthread_cond_wait(cond, &queue_mutex);
  }
}
static void use_queue(struct tally *tally) {
  int is_producer = draw(2), result = 0;
  CHECK(pthread_mutex_lock(&queue_mutex) == 0);
  while (result == 0 && !stop && (is_producer ? queue_length == QUEUE : queue_length == 0))
    result = wait_for(is_producer ? &not_full : &not_empty);
  CHECK(result == 0 || result == ETIMEDOUT);
  if (is_producer && queue_length < QUEUE) {
    queue_length++, put++, tally->put++;
    pthread_cond_signal(&not_empty);
  } else if (!is_producer && queue_length > 0) {
    queue_length--, got++, tally->got++;
    pthread_cond_signal(&not_full);
  }
  CHECK(pthread_mutex_unlock(&queue_mutex) == 0);
}

static void clean_up(void *mutex) {
  cleaned++;
  if (mutex) CHECK(pthread_mutex_unlock((pthread_mutex_t *)mutex) == 0);
}
static void *wait_for_ever(void *how) {
  static pthread_cond_t unused_cond = PTHREAD_COND_INITIALIZER;
  pthread_mutex_t own;
  pthread_mutex_init(&own, NULL);
  if (how) {
    pthread_mutex_lock(&own);
    pthread_cleanup_push(clean_up, &own);
    pthread_cond_t own_cond = unused_cond;
    for (;;) pthread_cond_wait(&own_cond, &own);
    pthread_cleanup_pop(0);
  } else {
    pthread_cleanup_push(clean_up, NULL);
    for (;;) sem_wait(&never);
    pthread_cleanup_pop(0);
  }
  return NULL;
}
static void *end_soon(void *microseconds) {
  usleep((unsigned)(uintptr_t)microseconds);
  return microseconds;
}
static void use_threads(struct tally *tally) {
  void *result = NULL;
  if (draw(2)) {
    pthread_t thread = start(wait_for_ever, (void *)(uintptr_t)draw(2));
    if (draw(2)) usleep(draw(300));
    CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, &result) == 0 &&
          result == PTHREAD_CANCELED);
    cancelled++;
    return;
  }
  uintptr_t microseconds = draw(500) + 1;
  pthread_t thread = start(end_soon, (void *)microseconds);
  struct timespec time = in_microseconds(CLOCK_REALTIME, draw(500));
  int error = pthread_timedjoin_np(thread, &result, &time);
  CHECK(error == 0 || error == ETIMEDOUT);
  if (error) CHECK(pthread_join(thread, &result) == 0);
  CHECK(result == (void *)microseconds);
  tally->joined++;
}

static void *work(void *number) {
  intptr_t id = (intptr_t)number;
  seed = (uint64_t)(id + 1) * 0x9e3779b97f4a7c15ull;
  while (!stop) {
    unsigned step = draw(100);
    if (step < 35) use_mutex(&tallies[id]);
    else if (step < 55) use_rwlock(&tallies[id]);
    else if (step < 65) use_others(&tallies[id]);
    else if (step < 75) use_futex(&tallies[id]);
    else if (step < 87) use_token(&tallies[id]);
    else if (step < 98) use_queue(&tallies[id]);
    else use_threads(&tallies[id]);
    progress[id]++;
  }
  return NULL;
}
static _Atomic long meetings;
static _Atomic int last_meeting;
static void *meet(void *unused) {
  for (;;) {
    /* the one who sees it first tells the others at the meeting before the last */
    int is_last = stop;
    if (is_last) last_meeting = 1;
    pthread_barrier_wait(&barrier);
    int done = last_meeting;
    if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD) meetings++;
    if (done) return unused;
  }
}

/* ---- main ---- */

static int fork_once(void) {
  static pthread_mutex_t own = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_lock(&own);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    pthread_mutex_unlock(&own);
    for (int i = 0; i < 20; i++) pthread_mutex_lock(&own), pthread_mutex_unlock(&own);
    sem_t fresh;
    sem_init(&fresh, 0, 1);
    sem_wait(&fresh), sem_post(&fresh);
    struct timespec time = in_microseconds(CLOCK_REALTIME, 100);
    pthread_mutex_lock(&own);
    int timed_out = pthread_mutex_timedlock(&own, &time) == ETIMEDOUT;
    _exit(timed_out ? 11 : 12);
  }
  pthread_mutex_unlock(&own);
  int status;
  CHECK(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 11;
}

static void wake_all(void) {
  pthread_mutex_lock(&queue_mutex);
  pthread_cond_broadcast(&not_full), pthread_cond_broadcast(&not_empty);
  pthread_mutex_unlock(&queue_mutex);
}
static long seconds_now(void) { return time_of(CLOCK_MONOTONIC, 0).tv_sec; }

/* Stays as it is, for those who want to see what hangs. */
static void stuck(const char *what, int number) {
  dprintf(STDERR_FILENO, "%s %d is stuck\n", what, number);
  for (;;) pause();
}

/* Runs for so long; every thread must take a step at least every STUCK_SECONDS. */
static void run_for(long seconds, long *forks) {
  static long seen[THREADS], since[THREADS];
  long end = seconds_now() + seconds;
  for (int i = 0; i < THREADS; i++) since[i] = seconds_now();
  while (seconds_now() < end) {
    CHECK(fork_once());
    ++*forks;
    usleep(20000);
    for (int i = 0; i < THREADS; i++) {
      if (progress[i] != seen[i]) seen[i] = progress[i], since[i] = seconds_now();
      if (seconds_now() - since[i] > STUCK_SECONDS) stuck("thread", i);
    }
    if (draw(50) == 0) wake_all(); /* all may wait for the queue at once, producers or consumers */
  }
}

/* A condition may have lost a signal (glibc's bug 25847, mended in 2.41): somebody waits on. */
static void join(pthread_t thread, const char *what, int number) {
  for (int seconds = 0; seconds < STUCK_SECONDS; seconds++) {
    struct timespec time = time_of(CLOCK_REALTIME, 1000);
    int error = pthread_timedjoin_np(thread, NULL, &time);
    if (error == 0) return;
    CHECK(error == ETIMEDOUT);
    wake_all();
  }
  stuck(what, number);
}

int main(int count, char **arguments) {
  long seconds = count > 1 ? atol(arguments[1]) : 10, forks = 0;
  pthread_t threads[THREADS], meeting[3];
  struct tally sum = {0};
  seed = 88172645463325252ull;
  initialize();
  for (intptr_t i = 0; i < THREADS; i++) threads[i] = start(work, (void *)i);
  for (int i = 0; i < 3; i++) meeting[i] = start(meet, NULL);
  run_for(seconds / 4 + 1, &forks);
  if (!ready()) return 1;
  run_for(seconds - seconds / 4, &forks);
  stop = 1;
  wake_all();
  for (int i = 0; i < THREADS; i++) join(threads[i], "thread", i);
  for (int i = 0; i < 3; i++) join(meeting[i], "meeting", i);
  if (!ready()) return 1;
  for (int i = 0; i < THREADS; i++) {
    for (int k = 0; k < MUTEXES; k++) sum.mutexes[k] += tallies[i].mutexes[k];
    for (int k = 0; k < 2; k++) sum.written[k] += tallies[i].written[k];
    sum.spun += tallies[i].spun, sum.mtx += tallies[i].mtx, sum.futex += tallies[i].futex,
        sum.put += tallies[i].put, sum.got += tallies[i].got;
    sum.timeouts += tallies[i].timeouts, sum.joined += tallies[i].joined;
  }
  for (int k = 0; k < MUTEXES; k++) CHECK(sum.mutexes[k] == counts[k] && counts[k] > 0);
  for (int k = 0; k < 2; k++)
    CHECK(sum.written[k] == left[k] && left[k] == right[k] && left[k] > 0);
  CHECK(sum.spun == spun && sum.mtx == mtx_count && sum.futex == futex_count && sum.put == put &&
        sum.got == got && put - got == queue_length);
  int value;
  CHECK(sem_getvalue(&tokens, &value) == 0 && value == TOKENS && tokens_out == 0 &&
        cancelled == cleaned && cancelled > 0);
  CHECK(sum.timeouts > 0 && sum.joined > 0 && meetings > 0 && forks > 0);
  long locked = 0;
  for (int k = 0; k < MUTEXES; k++) locked += counts[k];
  say("# %ld mutexes, %ld put, %ld cancelled, %ld forks, %ld meetings\n", locked, put,
      (long)cancelled, forks, (long)meetings);
  say("all invariants hold\n");
  return 0;
}

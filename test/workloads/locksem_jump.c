/* Waits that a signal handler leaves by longjmp, _longjmp, siglongjmp (built with _FORTIFY_SOURCE:
 * __longjmp_chk) or pthread_exit. Each object is released much later, by late_release, which nobody
 * waits for any more; then the program goes on with others. */
#define _GNU_SOURCE
#include "locksem.h"

#include <linux/futex.h>
#include <setjmp.h>

static pthread_mutex_t mutex, cond_mutex, robust;
static pthread_cond_t cond;
static pthread_rwlock_t rwlock, read_held;
static pthread_spinlock_t spin;
static sem_t sem;
static pthread_barrier_t barrier;
static mtx_t mtx;
static cnd_t cnd;
static uint32_t word;
static pthread_t target;
static struct timespec far;
static _Atomic int phase;

static void *stay(void *unused) {
  while (phase < 100) pause_briefly();
  return unused;
}

static void wait_mutex(void) { pthread_mutex_lock(&mutex); }
static void timedwait_mutex(void) { pthread_mutex_timedlock(&mutex, &far); }
static void wait_robust(void) { pthread_mutex_lock(&robust); }
static void wait_cond(void) {
  pthread_mutex_lock(&cond_mutex); /* which stays unlocked */
  pthread_cond_wait(&cond, &cond_mutex);
}
static void wait_rwlock(void) { pthread_rwlock_wrlock(&rwlock); }
static void wait_read(void) { pthread_rwlock_rdlock(&rwlock); }
static void wait_write(void) { pthread_rwlock_wrlock(&read_held); }
static void wait_spin(void) { pthread_spin_lock(&spin); }
static void wait_sem(void) { sem_wait(&sem); }
static void timedwait_sem(void) { sem_timedwait(&sem, &far); }
static void wait_barrier(void) { pthread_barrier_wait(&barrier); }
static void wait_join(void) { pthread_join(target, NULL); }
static void wait_mtx(void) { mtx_lock(&mtx); }
static void wait_futex(void) { syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0); }
static void wait_bitset(void) {
  syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL, -1);
}

static const struct {
  const char *name;
  void (*call)(void);
} waits[] = {{"pthread_mutex_lock", wait_mutex},
             {"pthread_mutex_timedlock", timedwait_mutex},
             {"robust", wait_robust},
             {"pthread_rwlock_wrlock", wait_rwlock},
             {"pthread_rwlock_rdlock", wait_read},
             {"wrlock for readers", wait_write},
             {"pthread_spin_lock", wait_spin},
             {"sem_wait", wait_sem},
             {"sem_timedwait", timedwait_sem},
             {"pthread_join", wait_join},
             {"mtx_lock", wait_mtx},
             {"futex", wait_futex},
             {"futex bitset", wait_bitset},
             {"pthread_barrier_wait", wait_barrier},
             {"pthread_cond_wait", wait_cond}};
enum { WAITS = sizeof waits / sizeof *waits };

enum way { LONGJMP, UNDERSCORE, SIGLONGJMP, SIGLONGJMP_MASK, EXIT, WAYS };
static const char *const way_names[WAYS] = {"longjmp", "_longjmp", "siglongjmp",
                                            "siglongjmp and the mask", "pthread_exit"};
static __thread enum way way;
static __thread jmp_buf plain;
static __thread sigjmp_buf with_mask;

static void leave(int number) {
  (void)number;
  switch (way) {
    case LONGJMP: longjmp(plain, 1);
    case UNDERSCORE: _longjmp(plain, 2);
    case SIGLONGJMP: siglongjmp(with_mask, 3);
    case SIGLONGJMP_MASK: siglongjmp(with_mask, 4);
    default: pthread_exit((void *)5);
  }
}

static _Atomic pid_t jumper;
static void *kick(void *thread) {
  if (waits[phase].call == wait_spin) usleep(2000);
  else wait_until_blocked(jumper);
  pthread_kill(*(pthread_t *)thread, SIGUSR1);
  return NULL;
}
static __attribute__((noinline)) int wait_and_jump(void (*call)(void)) {
  int value = way < SIGLONGJMP ? _setjmp(plain) : sigsetjmp(with_mask, way == SIGLONGJMP_MASK);
  if (value == 0) call();
  return value;
}
static void *wait_and_exit(void *call) {
  way = EXIT;
  jumper = own_id();
  ((void (*)(void))call)();
  return NULL;
}
static int is_blocked(int number) {
  sigset_t mask;
  pthread_sigmask(SIG_BLOCK, NULL, &mask);
  return sigismember(&mask, number);
}

static void *hold_everything(void *unused) {
  pthread_mutex_lock(&mutex);
  pthread_mutex_lock(&robust);
  pthread_rwlock_wrlock(&rwlock);
  pthread_rwlock_rdlock(&read_held);
  pthread_spin_lock(&spin);
  mtx_lock(&mtx);
  phase = 1;
  while (phase < 100) pause_briefly();
  return unused;
}
/* Not the holder: only what has no owner. */
static __attribute__((noinline)) void late_release(void) {
  CALL(sem_post(&sem)), CALL(sem_post(&sem));
  CALL(pthread_spin_unlock(&spin));
  CALL(pthread_mutex_unlock(&mutex));
  CALL(mtx_unlock(&mtx));
  word = 1;
  NUMBER(syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 100, NULL, NULL, 0));
}

static long count;
static pthread_mutex_t count_mutex = PTHREAD_MUTEX_INITIALIZER;
static void *go_on(void *unused) {
  for (int i = 0; i < 20000; i++) {
    pthread_mutex_lock(&count_mutex);
    count++;
    pthread_mutex_unlock(&count_mutex);
  }
  return unused;
}

int main(void) {
  struct sigaction action = {.sa_handler = leave, .sa_flags = SA_NODEFER};
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes),
      pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  far = time_of(CLOCK_REALTIME, 1000000);
  pthread_mutex_init(&mutex, NULL), pthread_mutex_init(&cond_mutex, NULL),
      pthread_mutex_init(&robust, &attributes);
  pthread_cond_init(&cond, NULL), pthread_rwlock_init(&rwlock, NULL),
      pthread_rwlock_init(&read_held, NULL);
  pthread_spin_init(&spin, 0), sem_init(&sem, 0, 0), pthread_barrier_init(&barrier, NULL, 1000),
      mtx_init(&mtx, mtx_plain), cnd_init(&cnd);
  pthread_t self = pthread_self(), holder = start(hold_everything, NULL);
  while (phase != 1) pause_briefly();
  target = start(stay, NULL);
  for (int with_block = 0; with_block < 2; with_block++) {
    /* without SA_NODEFER the signal stays blocked unless the mask is put back */
    action.sa_flags = with_block ? 0 : SA_NODEFER;
    sigaction(SIGUSR1, &action, NULL);
    for (way = 0; way < EXIT; way++) {
      for (int i = 0; i < WAITS; i++) {
        jumper = own_id();
        phase = i;
        pthread_t kicker = start(kick, &self);
        int value = wait_and_jump(waits[i].call);
        pthread_join(kicker, NULL);
        say("%s left by %s: %d, blocked %d\n", waits[i].name, way_names[way], value,
            is_blocked(SIGUSR1));
        sigset_t unblock;
        sigemptyset(&unblock), sigaddset(&unblock, SIGUSR1),
            pthread_sigmask(SIG_UNBLOCK, &unblock, NULL);
      }
    }
  }
  for (int i = 0; i < WAITS; i++) {
    void *result;
    jumper = 0;
    pthread_t thread = start(wait_and_exit, (void *)waits[i].call);
    while (!jumper) pause_briefly();
    if (waits[i].call == wait_spin) usleep(2000);
    else wait_until_blocked(jumper);
    pthread_kill(thread, SIGUSR1);
    pthread_join(thread, &result);
    say("%s left by pthread_exit: %ld\n", waits[i].name, (long)(intptr_t)result);
  }
  late_release();
  ready();
  phase = 100;
  pthread_join(holder, NULL);
  CALL(pthread_join(target, NULL));
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) threads[i] = start(go_on, NULL);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  say("count %ld\n", count);
  ready();
  return 0;
}

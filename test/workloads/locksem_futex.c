/* Futexes through libc's syscall(), with good and bad arguments, and system calls that are none
 * (locksem.h). */
#define _GNU_SOURCE
#include "locksem.h"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

struct waiter_of_vector { /* struct futex_waitv of newer headers */
  uint64_t value, address;
  uint32_t flags, reserved;
};

static uint32_t word, second_word;
static pid_t main_thread;
static const struct timespec soon = {0, 10000000}, none = {0, 0}, negative = {-1, 0},
                             bad_ns = {0, 1000000000}, far = {1000, 0};
#define FUTEX(...) NUMBER(syscall(SYS_futex, __VA_ARGS__))
#define WORD(value) (word = (uint32_t)(value), (long)&word)
#define SAY_WORD() say("  word %x\n", word)

static _Atomic int handled;
static void on_signal(int number) { (void)number, handled++; }
static pthread_t main_self;
static void *wake_one(void *operation) {
  wait_until_blocked(main_thread);
  word++;
  CHECK(syscall(SYS_futex, &word, (int)(intptr_t)operation, 1, NULL, NULL, -1) == 1);
  return NULL;
}
static void *requeue_and_wake(void *unused) {
  wait_until_blocked(main_thread);
  CHECK(syscall(SYS_futex, &word, FUTEX_CMP_REQUEUE_PRIVATE, 0, 1, &second_word, word) == 1);
  CHECK(syscall(SYS_futex, &second_word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) == 1);
  return unused;
}
static void *interrupt(void *unused) {
  wait_until_blocked(main_thread);
  pthread_kill(main_self, SIGUSR1);
  return unused;
}
#define WITH(entry, argument, call)                      \
  do {                                                   \
    pthread_t helper = start(entry, (void *)(argument)); \
    NUMBER(call), pthread_join(helper, NULL);            \
  } while (0)

static const struct timespec *from_now(clockid_t clock, long milliseconds) {
  static struct timespec time;
  time = time_of(clock, milliseconds);
  return &time;
}

static void check_wait(int private) {
  say("wait, private %d\n", private);
  FUTEX(WORD(5), FUTEX_WAIT | private, 6, NULL, NULL, 0);
  FUTEX(WORD(5), FUTEX_WAIT | private, 5, &none, NULL, 0);
  FUTEX(WORD(5), FUTEX_WAIT | private, 5, &soon, NULL, 0);
  FUTEX(WORD(5), FUTEX_WAIT | private, 5, &negative, NULL, 0);
  FUTEX(WORD(5), FUTEX_WAIT | private, 5, &bad_ns, NULL, 0);
  FUTEX(WORD(5), FUTEX_WAIT | private, 6, &bad_ns, NULL, 0);
  FUTEX(WORD(5), FUTEX_WAIT | private, 5, 16l, NULL, 0);
  FUTEX(16l, FUTEX_WAIT | private, 5, &soon, NULL, 0);
  FUTEX(NULL, FUTEX_WAIT | private, 0, NULL, NULL, 0);
  FUTEX((long)&word + 1, FUTEX_WAIT | private, 5, &soon, NULL, 0);
  FUTEX(WORD(5), FUTEX_WAIT_BITSET | private, 5, from_now(CLOCK_MONOTONIC, 10), NULL, 1);
  FUTEX(WORD(5), FUTEX_WAIT_BITSET | private, 5, from_now(CLOCK_MONOTONIC, -10), NULL, 1);
  FUTEX(WORD(5), FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME | private, 5,
        from_now(CLOCK_REALTIME, 10), NULL, -1);
  FUTEX(WORD(5), FUTEX_WAIT_BITSET | private, 5, &soon, NULL, 0);
  FUTEX(WORD(5), FUTEX_WAIT_BITSET | private, 6, NULL, NULL, -1);
  FUTEX(WORD(5), FUTEX_WAIT | FUTEX_CLOCK_REALTIME | private, 5, &soon, NULL, 0);
  FUTEX(WORD(5), FUTEX_WAKE | private, 1, NULL, NULL, 0);
  FUTEX(WORD(5), FUTEX_WAKE | private, -1, NULL, NULL, 0);
  FUTEX(16l, FUTEX_WAKE | private, 1, NULL, NULL, 0);
  FUTEX((long)&word + 1, FUTEX_WAKE | private, 1, NULL, NULL, 0);
  FUTEX(WORD(5), FUTEX_WAKE_BITSET | private, 1, NULL, NULL, 0);
  FUTEX(WORD(5), FUTEX_REQUEUE | private, 1, 1l, &second_word, 0);
  FUTEX(WORD(5), FUTEX_REQUEUE | private, 1, -1l, &second_word, 0);
  FUTEX(WORD(5), FUTEX_CMP_REQUEUE | private, 1, 1l, &second_word, 5);
  FUTEX(WORD(5), FUTEX_CMP_REQUEUE | private, 1, 1l, &second_word, 6);
  FUTEX(WORD(5), FUTEX_WAKE_OP | private, 1, 1l, &second_word,
        FUTEX_OP(FUTEX_OP_SET, 9, FUTEX_OP_CMP_EQ, 0));
  say("  second word %u\n", second_word), second_word = 0;
  FUTEX(WORD(5), 99 | private, 1, NULL, NULL, 0);
  FUTEX(WORD(5), 2 | private, 1, NULL, NULL, 0); /* FUTEX_FD */
  FUTEX(WORD(5), FUTEX_WAIT_REQUEUE_PI | private, 6, NULL, &second_word, 0);
  word = 5;
  WITH(wake_one, (long)(FUTEX_WAKE | private),
       syscall(SYS_futex, &word, FUTEX_WAIT | private, 5, NULL, NULL, 0));
  WITH(wake_one, (long)(FUTEX_WAKE | private),
       syscall(SYS_futex, &word, FUTEX_WAIT | private, 6, &far, NULL, 0));
  WITH(wake_one, (long)(FUTEX_WAKE_BITSET | private),
       syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | private, 7, NULL, NULL, 4));
  for (int restart = 0; restart < 2; restart++) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = restart ? SA_RESTART : 0};
    sigaction(SIGUSR1, &action, NULL);
    say(" restart %d\n", restart);
    word = 5;
    WITH(interrupt, NULL, syscall(SYS_futex, &word, FUTEX_WAIT | private, 5, &far, NULL, 0));
    if (!restart)
      WITH(interrupt, NULL, syscall(SYS_futex, &word, FUTEX_WAIT | private, 5, NULL, NULL, 0));
  }
  say("  %d signals\n", handled);
}

static _Atomic int phase;
static void *hold(void *unused) {
  own_id();
  CHECK(syscall(SYS_futex, &word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0) == 0);
  phase = 1;
  while (phase != 2) pause_briefly();
  wait_until_blocked(main_thread);
  CHECK(syscall(SYS_futex, &word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0) == 0);
  return unused;
}
static void check_priority_inheritance(void) {
  say("priority inheritance\n");
  FUTEX(WORD(0), FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), dump("word", &word, 4, 4);
  FUTEX(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), dump("word", &word, 4, 4);
  FUTEX(&word, FUTEX_TRYLOCK_PI_PRIVATE, 0, NULL, NULL, 0), dump("word", &word, 4, 4);
  FUTEX(&word, FUTEX_LOCK_PI_PRIVATE, 0, from_now(CLOCK_REALTIME, 10), NULL, 0);
  FUTEX(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0), SAY_WORD();
  FUTEX(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0);
  FUTEX(WORD(0x1ffffff0), FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), SAY_WORD();
  FUTEX(16l, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0);
  FUTEX(WORD(0), FUTEX_TRYLOCK_PI_PRIVATE, 0, NULL, NULL, 0), dump("word", &word, 4, 4);
  FUTEX(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0), SAY_WORD();
  word = 0;
  phase = 0;
  pthread_t holder = start(hold, NULL);
  while (phase != 1) pause_briefly();
  FUTEX(&word, FUTEX_TRYLOCK_PI_PRIVATE, 0, NULL, NULL, 0), dump("word", &word, 4, 4);
  FUTEX(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0);
  FUTEX(&word, FUTEX_LOCK_PI_PRIVATE, 0, from_now(CLOCK_REALTIME, 10), NULL, 0),
      dump("word", &word, 4, 4);
  FUTEX(&word, FUTEX_LOCK_PI_PRIVATE, 0, &bad_ns, NULL, 0);
  /* FUTEX_LOCK_PI2 */
  FUTEX(&word, 13 | FUTEX_PRIVATE_FLAG, 0, from_now(CLOCK_MONOTONIC, 10), NULL, 0);
  phase = 2;
  FUTEX(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), dump("word", &word, 4, 4);
  FUTEX(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0), SAY_WORD();
  pthread_join(holder, NULL);
  say("requeued\n");
  word = 5, second_word = 0;
  WITH(requeue_and_wake, NULL, syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 5, NULL, NULL, 0));
}

static struct waiter_of_vector vector[3];
static void *wake_second(void *unused) {
  wait_until_blocked(main_thread);
  CHECK(syscall(SYS_futex, &second_word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) == 1);
  return unused;
}
static void set_vector(uint32_t flags) {
  word = 5, second_word = 6;
  memset(vector, 0, sizeof vector);
  vector[0] = (struct waiter_of_vector){5, (uintptr_t)&word, flags, 0};
  vector[1] = (struct waiter_of_vector){6, (uintptr_t)&second_word, flags, 0};
}
#define WAITV(...) NUMBER(syscall(SYS_futex_waitv, __VA_ARGS__))
static void check_vector(void) {
  enum { PRIVATE_32 = 2 | 128 };
  say("vector\n");
  set_vector(PRIVATE_32), WAITV(NULL, 0, 0, NULL, CLOCK_MONOTONIC);
  WAITV(NULL, 1, 0, NULL, CLOCK_MONOTONIC);
  WAITV(16l, 1, 0, NULL, CLOCK_MONOTONIC);
  WAITV(vector, 0, 0, NULL, CLOCK_MONOTONIC);
  WAITV(vector, 129, 0, NULL, CLOCK_MONOTONIC);
  WAITV(vector, 2, 1, NULL, CLOCK_MONOTONIC);
  WAITV(vector, 3, 0, NULL, CLOCK_MONOTONIC);
  WAITV(vector, -1, 0, NULL, CLOCK_MONOTONIC);
  WAITV(vector, 2, 0, from_now(CLOCK_MONOTONIC, 10), CLOCK_MONOTONIC);
  WAITV(vector, 2, 0, from_now(CLOCK_REALTIME, 10), CLOCK_REALTIME);
  WAITV(vector, 2, 0, from_now(CLOCK_MONOTONIC, 10), 77);
  WAITV(vector, 2, 0, &bad_ns, CLOCK_MONOTONIC);
  WAITV(vector, 2, 0, 16l, CLOCK_MONOTONIC);
  set_vector(PRIVATE_32), word = 9, WAITV(vector, 2, 0, NULL, CLOCK_MONOTONIC);
  set_vector(PRIVATE_32), vector[1].address = 16, WAITV(vector, 2, 0, NULL, CLOCK_MONOTONIC);
  set_vector(PRIVATE_32), vector[1].reserved = 16, WAITV(vector, 2, 0, NULL, CLOCK_MONOTONIC);
  set_vector(0), WAITV(vector, 2, 0, NULL, CLOCK_MONOTONIC);
  set_vector(PRIVATE_32);
  WITH(wake_second, NULL, syscall(SYS_futex_waitv, vector, 2, 0, NULL, CLOCK_MONOTONIC));
}

static void check_other_calls(void) {
  int descriptors[2];
  char buffer[8] = "";
  say("other calls\n");
  CHECK(pipe(descriptors) == 0);
  NUMBER(syscall(SYS_getpid) == getpid());
  NUMBER(syscall(SYS_gettid) == getpid());
  NUMBER(syscall(SYS_write, descriptors[1], "hello", 5));
  NUMBER(syscall(SYS_read, descriptors[0], buffer, 8)), say("  %s\n", buffer);
  NUMBER(syscall(SYS_read, -1, buffer, 8));
  NUMBER(syscall(SYS_close, 1000));
  NUMBER(syscall(-1));
  NUMBER(syscall(100000));
  NUMBER(syscall(0x7fffffffffffffff));
  NUMBER(syscall(SYS_sched_yield));
  NUMBER(syscall(SYS_tgkill, -1, -1, 0));
  NUMBER(syscall(SYS_mmap, NULL, 4096, 77, MAP_PRIVATE, descriptors[0], 0));
  /* six arguments */
  long page = syscall(SYS_mmap, NULL, 4096l, (long)(PROT_READ | PROT_WRITE),
                      (long)(MAP_PRIVATE | MAP_ANONYMOUS), -1l, 0l);
  NUMBER(page > 0 && memset((void *)page, 1, 4096) == (void *)page);
  NUMBER(syscall(SYS_munmap, page, 4096l));
  NUMBER(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &(struct timespec){0, 1000}, NULL));
  long child = syscall(SYS_clone, (long)SIGCHLD, 0l, 0l, 0l, 0l);
  if (child == 0) syscall(SYS_exit_group, 7);
  int status = 0;
  NUMBER(waitpid((pid_t)child, &status, 0) == (pid_t)child),
      say("  exit code %d\n", WEXITSTATUS(status));
}

int main(void) {
  main_thread = own_id(), main_self = pthread_self();
  check_wait(0), check_wait(FUTEX_PRIVATE_FLAG);
  check_priority_inheritance();
  check_vector();
  check_other_calls();
  return 0;
}

/* Handlers of the host's own, installed in every way there is, and system calls beside a profile:
 * many_handlers count HOW: calls that nothing of the host's interrupts; prints how many saw EINTR.
 * many_handlers wait HOW: each call ends by a handler in which a tick becomes pending, so that the
 * tick comes between the handler's return and the program's next instruction. Prints how many. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include "workload.h"

enum { MANY = 300, CALLS = 15000, WAITS = 60, THUNK = 16 };

static volatile long handled;

static void burn(double seconds) {
  struct timespec start, now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
  do clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  while ((double)(now.tv_sec - start.tv_sec) + (double)(now.tv_nsec - start.tv_nsec) / 1e9 <
         seconds);
}

static void handler(int number) {
  (void)number;
  burn(0.009); /* two ticks of the kernel's */
  handled++;
}

/* Past libc, as Go's runtime does it: with a restorer of its own. */
__asm__("own_restorer: mov $15, %eax\n\tsyscall\n");
extern void own_restorer(void);
static long raw_sigaction(int number, void (*function)(int), unsigned long flags) {
  struct {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(void);
    unsigned long mask;
  } action = {function, flags | 0x04000000, own_restorer, ~0ul};
  long result = SYS_rt_sigaction;
  register long size __asm__("r10") = 8;
  __asm__ volatile("syscall"
                   : "+a"(result)
                   : "D"((long)number), "S"(&action), "d"(0), "r"(size)
                   : "rcx", "r11", "memory");
  return result;
}

static void install(int number, void (*function)(int)) {
  struct sigaction action = {.sa_handler = function}, found;
  sigfillset(&action.sa_mask);
  CHECK(sigaction(number, &action, NULL) == 0 && sigaction(number, NULL, &found) == 0);
  CHECK(found.sa_handler == function && sigismember(&found.sa_mask, SIGTERM));
}

/* As bindings of other languages make them: code that is written at run time. */
static void install_many(int number) {
  unsigned char *code = mmap(NULL, MANY * THUNK, PROT_READ | PROT_WRITE | PROT_EXEC,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(code != MAP_FAILED);
  for (int i = 0; i < MANY; i++) { /* movabs $handler,%rax; jmp *%rax */
    unsigned char *thunk = code + i * THUNK;
    memcpy(thunk, "\x48\xb8", 2);
    *(void **)(thunk + 2) = (void *)handler;
    memcpy(thunk + 10, "\xff\xe0", 2);
    install(number, (void (*)(int))thunk);
  }
}

static void prepare(const char *how, int number) {
  if (strcmp(how, "one") == 0) install(number, handler);
  else if (strcmp(how, "many") == 0) install_many(number);
  else if (strcmp(how, "raw") == 0 || strcmp(how, "anew") == 0)
    CHECK(raw_sigaction(number, handler, 0) == 0);
  else if (strcmp(how, "signal") == 0)
    CHECK(signal(number, handler) != SIG_ERR && siginterrupt(number, 1) == 0);
  else if (strcmp(how, "system") == 0) { /* puts the handlers of two signals back by itself */
    install(SIGINT, handler);
    CHECK(system("true") == 0);
    install(number, handler);
  } else if (strcmp(how, "gmon") == 0) { /* built with -pg; its timer is not wanted */
    struct itimerval off = {{0, 0}, {0, 0}};
    CHECK(setitimer(ITIMER_PROF, &off, NULL) == 0);
  } else CHECK(!"a way");
}

static void count(void) {
  long interrupted = 0;
  for (int i = 0; i < CALLS; i++) {
    for (volatile int k = 0; k < 2000; k++) {}
    interrupted += poll(NULL, 0, 0) < 0 && errno == EINTR;
    interrupted += nanosleep(&(struct timespec){0, 1}, NULL) < 0 && errno == EINTR;
  }
  say("%ld interrupted\n", interrupted);
}

static void wait(const char *how) {
  sigset_t blocked, none;
  sigemptyset(&none);
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR1);
  sigprocmask(SIG_BLOCK, &blocked, NULL);
  timer_t timer;
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
  CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
  long others = 0; /* not by the handler */
  for (int i = 0; i < WAITS; i++) {
    if (strcmp(how, "anew") == 0) prepare(how, SIGUSR1);
    struct itimerspec soon = {.it_value = {0, 300000}};
    CHECK(timer_settime(timer, 0, &soon, NULL) == 0);
    for (;; others++) {
      CHECK(ppoll(NULL, 0, NULL, &none) < 0 && errno == EINTR);
      if (handled > i) break;
    }
  }
  say("%ld handled\n", handled);
  say("%s%ld others\n", strcmp(how, "anew") == 0 ? "# " : "", others);
}

int main(int argc, char **argv) {
  CHECK(argc == 3);
  prepare(argv[2], SIGUSR1);
  ready();
  burn(0.15); /* handlers that the agent has just found are in doubt for 0.1 s (host_handlers.c) */
  if (strcmp(argv[1], "count") == 0) count();
  else wait(argv[2]);
  ready();
  return 0;
}

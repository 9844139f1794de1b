/* SIGURG, which the agent uses by now, and another signal become pending together, 1,000 times. As
 * soon as SIGURG's handler would begin, the other signal's handler interrupts it and jumps away.
 * Prints how many did. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>

#include "workload.h"

enum { ROUNDS = 1000 };

static sigjmp_buf next_round;
static volatile int jumps;

static void urgent(int number) { (void)number; }

static void jump(int number) {
  (void)number;
  jumps++;
  siglongjmp(next_round, 1);
}

static void install(int number, void (*handler)(int)) {
  struct sigaction action = {.sa_handler = handler};
  CHECK(sigaction(number, &action, NULL) == 0);
}

int main(void) {
  say("ready\n");
  wait_for_line();
  install(SIGURG, urgent);
  install(SIGIO, jump); /* a greater number: SIGURG is taken first */
  sigset_t both, none;
  sigemptyset(&none);
  sigemptyset(&both);
  sigaddset(&both, SIGURG);
  sigaddset(&both, SIGIO);
  for (volatile int i = 0; i < ROUNDS; i++) {
    if (sigsetjmp(next_round, 1)) continue;
    CHECK(sigprocmask(SIG_SETMASK, &both, NULL) == 0);
    CHECK(kill(getpid(), SIGURG) == 0 && kill(getpid(), SIGIO) == 0);
    CHECK(sigprocmask(SIG_SETMASK, &none, NULL) == 0);
  }
  say("%d jumps\nready\n", jumps);
  wait_for_line();
  return 0;
}

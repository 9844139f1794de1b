/* Signals at which profiles are written, as the program sees them: what it reads and sets of them,
 * how it and its children end by them.
 * signals_that_end views | raise N | handler N | children N | waits N | inside N | first N |
 * alternate SIZE | goes_on */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>

#include "workload.h"

static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGALRM};
enum { NUMBERS = sizeof numbers / sizeof *numbers };

static volatile sig_atomic_t handled;
static void on_signal(int number) { handled = number; }

static const char *name_of(void (*handler)(int)) {
  return handler == SIG_DFL     ? "default"
         : handler == SIG_IGN   ? "ignored"
         : handler == SIG_ERR   ? "error"
         : handler == SIG_HOLD  ? "held"
         : handler == on_signal ? "own"
                                : "another's";
}

static void show(const char *when, int number) {
  struct sigaction now;
  unsigned long mask;
  if (sigaction(number, NULL, &now) != 0) _exit(2);
  memcpy(&mask, &now.sa_mask, sizeof mask);
  say("%d %s: %s %x %lx\n", number, when, name_of(now.sa_handler), (unsigned)now.sa_flags, mask);
}

static void set(int number, void (*handler)(int), int flags, int masked) {
  struct sigaction action = {.sa_handler = handler, .sa_flags = flags}, old;
  sigaddset(&action.sa_mask, masked);
  if (sigaction(number, &action, &old) != 0) _exit(3);
  say("%d was: %s %x\n", number, name_of(old.sa_handler), (unsigned)old.sa_flags);
}

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static void views_of(int number) {
  show("at first", number);
  set(number, SIG_DFL, SA_NOCLDSTOP, SIGCHLD);
  show("default", number);
  set(number, on_signal, SA_RESTART, SIGCHLD);
  show("handled", number);
  raise(number);
  say("%d handled: %d\n", number, handled == number);
  say("signal: %s\n", name_of(signal(number, SIG_DFL)));
  say("signal: %s\n", name_of(signal(number, SIG_IGN)));
  raise(number);
  say("sigset: %s\n", name_of(sigset(number, SIG_DFL)));
  say("sigset: %s\n", name_of(sigset(number, SIG_HOLD)));
  say("sigset: %s\n", name_of(sigset(number, on_signal)));
  say("sigignore: %d\n", sigignore(number));
  show("ignored", number);
  say("siginterrupt: %d\n", siginterrupt(number, 1));
  say("signal: %s\n", name_of(signal(number, on_signal)));
  show("interrupts", number);
  say("siginterrupt: %d\n", siginterrupt(number, 0));
  say("sysv_signal: %s\n", name_of(sysv_signal(number, SIG_DFL)));
  show("at last", number);
  struct sigaction bad = {.sa_handler = SIG_DFL};
  errno = 0;
  say("bad: %d %d\n", sigaction(SIGKILL, &bad, NULL), errno);
}

static void wait_for(pid_t child) {
  int status = -1;
  if (waitpid(child, &status, 0) != child) _exit(4);
  say("status %x\n", (unsigned)status);
}

/* A child of each kind gets the signal as soon as it can. */
static void children(int number) {
  int pipes[2];
  char byte;
  for (int kind = 0; kind < 3; kind++) {
    if (pipe(pipes) != 0) _exit(5);
    pid_t child = kind == 1 ? vfork() : fork();
    if (child == 0 && kind == 1) {
      kill(getpid(), number);
      _exit(7);
    }
    if (child == 0) {
      if (kind == 2) execlp("sleep", "sleep", "60", NULL);
      if (write(pipes[1], "", 1) != 1) _exit(8);
      for (;;) pause();
    }
    if (kind == 0 && read(pipes[0], &byte, 1) != 1) _exit(9);
    if (kind != 1) kill(child, number);
    wait_for(child);
    close(pipes[0]);
    close(pipes[1]);
  }
}

/* Blocked but in a call that lets it in. */
static void inside(int number) {
  sigset_t blocked, none;
  sigemptyset(&none);
  sigfillset(&blocked);
  for (int call = 0; call < 4; call++) {
    pid_t child = fork();
    if (child == 0) {
      sigprocmask(SIG_SETMASK, &blocked, NULL);
      raise(number); /* pending */
      if (call == 0) sigsuspend(&none);
      if (call == 1) ppoll(NULL, 0, NULL, &none);
      if (call == 2) pselect(0, NULL, NULL, NULL, NULL, &none);
      if (call == 3) sigprocmask(SIG_SETMASK, &none, NULL);
      _exit(9);
    }
    wait_for(child);
  }
}

/* The first process of a namespace gets none that it has no handler for. */
static void first(int number) {
  sigset_t one;
  sigemptyset(&one);
  sigaddset(&one, number);
  if (unshare(CLONE_NEWPID) != 0) _exit(30);
  pid_t child = fork();
  if (child == 0) {
    struct timespec moment = {.tv_nsec = 300000000};
    pid_t grandchild = getpid() == 1 ? fork() : -1;
    if (grandchild == 0) {
      kill(1, number);
      _exit(0);
    }
    int result = nanosleep(&moment, NULL);
    say("first of its namespace: %d\n", result);
    _exit(getpid() == 1 ? 0 : 31);
  }
  wait_for(child);
}

/* On an alternate stack of that size nothing is written below it. */
static void alternate(size_t size) {
  enum { BELOW = 65536 };
  static unsigned char memory[2 * BELOW];
  stack_t stack = {.ss_sp = memory + BELOW, .ss_size = size};
  memset(memory, 0x5a, sizeof memory);
  if (sigaltstack(&stack, NULL) != 0) _exit(12);
  say("ready\n");
  struct timespec moment = {.tv_nsec = 300000000};
  for (int i = 0; i < 2; i++) {
    raise(SIGUSR2);
    nanosleep(&moment, NULL);
  }
  int changed = 0;
  for (int i = 0; i < BELOW; i++) changed += memory[i] != 0x5a;
  say("%d bytes are changed\n", changed);
}

/* In calls that a handler would end, also with SA_RESTART. */
static void goes_on(void) {
  struct pollfd in = {.fd = 0, .events = POLLIN};
  say("ready\n");
  int result = poll(&in, 1, -1);
  say("poll %d %d\n", result, result < 0 ? errno : 0);
  wait_for_line();
  say("ready\n");
  say("read %d\n", wait_for_line());
}

int main(int count, char **words) {
  int number = count > 2 ? atoi(words[2]) : 0;
  volatile char *block = keep(malloc(5 << 20));
  block[0] = 1;
  if (strcmp(words[1], "views") == 0)
    for (int i = 0; i < NUMBERS; i++) views_of(numbers[i]);
  if (strcmp(words[1], "children") == 0) children(number);
  if (strcmp(words[1], "goes_on") == 0) goes_on();
  if (strcmp(words[1], "inside") == 0) inside(number);
  if (strcmp(words[1], "first") == 0) first(number);
  if (strcmp(words[1], "alternate") == 0) alternate((size_t)number);
  if (strcmp(words[1], "waits") == 0) { /* it takes them itself */
    sigset_t set;
    int got;
    sigemptyset(&set);
    sigaddset(&set, number);
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(number);
    say("sigwait %d", sigwait(&set, &got));
    say(" %d\n", got);
    raise(number);
    struct signalfd_siginfo info;
    int descriptor = signalfd(-1, &set, 0);
    say("signalfd %d\n", read(descriptor, &info, sizeof info) == sizeof info);
  }
  if (strcmp(words[1], "handler") == 0) {
    signal(number, on_signal);
    raise(number);
    say("cleaned up\n");
    signal(number, SIG_DFL);
    raise(number);
  }
  if (strcmp(words[1], "raise") == 0) kill(getpid(), number);
  return 0;
}

/* fork_ways MODE: ways to fork, and what children do at once. Each prints the same with and without
 * the agent; where it says `ready` the test may look at the processes that there are. Only one
 * process at a time reads stdin. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#include "workload.h"

extern char **environ;

static void sleep_ms(long ms) {
  struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
  while (nanosleep(&pause, &pause) != 0) continue;
}

/* Allocations enough to be sampled at any rate. */
static void allocate(void) {
  for (int i = 0; i < 2000; i++) free(keep(malloc((size_t)(1 + i * 7 % 3000))));
}

static int status_of(pid_t child) {
  int status = 0;
  CHECK(child > 0);
  while (waitpid(child, &status, 0) != child) CHECK(errno == EINTR);
  return WIFEXITED(status) ? WEXITSTATUS(status) : WIFSIGNALED(status) ? -WTERMSIG(status) : -1000;
}

static void at_exit(void) { say("atexit in %s\n", getenv("WHO") ? getenv("WHO") : "parent"); }

/* ---- what a child finds ---- */

static void say_state(void) {
  sigset_t mask;
  sigprocmask(SIG_SETMASK, NULL, &mask);
  say("errno %d, mask %d %d %d, next descriptors", errno, sigismember(&mask, SIGURG),
      sigismember(&mask, SIGUSR1), sigismember(&mask, SIGTERM));
  int a = open("/dev/null", O_RDONLY), b = dup(a);
  say(" %d %d\n", a, b);
  close(a);
  close(b);
}

static void child(void) {
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGUSR1);
  sigprocmask(SIG_SETMASK, &mask, NULL);
  atexit(at_exit);
  printf("buffered before the fork\n"); /* comes twice when stdout is a pipe */
  errno = ERANGE;
  pid_t pid = fork();
  if (pid == 0) {
    say_state();
    ready();
    say_state();
    allocate();
    setenv("WHO", "child", 1);
    exit(7);
  }
  say("errno %d, child exit %d\n", errno, status_of(pid));
}

/* A child whose threads come and go, whose main thread ends first. */
static void *ends_last(void *unused) {
  sleep_ms(100);
  say("last thread\n");
  return unused;
}
static void main_thread_ends(void) {
  atexit(at_exit);
  pid_t pid = fork();
  if (pid == 0) {
    pthread_t thread;
    setenv("WHO", "child", 1);
    allocate();
    ready();
    pthread_create(&thread, NULL, ends_last, NULL);
    pthread_exit(NULL);
  }
  say("child exit %d\n", status_of(pid));
}

/* ---- handlers ---- */

static int in_handler, prepare_code, parent_code, child_code;
static void fork_in_handler(int code, int *found) {
  if (in_handler++) return;
  pid_t pid = fork();
  if (pid == 0) {
    allocate();
    _exit(code);
  }
  *found = status_of(pid);
  in_handler = 0;
}
static void *nothing(void *unused) { return unused; }
static void thread_in_handler(void) {
  pthread_t thread;
  if (in_handler) return;
  CHECK(pthread_create(&thread, NULL, nothing, NULL) == 0 && pthread_join(thread, NULL) == 0);
  allocate();
}
static void prepare_handler(void) { fork_in_handler(11, &prepare_code); }
static void parent_handler(void) { fork_in_handler(12, &parent_code); }
static void child_handler(void) { thread_in_handler(), fork_in_handler(13, &child_code); }

static void atfork_handlers(void) {
  CHECK(pthread_atfork(prepare_handler, parent_handler, child_handler) == 0);
  for (int i = 0; i < 3; i++) {
    pid_t pid = fork();
    if (pid == 0) {
      allocate();
      say("in prepare %d, in child %d\n", prepare_code, child_code);
      if (i == 0) ready();
      _exit(20 + i);
    }
    int code = status_of(pid);
    say("child exit %d, in prepare %d, in parent %d\n", code, prepare_code, parent_code);
  }
}

/* A child that a handler bears and that leaves the handler: the call of fork that the handler
 * belongs to returns in it as in a parent. */
enum { NOWHERE, IN_PREPARE, IN_PARENT };
static int bears;
static pid_t born;
static void bear(int where) {
  if (bears != where) return;
  bears = NOWHERE;
  born = fork();
}
static void prepare_bears(void) { bear(IN_PREPARE); }
static void parent_bears(void) { bear(IN_PARENT); }
static void born_in_handlers(void) {
  CHECK(pthread_atfork(prepare_bears, parent_bears, NULL) == 0);
  for (int where = IN_PREPARE; where <= IN_PARENT; where++) {
    bears = where;
    pid_t pid = fork();
    if (pid == 0) _exit(1);
    if (born == 0) { /* in the prepare handler's child pid is a child of its own */
      allocate();
      ready();
      _exit(40 + where);
    }
    CHECK(status_of(pid) == 1);
    say("born in a handler: exit %d\n", status_of(born));
  }
}

/* In a handler of a signal. in_malloc: where it may have interrupted malloc or free that holds its
 * lock. */
static volatile int forked_in_handler, well_in_handler;
static void fork_on_signal(int number) {
  (void)number;
  int saved = errno;
  pid_t pid = fork();
  if (pid == 0) _exit(31);
  int status;
  while (waitpid(pid, &status, 0) != pid) continue;
  well_in_handler += WIFEXITED(status) && WEXITSTATUS(status) == 31;
  forked_in_handler++;
  errno = saved;
}
static void signal_handler(int in_malloc) {
  struct sigaction action = {.sa_handler = fork_on_signal, .sa_flags = SA_RESTART};
  struct itimerval every = {{0, 2000}, {0, 2000}}, never = {{0, 0}, {0, 0}};
  void *kept[64] = {NULL};
  for (int i = 0; i < 64; i++) kept[i] = keep(malloc(100));
  sigaction(SIGALRM, &action, NULL);
  setitimer(ITIMER_REAL, &every, NULL);
  for (unsigned i = 0; forked_in_handler < 100; i++) {
    free(kept[i % 64]);
    /* beyond the thread's cache, or out of it */
    kept[i % 64] = keep(malloc(in_malloc ? 2000 + i * 37 % 9000 : 100));
  }
  setitimer(ITIMER_REAL, &never, NULL);
  say("all of %s children well: %d\n", forked_in_handler >= 100 ? "100" : "fewer",
      well_in_handler == forked_in_handler);
}

/* ---- calls that are no fork of libc's ---- */

static int other_stack(void *argument) {
  if (argument) *(int *)argument += 1;
  return 44;
}
static void other_calls(void) {
  static char stack[256 * 1024] __attribute__((aligned(64)));
  int counter = 0;
  fflush(stdout);
  for (int i = 0; i < 20; i++) {
    pid_t pid = vfork();
    if (pid == 0) {
      counter++; /* in the parent's memory */
      _exit(41);
    }
    CHECK(status_of(pid) == 41);
    pid = _Fork();
    if (pid == 0) _exit(42);
    CHECK(status_of(pid) == 42);
    pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
      allocate();
      syscall(SYS_exit_group, 43);
    }
    CHECK(status_of(pid) == 43);
    pid = clone(other_stack, stack + sizeof stack, SIGCHLD, NULL);
    CHECK(status_of(pid) == 44);
    pid = clone(other_stack, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, &counter);
    CHECK(status_of(pid) == 44);
    pid = (pid_t)syscall(SYS_fork);
    if (pid == 0) _exit(45);
    CHECK(status_of(pid) == 45);
  }
  say("counter %d\n", counter);
  char *arguments[] = {"sh", "-c", "echo spawned; exit 6", NULL};
  pid_t pid;
  CHECK(posix_spawn(&pid, "/bin/sh", NULL, NULL, arguments, environ) == 0);
  say("posix_spawn %d\n", status_of(pid));
  say("system %d\n", WEXITSTATUS(system("echo system; exit 5")));
  FILE *pipe = popen("echo popen; exit 4", "r");
  char line[100] = "";
  CHECK(fgets(line, sizeof line, pipe));
  say("%spclose %d\n", line, WEXITSTATUS(pclose(pipe)));
  pid = _Fork();
  if (pid == 0) {
    ready();
    _exit(0);
  }
  CHECK(status_of(pid) == 0);
  pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
  if (pid == 0) {
    ready();
    _exit(0);
  }
  CHECK(status_of(pid) == 0);
  allocate();
}

/* A child that executes something at once, or when it is served. */
static void exec_later(void) {
  for (int i = 0; i < 2; i++) {
    pid_t pid = fork();
    if (pid == 0) {
      if (i) ready();
      execl("/bin/sh", "sh", "-c", "echo executed; exit 8", (char *)NULL);
      _exit(99);
    }
    say("exit %d\n", status_of(pid));
  }
}

static void forkpty_child(void) {
  int master;
  struct winsize size = {.ws_row = 33, .ws_col = 44}, found = {0};
  pid_t pid = forkpty(&master, NULL, NULL, &size);
  if (pid == 0) {
    char c;
    int tty = isatty(0) && isatty(1) && isatty(2), leader = getsid(0) == getpid();
    allocate();
    dprintf(1, "terminal %d leader %d next %d\n", tty, leader, open("/dev/null", O_RDONLY));
    while (read(0, &c, 1) == 1 && c != '\n') continue;
    _exit(9);
  }
  char text[200];
  size_t count = 0;
  while (!memchr(text, '\n', count)) {
    ssize_t n = read(master, text + count, sizeof text - 1 - count);
    CHECK(n > 0);
    count += (size_t)n;
  }
  text[count] = 0;
  ioctl(master, TIOCGWINSZ, &found);
  say("%s rows %d\n", strtok(text, "\r\n"), found.ws_row);
  ready();
  CHECK(write(master, "\n", 1) == 1);
  say("child exit %d\n", status_of(pid));
}

/* ---- many ---- */

static void nested(int depth) {
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    allocate();
    if (depth > 1) nested(depth - 1);
    else ready();
    _exit(depth);
  }
  CHECK(status_of(pid) == depth);
  if (depth == 50) say("50 generations\n");
}

/* Children that live together: more than are started at once. stdin leads on, twice; then they
 * allocate. */
static void together(int count) {
  int gates[3][2];
  pid_t *children = calloc((size_t)count, sizeof *children);
  for (int i = 0; i < 3; i++) CHECK(pipe(gates[i]) == 0);
  for (int i = 0; i < count; i++) {
    if ((children[i] = fork()) == 0) {
      char c;
      for (int gate = 0; gate < 3; gate++) close(gates[gate][1]);
      for (int gate = 0; gate < 2; gate++) {
        while (read(gates[gate][0], &c, 1) > 0) continue;
        allocate();
        while (gate == 1 && read(gates[2][0], &c, 1) > 0) continue;
      }
      _exit(i % 100);
    }
    CHECK(children[i] > 0);
  }
  for (int gate = 0; gate < 3; gate++) {
    ready();
    close(gates[gate][1]);
  }
  for (int i = 0; i < count; i++) CHECK(status_of(children[i]) == i % 100);
  say("%d children well\n", count);
}

/* One after the other; half of them allocate. */
static void in_turn(int count) {
  ready();
  for (int round = 0; round < 2; round++) {
    int wrong = 0;
    for (int i = 0; i < (round ? count : 50); i++) {
      pid_t pid = fork();
      if (pid == 0) {
        if (i & 1) allocate();
        _exit(i % 251);
      }
      wrong += status_of(pid) != i % 251;
    }
    say("wrong exit codes: %d\n", wrong);
    ready();
  }
}

/* Children that outlive a parent that is killed; they end with stdin. */
static void orphans(int count) {
  for (int i = 0; i < count; i++) {
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
      allocate();
      while (wait_for_line()) continue;
      _exit(0);
    }
  }
  say("ready\n");
  for (;;) pause();
}

/* With PPROFAGENT_CHILDREN=none: the child has one thread, and its allocations leave nothing in any
 * table. */
static long statm_kilobytes(void) {
  char text[100] = "";
  int file = open("/proc/self/statm", O_RDONLY);
  CHECK(read(file, text, sizeof text - 1) > 0);
  close(file);
  return atol(text) * (sysconf(_SC_PAGESIZE) / 1024);
}
static void unsampled(void) {
  pid_t pid = fork();
  if (pid == 0) {
    enum { BLOCKS = 200000 };
    char *break_before = sbrk(0);
    long before = statm_kilobytes();
    for (int i = 0; i < BLOCKS; i++) keep(malloc((size_t)(16 + i % 8 * 8)));
    long grown = statm_kilobytes() - before - ((char *)sbrk(0) - break_before) / 1024;
    ready();
    say("memory beside the heap: %s\n", grown < 1024 ? "as before" : "more");
    say("threads %d\n", threads_of_kernel());
    _exit(3);
  }
  say("child exit %d\n", status_of(pid));
  ready();
}

int main(int argc, char **argv) {
  CHECK(argc > 1);
  alarm(300); /* nothing here outlives its test for long */
  const char *mode = argv[1];
  int number = argc > 2 ? atoi(argv[2]) : 0;
  if (strcmp(mode, "child") == 0) child();
  else if (strcmp(mode, "main_thread_ends") == 0) main_thread_ends();
  else if (strcmp(mode, "atfork_handlers") == 0) atfork_handlers();
  else if (strcmp(mode, "born_in_handlers") == 0) born_in_handlers();
  else if (strcmp(mode, "signal_handler") == 0) signal_handler(number);
  else if (strcmp(mode, "other_calls") == 0) other_calls();
  else if (strcmp(mode, "exec_later") == 0) exec_later();
  else if (strcmp(mode, "forkpty") == 0) forkpty_child();
  else if (strcmp(mode, "nested") == 0) nested(50);
  else if (strcmp(mode, "together") == 0) together(number);
  else if (strcmp(mode, "orphans") == 0) orphans(number);
  else if (strcmp(mode, "in_turn") == 0) in_turn(number);
  else if (strcmp(mode, "unsampled") == 0) unsampled();
  else CHECK(!"mode");
  return 0;
}

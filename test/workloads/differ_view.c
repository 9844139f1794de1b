/* What a program can see of itself, and how it ends. See differ.h. */
#define _GNU_SOURCE
#include <dirent.h>
#include <locale.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/single_threaded.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>

#include "differ.h"

static void single_threaded(const char *name) {
  say("single-threaded for libc: %d\n", __libc_single_threaded);
  ordinary_life();
  (void)name;
}

static void signals(const char *name) {
  for (int number = 1; number < NSIG; number++) {
    struct sigaction action;
    if (sigaction(number, NULL, &action) == 0)
      say("%d: %s, flags %#x\n", number,
          action.sa_handler == SIG_DFL   ? "default"
          : action.sa_handler == SIG_IGN ? "ignored"
                                         : "handler",
          action.sa_flags);
  }
  static const char *const fields[] = {"SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"};
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
    say_field("/proc/thread-self/status", fields[i]);
  (void)name;
}

static void descriptors(const char *name) {
  for (int fd = 0; fd < 1024; fd++)
    if (fcntl(fd, F_GETFD) >= 0) say("%d, flags %d\n", fd, fcntl(fd, F_GETFD));
  int fd = open("/dev/null", O_RDONLY);
  say("the next is %d\n", fd);
  DIR *directory = opendir("/proc/self/fd");
  int count = 0;
  while (directory && readdir(directory)) count++;
  say("%d entries\n", count);
  (void)name;
}

static void scheduling(const char *name) {
  cpu_set_t cpus;
  sched_getaffinity(0, sizeof cpus, &cpus);
  say("%d processors, policy %d, nice %d, slack %d\n", CPU_COUNT(&cpus), sched_getscheduler(0),
      getpriority(PRIO_PROCESS, 0), prctl(PR_GET_TIMERSLACK));
  struct itimerval timer;
  for (int which = 0; which < 3; which++) {
    getitimer(which, &timer);
    int armed = timer.it_value.tv_sec || timer.it_value.tv_usec;
    say("itimer %d: %s\n", which, armed ? "armed" : "off");
  }
  TRY(setpriority(PRIO_PROCESS, 0, 5));
  TRY(sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0}));
  ordinary_life();
  (void)name;
}

static void attributes(const char *name) {
  static const int asked[] = {PR_GET_DUMPABLE,     PR_GET_KEEPCAPS, PR_GET_SECUREBITS,
                              PR_GET_NO_NEW_PRIVS, PR_GET_TIMING,   PR_GET_THP_DISABLE,
                              PR_GET_SECCOMP};
  for (size_t i = 0; i < sizeof asked / sizeof *asked; i++)
    say("prctl %d: %d\n", asked[i], prctl(asked[i], 0, 0, 0, 0));
  int value = 0;
  prctl(PR_GET_PDEATHSIG, &value);
  say("death signal %d\n", value);
  prctl(PR_GET_CHILD_SUBREAPER, &value);
  say("subreaper %d\n", value);
  char comm[32];
  prctl(PR_GET_NAME, comm);
  say("name %s, umask %o, locale %s\n", comm, umask(0), setlocale(LC_ALL, NULL));
  static const char *const fields[] = {"Name",   "Umask",      "Uid",    "Gid",
                                       "Groups", "VmLck",      "VmPin",  "CoreDumping",
                                       "Cap",    "NoNewPrivs", "Seccomp"};
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
    say_field("/proc/self/status", fields[i]);
  (void)name;
}

static void children(const char *name) {
  TRY(waitpid(-1, NULL, WNOHANG));
  TRY(waitpid(-1, NULL, WNOHANG | __WALL));
  struct rusage usage;
  getrusage(RUSAGE_CHILDREN, &usage);
  say("children's time: %s\n", usage.ru_utime.tv_sec || usage.ru_utime.tv_usec ? "some" : "none");
  say_field("/proc/thread-self/children", "");
  (void)name;
}

static void *a_thread(void *argument) {
  usleep(300000);
  say("the last thread ends\n");
  return argument;
}

static void main_thread_ends(const char *name) {
  pthread_t thread;
  pthread_create(&thread, NULL, a_thread, NULL);
  pthread_detach(thread);
  pthread_exit(NULL);
  (void)name;
}

static void only_thread_ends(const char *name) {
  pthread_exit(NULL);
  (void)name;
}

static void raw_end(const char *name) {
  syscall(SYS_exit, 5);
  (void)name;
}

static void *end_process(void *argument) { exit(argument ? 6 : 7); }

static void thread_ends_all(const char *name) {
  pthread_t thread;
  pthread_create(&thread, NULL, end_process, NULL);
  pause();
  (void)name;
}

static void *exec_from(void *argument) {
  execl("/bin/sh", "sh", "-c", "echo from sh; exit 9", NULL);
  return argument;
}

static void thread_execs(const char *name) {
  pthread_t thread;
  pthread_create(&thread, NULL, exec_from, NULL);
  pause();
  (void)name;
}

static void killed(const char *name) {
  const int numbers[] = {SIGTERM, SIGKILL, SIGSEGV, SIGPIPE, SIGALRM, SIGUSR1, SIGPROF, SIGRTMIN};
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    pid_t pid = fork();
    if (pid == 0) {
      raise(numbers[i]);
      _exit(1);
    }
    say_end("raised", pid);
  }
  raise(SIGABRT);
  (void)name;
}

static void stopped(const char *name) {
  pid_t pid = fork();
  if (pid == 0) {
    raise(SIGSTOP);
    _exit(4);
  }
  int status;
  waitpid(pid, &status, WUNTRACED);
  say("stopped %d\n", WIFSTOPPED(status));
  kill(pid, SIGCONT);
  say_end("went on", pid);
  (void)name;
}

/* As a debugger starts a program: it stops at its exec, and is seen to end. */
static void traced(const char *name) {
  pid_t pid = fork();
  if (pid == 0) {
    TRY(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
    execl("/bin/true", "true", NULL);
    _exit(98);
  }
  int status, stops = 0;
  while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) {
    say("stop: %s\n", sigabbrev_np(WSTOPSIG(status)));
    if (stops++ > 5) break;
    ptrace(PTRACE_CONT, pid, NULL, NULL);
  }
  say_status("traced", status);
  (void)name;
}

static void subreaper(const char *name) {
  TRY(prctl(PR_SET_CHILD_SUBREAPER, 1));
  pid_t pid = fork();
  if (pid == 0) {
    if (fork() == 0) {
      usleep(100000);
      _exit(8);
    }
    _exit(9);
  }
  int status, sum = 0, count = 0;
  while (wait(&status) > 0) count++, sum += WEXITSTATUS(status);
  say("%d children, %d in all, then %s\n", count, sum, strerrorname_np(errno));
  (void)name;
}

static void parent_death(const char *name) {
  int ends[2];
  CHECK(pipe(ends) == 0);
  pid_t pid = fork();
  if (pid == 0) {
    if (fork() == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      close(ends[0]);
      pause();
    }
    usleep(200000);
    _exit(2);
  }
  close(ends[1]);
  char c;
  say_end("middle", pid);
  say("the last one closed its end: %zd\n", read(ends[0], &c, 1));
  (void)name;
}

static volatile int handled;
static void count_one(int number) {
  handled++;
  (void)number;
}

/* A wait is ended by the program's own signals only. */
static void waits(const char *name) {
  struct timespec pause = {0, 1000000};
  struct sigaction action = {.sa_handler = count_one};
  sigaction(SIGALRM, &action, NULL);
  struct itimerval timer = {{0, 0}, {0, 300000}};
  int interrupted = 0, slept = 0;
  setitimer(ITIMER_REAL, &timer, NULL);
  while (!handled) {
    if (nanosleep(&pause, NULL) == 0) slept++;
    else interrupted++;
  }
  say("slept: %s, interrupted by another: %s\n", slept ? "yes" : "no",
      interrupted > 1 ? "yes" : "no"); /* its own may come between two sleeps */
  sigset_t wanted;
  sigemptyset(&wanted);
  sigaddset(&wanted, SIGUSR1);
  sigprocmask(SIG_BLOCK, &wanted, NULL);
  struct timespec timeout = {1, 500000000};
  TRY(sigtimedwait(&wanted, NULL, &timeout)); /* EAGAIN, not EINTR */
  (void)name;
}

#define CASE(name) \
  { #name, name }
static const struct differ_case cases[] = {
    CASE(single_threaded), CASE(signals),         CASE(descriptors),      CASE(scheduling),
    CASE(attributes),      CASE(children),        CASE(main_thread_ends), CASE(only_thread_ends),
    CASE(raw_end),         CASE(thread_ends_all), CASE(thread_execs),     CASE(killed),
    CASE(stopped),         CASE(traced),          CASE(subreaper),        CASE(parent_death),
    CASE(waits),
};

DIFFER_MAIN(cases)

/* Limits: what is used up, and what happens then. See differ.h. */
#define _GNU_SOURCE
#include <grp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>

#include "differ.h"

static void set(int which, rlim_t soft, rlim_t hard) {
  struct rlimit limit = {soft, hard};
  say("setrlimit %d: %s\n", which, error_name(setrlimit(which, &limit), errno));
}

static void other_user(uid_t uid) {
  CHECK(setgroups(0, NULL) == 0 && setresgid(uid, uid, uid) == 0 && setresuid(uid, uid, uid) == 0);
}

static void work(double seconds) {
  struct timespec now;
  do clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  while ((double)now.tv_sec + (double)now.tv_nsec / 1e9 < seconds);
}

static void fork_end(void) {
  pid_t pid = fork();
  if (pid == 0) _exit(3);
  if (pid > 0) say_end("child", pid);
  else say("fork: %s\n", strerrorname_np(errno));
}

/* A user of its own, so that nobody else's processes count. */
static void nproc(rlim_t most, uid_t uid) {
  set(RLIMIT_NPROC, most, most);
  other_user(uid);
  fork_end();
  pthread_t thread;
  int error = pthread_create(&thread, NULL, touch, NULL);
  if (error == 0) pthread_join(thread, NULL);
  say("thread: %s\n", error ? strerrorname_np(error) : "0");
  free(keep(malloc(1 << 20)));
}

static void nproc_0(const char *name) { nproc(0, 61000 + getpid() % 1000), (void)name; }
static void nproc_1(const char *name) { nproc(1, 62000 + getpid() % 1000), (void)name; }
static void nproc_2(const char *name) { nproc(2, 63000 + getpid() % 1000), (void)name; }

static void *sleeper(void *argument) {
  pause();
  return argument;
}

static void nproc_20(const char *name) {
  set(RLIMIT_NPROC, 20, 20);
  other_user((uid_t)(64000 + getpid() % 1000));
  int count = 0;
  pthread_t thread;
  while (count < 100 && pthread_create(&thread, NULL, sleeper, NULL) == 0) count++;
  say("%d threads\n", count);
  (void)name;
}

static void address_space(const char *name) {
  FILE *file = fopen("/proc/self/statm", "r");
  unsigned long pages = 0;
  CHECK(file && fscanf(file, "%lu", &pages) == 1);
  fclose(file);
  rlim_t most = pages * 4096 + (64 << 20);
  set(RLIMIT_AS, most, most);
  for (size_t megabytes = 16; megabytes <= 128; megabytes *= 3) {
    void *block = keep(malloc(megabytes << 20));
    say("malloc of %zu MB: %s\n", megabytes, block ? "block" : strerrorname_np(errno));
    free(block);
  }
  int failed = 0;
  for (int i = 0; i < 1000; i++) {
    void *block = keep(malloc(30000));
    failed += block == NULL;
    free(block);
  }
  say("%d failed\n", failed);
  fork_end();
  (void)name;
}

static void data_segment(const char *name) {
  set(RLIMIT_DATA, 200 << 20, 200 << 20);
  void *block = keep(malloc(150 << 20));
  say("150 MB: %s\n", block ? "block" : strerrorname_np(errno));
  free(block);
  ordinary_life();
  (void)name;
}

static void locked(int flags, rlim_t most) {
  set(RLIMIT_MEMLOCK, most, most);
  other_user(65001);
  TRY(mlockall(flags));
  int blocks = 0, threads = 0, maps = 0;
  for (int i = 0; i < 300; i++) {
    blocks += keep(malloc(1000)) == NULL;
    maps += mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED;
  }
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 65536);
  for (int i = 0; i < 10; i++) {
    pthread_t thread;
    threads += pthread_create(&thread, &attributes, sleeper, NULL) != 0;
  }
  say("failed: %d blocks, %d maps, %d threads\n", blocks, maps, threads);
}

static void memlock_future(const char *name) { locked(MCL_FUTURE, 24 << 20), (void)name; }
static void memlock_all(const char *name) {
  locked(MCL_CURRENT | MCL_FUTURE, 24 << 20);
  (void)name;
}
static void memlock_small(const char *name) { locked(MCL_CURRENT, 1 << 20), (void)name; }

static void nofile(const char *name) {
  set(RLIMIT_NOFILE, 40, 40);
  int count = 0, highest = 0, fd;
  while ((fd = open("/dev/null", O_RDONLY)) >= 0) count++, highest = fd;
  say("%d opened, to %d, then %s\n", count, highest, strerrorname_np(errno));
  for (fd = 3; fd <= highest; fd++) close(fd);
  ordinary_life();
  (void)name;
}

static volatile int caught;
static void on_signal(int number) { caught = number; }

static void cpu_time(const char *name) {
  signal(SIGXCPU, on_signal);
  set(RLIMIT_CPU, 1, 2);
  work(1.5);
  say("%s\n", caught ? sigabbrev_np(caught) : "none");
  work(4);
  (void)name;
}

static void rttime(const char *name) {
  set(RLIMIT_RTTIME, 150000, 200000);
  struct sched_param parameter = {10};
  TRY(sched_setscheduler(0, SCHED_FIFO, &parameter));
  struct timespec pause = {0, 1000000};
  for (int i = 0; i < 100; i++) {
    free(keep(malloc(10000)));
    nanosleep(&pause, NULL);
  }
  say("alive\n");
  work(30); /* its own fault */
  (void)name;
}

/* Under a policy that is made by chrt: what starts later inherits it. */
static void rttime_inherited(const char *name) {
  set(RLIMIT_RTTIME, 150000, 200000);
  struct sched_param parameter = {10};
  TRY(sched_setscheduler(0, SCHED_FIFO, &parameter));
  pid_t pid = fork();
  if (pid == 0) {
    struct timespec pause = {0, 1000000};
    for (int i = 0; i < 300; i++) nanosleep(&pause, NULL);
    _exit(0);
  }
  say_end("child", pid);
  (void)name;
}

static void file_size(const char *name) {
  signal(SIGXFSZ, on_signal);
  set(RLIMIT_FSIZE, 1000, 1000);
  int fd = open(".", O_TMPFILE | O_RDWR, 0600);
  char block[700] = "";
  say("write %zd\n", write(fd, block, sizeof block));
  say("write %zd\n", write(fd, block, sizeof block));
  TRY(write(fd, block, sizeof block));
  say("%s\n", caught ? sigabbrev_np(caught) : "none");
  (void)name;
}

static void pending(const char *name) {
  set(RLIMIT_SIGPENDING, 20, 20);
  other_user((uid_t)(66000 + getpid() % 1000));
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN);
  sigprocmask(SIG_BLOCK, &set, NULL);
  int count = 0;
  while (count < 100 && sigqueue(getpid(), SIGRTMIN, (union sigval){0}) == 0) count++;
  say("%d queued, then %s\n", count, strerrorname_np(errno));
  timer_t timer;
  TRY(timer_create(CLOCK_MONOTONIC, NULL, &timer));
  (void)name;
}

static void stack(const char *name) {
  set(RLIMIT_STACK, 256 << 10, 256 << 10);
  ordinary_life();
  execl("/bin/sh", "sh", "-c", "ulimit -s; exit 5", NULL);
  (void)name;
}

static void all_of_them(const char *name) {
  for (int i = 0; i < RLIM_NLIMITS; i++) {
    struct rlimit limit;
    if (getrlimit(i, &limit) == 0)
      say("%d: %lld %lld\n", i, (long long)limit.rlim_cur, (long long)limit.rlim_max);
  }
  (void)name;
}

#define CASE(name) \
  { #name, name }
static const struct differ_case cases[] = {
    CASE(nproc_0),          CASE(nproc_1),      CASE(nproc_2),        CASE(nproc_20),
    CASE(address_space),    CASE(data_segment), CASE(memlock_future), CASE(memlock_all),
    CASE(memlock_small),    CASE(nofile),       CASE(cpu_time),       CASE(rttime),
    CASE(rttime_inherited), CASE(file_size),    CASE(pending),        CASE(stack),
    CASE(all_of_them),
};

DIFFER_MAIN(cases)

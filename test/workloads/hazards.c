/* Hosts that preload agents are known to break, one a mode: hazards MODE. Each prints what it saw;
 * the test compares it with a plain run. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "workload.h"

extern char **environ;

/* Allocations before main, in the order that constructors run. */
static char *from_constructor, *from_early_constructor;
__attribute__((constructor(101))) static void early_constructor(void) {
  from_early_constructor = strdup("early");
}
__attribute__((constructor)) static void constructor(void) {
  from_constructor = realloc(from_early_constructor, 100000);
  strcat(from_constructor, " and late");
}
__attribute__((destructor)) static void destructor(void) {
  free(from_constructor);
  free(keep(malloc(100)));
}
static void constructors(void) { say("%s\n", from_constructor); }

static volatile int stop;
static void *allocate_until_stopped(void *argument) {
  unsigned seed = (unsigned)(intptr_t)argument + 1;
  void *kept[64] = {0};
  while (!stop) {
    seed = seed * 1103515245u + 12345u;
    free(kept[seed >> 26]);
    kept[seed >> 26] = keep(malloc((seed >> 8) % 5000));
  }
  for (int i = 0; i < 64; i++) free(kept[i]);
  return NULL;
}

static void start_threads(pthread_t *threads, int count, void *(*entry)(void *)) {
  for (intptr_t i = 0; i < count; i++)
    CHECK(pthread_create(&threads[i], NULL, entry, (void *)i) == 0);
}
static void join_threads(pthread_t *threads, int count) {
  for (int i = 0; i < count; i++) CHECK(pthread_join(threads[i], NULL) == 0);
}

static void child_work(void) {
  for (int i = 1; i < 100; i++) free(keep(calloc(1, (size_t)i * 37)));
  void *p = keep(malloc(100000));
  _exit(p ? 7 : 8);
}

static void fork_storm(void) {
  enum { FORKS = 500, THREADS = 3 };
  pthread_t threads[THREADS];
  start_threads(threads, THREADS, allocate_until_stopped);
  int good = 0;
  for (int i = 0; i < FORKS; i++) {
    pid_t pid = i % 5 == 4 ? _Fork() : fork();
    CHECK(pid >= 0);
    if (pid == 0) {
      if (i % 5 == 4) _exit(7); /* only async-signal-safe calls after _Fork */
      child_work();
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    good += WIFEXITED(status) && WEXITSTATUS(status) == 7;
  }
  stop = 1;
  join_threads(threads, THREADS);
  say("%d of %d children well\n", good, FORKS);
}

static void spawns(void) {
  fflush(stdout);
  CHECK(system("echo from system; exit 3") == 3 << 8);
  FILE *pipe = popen("echo from popen; cat /dev/null", "r");
  char line[100];
  CHECK(pipe && fgets(line, sizeof line, pipe));
  say("%s", line);
  CHECK(pclose(pipe) == 0);
  char *arguments[] = {"sh", "-c", "echo from posix_spawn", NULL};
  pid_t pid;
  int status;
  CHECK(posix_spawn(&pid, "/bin/sh", NULL, NULL, arguments, environ) == 0 &&
        waitpid(pid, &status, 0) == pid && status == 0);
  pid = vfork();
  if (pid == 0) {
    execl("/bin/sh", "sh", "-c", "echo from vfork", (char *)NULL);
    _exit(99);
  }
  CHECK(waitpid(pid, &status, 0) == pid && status == 0);
  for (volatile int i = 0; i < 50; i++) {
    pid = vfork();
    if (pid == 0) {
      execl("/nonexistent", "nonexistent", (char *)NULL);
      _exit(42);
    }
    CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 42);
  }
  pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); /* a fork that libc does not know of */
  if (pid == 0) _exit(43);
  CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 43);
  say("spawns done\n");
}

/* Only read, write, exit and sigreturn are allowed, and no time-stamp counter: a clock or a syscall
 * on the hot path kills the thread. */
static void *strict_thread(void *argument) {
  free(keep(malloc(100000))); /* the heap is large enough now; the sampler has hardly begun */
  CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
  for (int i = 0; i < 300000; i++) free(keep(malloc(64)));
  say("strict mode survived\n");
  syscall(SYS_exit, 0);
  return argument;
}
static void seccomp_strict(void) { /* in a process of its own: a violation kills by SIGKILL */
  pid_t pid = fork();
  if (pid == 0) strict_thread(NULL);
  int status;
  CHECK(waitpid(pid, &status, 0) == pid);
  say("status %d\n", status);
}
static void seccomp_strict_main(void) { strict_thread(NULL); }

static void locked_memory(void) {
  int result = mlockall(MCL_CURRENT | MCL_FUTURE);
  say("mlockall %d\n", result);
  for (int i = 0; i < 10000; i++) keep(malloc(100));
  pthread_t threads[4];
  stop = 0;
  start_threads(threads, 4, allocate_until_stopped);
  usleep(20000);
  stop = 1;
  join_threads(threads, 4);
}

/* Until malloc fails (a limit on the address space is set): the failure is ENOMEM, and the program
 * goes on. */
static void out_of_memory(void) {
  void *list = NULL;
  size_t count = 0;
  for (;;) {
    void **block = keep(malloc(100000));
    if (!block) break;
    *block = list;
    list = block;
    CHECK(++count < 100000);
  }
  say("malloc failed with %s after many: %s\n", strerrorname_np(errno), count > 100 ? "yes" : "no");
  while (list) {
    void *next = *(void **)list;
    free(list);
    list = next;
  }
  CHECK(keep(malloc(100000)));
}

static void cleanup(void *argument) { free(argument); }
static void *cancelled(void *argument) {
  pthread_cleanup_push(cleanup, keep(malloc(100)));
  for (;;) {
    free(keep(malloc(300)));
    pthread_testcancel();
  }
  pthread_cleanup_pop(1);
  return argument;
}
static void cancellation(void) {
  int good = 0;
  for (int i = 0; i < 200; i++) {
    pthread_t thread;
    void *result;
    CHECK(pthread_create(&thread, NULL, cancelled, NULL) == 0);
    CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, &result) == 0);
    good += result == PTHREAD_CANCELED;
  }
  say("%d cancelled\n", good);
}

static void at_exit(void) { say("atexit ran\n"); }
static void *last_thread(void *argument) {
  usleep(50000);
  free(keep(malloc(10)));
  say("last thread ends\n");
  return argument;
}
static void main_thread_exits(void) {
  atexit(at_exit);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, last_thread, NULL) == 0);
  pthread_detach(thread);
  pthread_exit(NULL);
}

static void dispositions(void) { /* after a scrape: nothing of the process's signals has changed */
  ready();
  for (int number = 1; number < 32; number++) {
    struct sigaction action;
    if (sigaction(number, NULL, &action) == 0 && action.sa_handler != SIG_DFL)
      say("signal %d: %p\n", number, (void *)action.sa_handler);
  }
  sigset_t set;
  pthread_sigmask(SIG_SETMASK, NULL, &set);
  for (int number = 1; number < 32; number++)
    if (sigismember(&set, number)) say("blocked: %d\n", number);
  say("dispositions done\n");
}

static void signals_to_the_host(void) { /* every signal must reach the thread that waits for it */
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  int got = 0;
  for (int i = 0; i < 200; i++) {
    kill(getpid(), i % 2 ? SIGTERM : SIGUSR1);
    int number;
    CHECK(sigwait(&set, &number) == 0);
    got += number == (i % 2 ? SIGTERM : SIGUSR1);
  }
  say("%d signals\n", got);
}

static void descriptors(void) {
  ready();
  DIR *directory = opendir("/proc/self/fd");
  for (struct dirent *entry; (entry = readdir(directory));)
    if (entry->d_name[0] != '.') say("descriptor %s\n", entry->d_name);
  closedir(directory);
  int first = open("/dev/null", O_RDONLY);
  say("the next open gives %d\n", first);
  closefrom(3);
  for (int i = 3; i < 10; i++) CHECK(open("/dev/null", O_WRONLY) == i);
  ready(); /* scraped again: nothing of ours may be written to */
  close(0);
  say("after close(0), open gives %d\n", open("/dev/null", O_RDONLY));
}

static void environment(void) {
  clearenv();
  setenv("SOME", "thing", 1);
  for (int i = 0; i < 100; i++) free(keep(malloc(1000)));
  pid_t pid = fork();
  if (pid == 0) child_work();
  int status;
  CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 7);
  ready();
}

static void *short_thread(void *argument) {
  for (int i = 0; i < 20; i++) free(keep(malloc((size_t)i * 100)));
  return argument;
}
static void short_threads(void) {
  for (int phase = 0; phase < 2; phase++) {
    for (int i = 0; i < (phase ? 10000 : 200); i++) {
      pthread_t thread;
      CHECK(pthread_create(&thread, NULL, short_thread, NULL) == 0);
      CHECK(pthread_join(thread, NULL) == 0);
    }
    ready();
  }
}

/* a library whose malloc is libc's own: its pointers are foreign to the agent */
static void deepbind(const char *plugin) {
  void *handle = dlopen(plugin, RTLD_NOW | RTLD_DEEPBIND);
  CHECK(handle);
  void *(*allocate)(size_t) = (void *(*)(size_t))dlsym(handle, "plugin_allocate");
  void (*release)(void *) = (void (*)(void *))dlsym(handle, "plugin_release");
  for (size_t size = 1; size < 20000; size += 7) {
    free(keep(allocate(size)));
    /* sampled ones are genuine pointers of the allocator: a free past the agent is harmless */
    release(keep(malloc(size)));
    void *p = keep(realloc(keep(allocate(size)), size * 2));
    release(p);
  }
  say("deepbind done\n");
}

static void plugins(const char *plugin) { /* dlopen and dlclose until told to stop */
  say("ready\n");
  fcntl(0, F_SETFL, O_NONBLOCK);
  char c;
  long rounds = 0;
  while (read(0, &c, 1) != 1) {
    void *handle = dlopen(plugin, RTLD_NOW);
    CHECK(handle);
    void *(*allocate)(size_t) = (void *(*)(size_t))dlsym(handle, "plugin_allocate");
    for (int i = 0; i < 10; i++) free(keep(allocate(100)));
    keep(allocate(33));
    CHECK(dlclose(handle) == 0);
    rounds++;
  }
  fcntl(0, F_SETFL, 0);
  say("rounds %ld\n", rounds);
  ready();
}

int main(int argc, char **argv) {
  CHECK(argc >= 2);
  const char *plugin = argc > 2 ? argv[2] : "";
  int known = 0;
#define MODE(name, call) \
  if (strcmp(argv[1], #name) == 0) known = 1, call
  MODE(constructors, constructors());
  MODE(fork_storm, fork_storm());
  MODE(spawns, spawns());
  MODE(seccomp_strict, seccomp_strict());
  MODE(seccomp_strict_main, seccomp_strict_main());
  MODE(locked_memory, locked_memory());
  MODE(out_of_memory, out_of_memory());
  MODE(cancellation, cancellation());
  MODE(main_thread_exits, main_thread_exits());
  MODE(dispositions, dispositions());
  MODE(signals_to_the_host, signals_to_the_host());
  MODE(descriptors, descriptors());
  MODE(environment, environment());
  MODE(short_threads, short_threads());
  MODE(deepbind, deepbind(plugin));
  MODE(plugins, plugins(plugin));
  CHECK(known);
  return 0;
}

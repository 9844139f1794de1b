/* thread_counts: counts its threads in every way that libc has, and prints what it finds: a line a
 * way. First argument: what else it does meanwhile. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "workload.h"

int __xstat(int version, const char *path, struct stat *status);
int __xstat64(int version, const char *path, struct stat64 *status);
int __lxstat(int version, const char *path, struct stat *status);
int __lxstat64(int version, const char *path, struct stat64 *status);
int __fxstatat(int version, int directory, const char *path, struct stat *status, int flags);
int __fxstatat64(int version, int directory, const char *path, struct stat64 *status, int flags);
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int directory, const char *path, int flags);
int __openat64_2(int directory, const char *path, int flags);

static const char task[] = "/proc/self/task", text[] = "/proc/self/stat", at[] = "self/task/";
static int proc;
static char own[64]; /* "/proc/PID/" and what follows */

static const char *of_own(const char *name) {
  snprintf(own, sizeof own, "/proc/%d/%s", (int)getpid(), name);
  return own;
}

/* ---- by links ---- */

#define BY_LINKS(call)                                        \
  do {                                                        \
    struct stat status;                                       \
    errno = 0;                                                \
    say("%s: %d", #call, (int)(call));                        \
    say(", %d, errno %d\n", (int)status.st_nlink - 2, errno); \
  } while (0)

static int by_statx(int directory, const char *path, struct stat *status) {
  struct statx found;
  int result = statx(directory, path, 0, STATX_NLINK, &found);
  status->st_nlink = found.stx_nlink;
  return result;
}

static void links(void) {
  BY_LINKS(stat(task, &status));
  BY_LINKS(stat64(of_own("task"), (struct stat64 *)&status));
  BY_LINKS(lstat(of_own("task/"), &status));
  BY_LINKS(lstat64(task, (struct stat64 *)&status));
  BY_LINKS(fstatat(AT_FDCWD, task, &status, 0));
  BY_LINKS(fstatat64(proc, at, (struct stat64 *)&status, 0));
  BY_LINKS(by_statx(AT_FDCWD, task, &status));
  BY_LINKS(by_statx(proc, at, &status));
  BY_LINKS(__xstat(1, task, &status));
  BY_LINKS(__xstat64(1, task, (struct stat64 *)&status));
  BY_LINKS(__lxstat(1, task, &status));
  BY_LINKS(__lxstat64(1, task, (struct stat64 *)&status));
  BY_LINKS(__fxstatat(1, proc, at, &status, 0));
  BY_LINKS(__fxstatat64(1, AT_FDCWD, task, (struct stat64 *)&status, 0));
}

/* ---- by a field ---- */

static int field(const char *content) {
  const char *line = strstr(content, "Threads:"), *after = strrchr(content, ')');
  if (line) return atoi(line + 8);
  for (int i = 0; after && i < 18; i++) after = strchr(after + 1, ' ');
  return after ? atoi(after) : -1;
}

static int read_field(int file) {
  char content[4096] = "";
  ssize_t size = read(file, content, sizeof content - 1);
  return size < 0 ? -1 : field(content);
}

static int opened(int file) {
  int found = read_field(file);
  CHECK(close(file) == 0);
  return found;
}

static int by_descriptor_of_stream(int file) {
  FILE *stream = fdopen(file, "r");
  int found = read_field(fileno(stream));
  CHECK(fclose(stream) == 0);
  return found;
}

static int streamed(FILE *stream) {
  char content[4096] = "";
  CHECK(stream);
  size_t size = fread(content, 1, sizeof content - 1, stream);
  CHECK(size > 0 && fclose(stream) == 0);
  return field(content);
}

/* ---- by entries ---- */

static int entries(DIR *directory) {
  int count = 0;
  CHECK(directory);
  for (struct dirent *entry; (entry = readdir(directory));) count += entry->d_name[0] != '.';
  CHECK(closedir(directory) == 0);
  return count;
}

static int scanned(void) {
  struct dirent **list;
  int count = scandir(task, &list, NULL, alphasort);
  for (int i = 0; i < count; i++) free(list[i]);
  free(list);
  return count - 2;
}

static int scanned64(void) {
  struct dirent64 **list;
  int count = scandir64(of_own("task"), &list, NULL, alphasort64);
  for (int i = 0; i < count; i++) free(list[i]);
  free(list);
  return count - 2;
}

/* Of two that are open the first is closed first. */
static int two_at_once(void) {
  int first = open(text, O_RDONLY), second = open(text, O_RDONLY);
  close(first);
  return opened(second);
}

#define FOUND(call)                                  \
  do {                                               \
    errno = 0;                                       \
    int found_ = (call);                             \
    say("%s: %d, errno %d\n", #call, found_, errno); \
  } while (0)

static void files(void) {
  FOUND(opened(open(text, O_RDONLY)));
  FOUND(opened(open64("/proc/self/status", O_RDONLY | O_CLOEXEC)));
  FOUND(opened(openat(proc, "self/stat", O_RDONLY)));
  FOUND(opened(openat64(AT_FDCWD, of_own("status"), O_RDONLY)));
  FOUND(opened(open("/proc/thread-self/status", O_RDONLY)));
  FOUND(opened(__open_2(text, O_RDONLY)));
  FOUND(opened(__open64_2(of_own("stat"), O_RDONLY)));
  FOUND(opened(__openat_2(proc, "self/status", O_RDONLY)));
  FOUND(opened(__openat64_2(AT_FDCWD, text, O_RDONLY)));
  FOUND(by_descriptor_of_stream(open(text, O_RDONLY)));
  FOUND(streamed(fopen(text, "r")));
  FOUND(streamed(fopen64(of_own("status"), "re")));
  FOUND(entries(opendir(task)));
  FOUND(entries(fdopendir(openat(proc, "self/task", O_RDONLY | O_DIRECTORY))));
  FOUND(scanned());
  FOUND(scanned64());
  FOUND(two_at_once());
}

/* ---- what else ---- */

/* As Python 3.12 does after os.fork. */
static void forks(void) {
  for (int i = 0; i < 3; i++) {
    pid_t pid = fork();
    if (pid == 0) {
      say("child: %d\n", streamed(fopen(text, "r")));
      _exit(0);
    }
    CHECK(waitpid(pid, NULL, 0) == pid);
    FOUND(streamed(fopen(text, "r")));
  }
}

/* A parent that counts shares its port with a child that does not. */
static void with_a_child(void) {
  pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pause();
  }
  say("child %d\n", (int)pid);
  ready();
  for (int i = 0; i < 5; i++) FOUND(streamed(fopen(text, "r")));
}

/* A child has the descriptor too, and one of vfork the memory as well. */
static void child_closes(void) {
  int file = open(text, O_RDONLY);
  pid_t pid = vfork();
  if (pid == 0) {
    close(file);
    _exit(0);
  }
  CHECK(waitpid(pid, NULL, 0) == pid);
  pid = fork();
  if (pid == 0) {
    close(file);
    _exit(0);
  }
  CHECK(waitpid(pid, NULL, 0) == pid);
  FOUND(opened(file));
}

static volatile sig_atomic_t others, handled; /* counts in a handler that were not 1 */
static void handler(int number) {
  struct stat status;
  int before = errno;
  if (stat(task, &status) != 0 || status.st_nlink != 3) others++;
  close(open(text, O_RDONLY));
  handled++;
  errno = before;
  (void)number;
}

/* A handler counts too, wherever it comes. */
static void handlers(void) {
  enum { TICKS = 100 };
  struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
  struct itimerval timer = {{0, 3000}, {0, 3000}};
  CHECK(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &timer, NULL) == 0);
  int wrong = 0;
  while (handled < TICKS) {
    struct stat status;
    wrong += stat(task, &status) != 0 || status.st_nlink != 3;
    close(open(text, O_RDONLY));
    free(keep(malloc(100000)));
  }
  timer = (struct itimerval){{0, 0}, {0, 0}};
  setitimer(ITIMER_REAL, &timer, NULL);
  say("wrong: %d, in the handler: %d\n", wrong, (int)others);
}

/* More often than the agent goes away for. */
static void often(void) {
  int several = 0;
  for (int i = 0; i < 2000; i++) several += opened(open(text, O_RDONLY)) != 1;
  say("more than one: %s\n", several ? "some" : "never");
}

static void *wait_for_end(void *unused) {
  pause();
  return unused;
}

static void *closes(void *file) {
  CHECK(close(*(int *)file) == 0);
  return NULL;
}

/* By then the agent is back, and need not come again. */
static void another_closes(void) {
  int file = open(text, O_RDONLY);
  say("kept: %d\n", read_field(file));
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, closes, &file) == 0 && pthread_join(thread, NULL) == 0);
  ready();
  for (int i = 0; i < 100; i++) free(keep(malloc(1 << 20)));
}

static void with_a_thread(void) {
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, wait_for_end, NULL) == 0);
  ready();
  for (int i = 0; i < 100; i++) {
    struct stat status;
    CHECK(stat(task, &status) == 0 && opened(open(text, O_RDONLY)) >= 2);
  }
}

/* What is never closed is forgotten at a later call of some kind. */
static void kept_open(const char *until) {
  int file = open(text, O_RDONLY);
  say("kept: %d\n", read_field(file));
  ready();
  if (strcmp(until, "until it opens") == 0) close(open("/dev/null", O_RDONLY));
  if (strcmp(until, "until it allocates") == 0)
    for (int i = 0; i < 100; i++) free(keep(malloc(1 << 20)));
  if (strcmp(until, "until it has a thread") == 0) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, wait_for_end, NULL) == 0);
  }
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  proc = open("/proc", O_RDONLY | O_DIRECTORY);
  ready();
  if (strcmp(what, "links") == 0) links();
  if (strcmp(what, "files") == 0) files();
  if (strcmp(what, "forks") == 0) forks();
  if (strcmp(what, "with a child") == 0) with_a_child();
  if (strcmp(what, "child closes") == 0) child_closes();
  if (strcmp(what, "handlers") == 0) handlers();
  if (strcmp(what, "often") == 0) often();
  if (strcmp(what, "another closes") == 0) another_closes();
  if (strcmp(what, "with a thread") == 0) with_a_thread();
  if (strncmp(what, "until", 5) == 0) kept_open(what);
  ready();
  wait_for_line();
  return 0;
}

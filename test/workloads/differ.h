/* Cases whose lines are compared with those of a run without the agent: PROGRAM CASE
 * [forked|early]. `list` names the cases. A case runs once a line has come from stdin: in the
 * process itself, or `forked`, in a child of it; `early`: as soon as the process runs, while its
 * agent starts. What varies from run to run (pids, addresses) is not printed. */
#ifndef DIFFER_H
#define DIFFER_H

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "workload.h"

struct differ_case {
  const char *name;
  void (*run)(const char *name);
};

static inline const char *error_name(long result, int error) {
  return result == -1 ? strerrorname_np(error) : result == 0 ? "0" : "more than 0";
}

/* What a call answers: 0, "more than 0", or its error. */
#define TRY(call)                                       \
  ({                                                    \
    errno = 0;                                          \
    long result_ = (long)(call);                        \
    say("%s: %s\n", #call, error_name(result_, errno)); \
    result_;                                            \
  })

static inline void say_status(const char *what, int status) {
  if (WIFEXITED(status)) say("%s: exit %d\n", what, WEXITSTATUS(status));
  else if (WIFSIGNALED(status)) say("%s: signal %s\n", what, sigabbrev_np(WTERMSIG(status)));
  else say("%s: status %#x\n", what, status);
}

/* Waits for a child, whose end is a line. */
static inline void say_end(const char *what, pid_t pid) {
  int status = 0;
  pid_t ended;
  do ended = waitpid(pid, &status, __WALL);
  while (ended == -1 && errno == EINTR);
  if (ended != pid) say("%s: waitpid: %s\n", what, strerrorname_np(errno));
  else say_status(what, status);
}

/* A line of a file of /proc, from its name on. */
static inline void say_field(const char *path, const char *name) {
  char line[512];
  FILE *file = fopen(path, "r");
  if (!file) {
    say("%s: %s\n", path, strerrorname_np(errno));
    return;
  }
  while (fgets(line, sizeof line, file))
    if (strncmp(line, name, strlen(name)) == 0) say("%s", line);
  fclose(file);
}

static inline void *touch(void *argument) {
  free(memset(keep(malloc(1000)), 1, 1000));
  return argument;
}

/* What any child may do: allocate, take part in stdio, fork, have threads. */
static inline void ordinary_life(void) {
  void *blocks[200];
  for (size_t i = 0; i < 200; i++) memset(blocks[i] = keep(malloc(i * 600 + 1)), 1, i * 600 + 1);
  for (size_t i = 0; i < 200; i++) free(blocks[i]);
  FILE *file = fopen("/dev/zero", "r");
  say("getc: %d\n", file ? getc(file) : -2);
  if (file) fclose(file);
  pid_t pid = fork();
  if (pid == 0) {
    touch(NULL);
    _exit(7);
  }
  if (pid > 0) say_end("grandchild", pid);
  else say("fork: %s\n", strerrorname_np(errno));
  pthread_t thread;
  int error = pthread_create(&thread, NULL, touch, NULL);
  if (error == 0) error = pthread_join(thread, NULL);
  say("thread: %s\n", error ? strerrorname_np(error) : "0");
}

static inline int differ_main(int argc, char **argv, const struct differ_case *cases,
                              size_t count) {
  if (argc < 2) return 2;
  for (size_t i = 0; i < count; i++) {
    if (strcmp(argv[1], "list") == 0) {
      say("%s\n", cases[i].name);
    } else if (strcmp(argv[1], cases[i].name) == 0) {
      const char *form = argc > 2 ? argv[2] : "";
      if (strcmp(form, "early") != 0) ready();
      if (strcmp(form, "forked") == 0) {
        pid_t pid = fork();
        if (pid != 0) {
          say_end("case", pid);
          return 0;
        }
      }
      alarm(60); /* what hangs ends, and is seen */
      cases[i].run(cases[i].name);
      return 0;
    }
  }
  return strcmp(argv[1], "list") != 0;
}

#define DIFFER_MAIN(cases)                                               \
  int main(int argc, char **argv) {                                      \
    return differ_main(argc, argv, cases, sizeof cases / sizeof *cases); \
  }

#endif

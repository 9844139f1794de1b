/* Forks N short-lived children, one after the other: forker N MEGABYTES; MEGABYTES: touched by the
 * parent before. Each child allocates a little. Prints wall microseconds and CPU microseconds (of
 * all, children included) a fork. The first forks are not counted. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

static double cpu(void) {
  struct rusage children;
  getrusage(RUSAGE_CHILDREN, &children);
  return now(CLOCK_PROCESS_CPUTIME_ID) +
         (double)(children.ru_utime.tv_sec + children.ru_stime.tv_sec) * 1e6 +
         (double)(children.ru_utime.tv_usec + children.ru_stime.tv_usec);
}

static int fork_once(int code) {
  pid_t pid = fork();
  if (pid == 0) {
    for (int i = 1; i < 20; i++) free(memset(malloc((size_t)i * 100), i, (size_t)i * 100));
    _exit(code);
  }
  int status;
  return pid > 0 && waitpid(pid, &status, 0) == pid && status == code << 8;
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  int count = atoi(argv[1]);
  size_t bytes = (size_t)atoi(argv[2]) << 20;
  char *memory = malloc(bytes + 1);
  memset(memory, 1, bytes + 1);
  for (int i = 0; i < 50; i++)
    if (!fork_once(i)) return 1;
  double wall_before = now(CLOCK_MONOTONIC), cpu_before = cpu();
  for (int i = 0; i < count; i++)
    if (!fork_once(i % 200)) return 1;
  printf("%.1f %.1f\n", (now(CLOCK_MONOTONIC) - wall_before) / count, (cpu() - cpu_before) / count);
  return memory[bytes] != 1;
}

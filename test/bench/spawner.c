/* Runs a command N times, one after the other: spawner N COMMAND...; prints wall microseconds and
 * CPU microseconds (of the children) a run. SPAWN_PRELOAD becomes the children's LD_PRELOAD: this
 * process itself runs without. SPAWN_WAIT: begins when it has read a line. */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  int count = atoi(argv[1]);
  const char *preload = getenv("SPAWN_PRELOAD");
  if (preload && *preload) setenv("LD_PRELOAD", preload, 1);
  unsetenv("SPAWN_PRELOAD");
  if (getenv("SPAWN_WAIT") && getchar() == EOF) return 1;
  unsetenv("SPAWN_WAIT");
  struct timespec start, end;
  clock_gettime(CLOCK_MONOTONIC, &start);
  for (int i = 0; i < count; i++) {
    pid_t pid;
    int status;
    if (posix_spawnp(&pid, argv[2], NULL, NULL, argv + 2, environ) != 0 ||
        waitpid(pid, &status, 0) != pid || status != 0)
      return 1;
  }
  clock_gettime(CLOCK_MONOTONIC, &end);
  struct rusage usage;
  getrusage(RUSAGE_CHILDREN, &usage);
  double wall =
      (double)(end.tv_sec - start.tv_sec) * 1e6 + (double)(end.tv_nsec - start.tv_nsec) / 1e3;
  double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
               (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
  printf("%.1f %.1f\n", wall / count, cpu / count);
  return 0;
}

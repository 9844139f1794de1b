/* A program that locks its memory and lives within a limit: it takes many megabytes (the first
 * argument) again and again, and starts a thread each time. It tells what was refused, and how much
 * was locked before. The second argument: how it calls mlockall. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "workload.h"

enum { BLOCKS_MAX = 1024, BLOCK = 64 << 10, ROUNDS = 30, STACK = 256 << 10 };

static long locked_kilobytes(void) {
  char status[4096] = "";
  char path[64]; /* not /proc/self/status: for that the agent leaves */
  snprintf(path, sizeof path, "/proc/self/task/%d/status", (int)getpid());
  FILE *file = fopen(path, "r");
  CHECK(file && fread(status, 1, sizeof status - 1, file) > 0 && fclose(file) == 0);
  const char *found = strstr(status, "VmLck:");
  CHECK(found);
  return strtol(found + 6, NULL, 10);
}

static void *ends(void *argument) { return argument; }

static void start_thread(const pthread_attr_t *attributes, unsigned *refused) {
  pthread_t thread;
  if (pthread_create(&thread, attributes, ends, NULL)) ++*refused;
  else CHECK(pthread_join(thread, NULL) == 0);
}

int main(int count, char **arguments) {
  CHECK(count == 3);
  unsigned blocks = (unsigned)atoi(arguments[1]) * 16, memory = 0, threads = 0;
  CHECK(blocks <= BLOCKS_MAX);
  int flags = MCL_CURRENT | MCL_FUTURE;
  int by_number = !strcmp(arguments[2], "syscall");
  int result = by_number ? (int)syscall(SYS_mlockall, flags) : mlockall(flags);
  static char *kept[BLOCKS_MAX];
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, STACK);
  start_thread(&attributes, &threads); /* libc keeps its stack */
  say("mlockall %d, locked %ld\n", result, locked_kilobytes());
  ready();
  for (int round = 0; round < ROUNDS; round++) {
    for (unsigned i = 0; i < blocks; i++) {
      void *block = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      memory += block == MAP_FAILED;
      kept[i] = block == MAP_FAILED ? NULL : block;
    }
    start_thread(&attributes, &threads);
    usleep(50000);
    for (unsigned i = 0; i < blocks; i++)
      if (kept[i]) munmap(kept[i], BLOCK);
  }
  say("refused: memory %u, threads %u\n", memory, threads);
  ready();
  return 0;
}

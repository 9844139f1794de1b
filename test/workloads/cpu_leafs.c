/* Places where a tick may find a program: cpu_leafs MODE runs in one of them until it can read a
 * line. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>

#include "workload.h"

static volatile int stop;

/* The vdso: no system call, no object file. */
static FRAME void ask_the_clock(void) {
  struct timespec time;
  while (!stop) clock_gettime(CLOCK_MONOTONIC, &time);
  __asm__ volatile("");
}

/* A library's function that does nothing: half of the time goes to the stub that leads there. */
void library_nothing(void);
static FRAME void call_nothing(void) {
  while (!stop) library_nothing();
  __asm__ volatile("");
}

/* Code that no table describes: dec %rdi; jnz; ret. Its caller stands right above the return
 * address, but nothing says so. */
static long (*jit)(long);
static void make_jit(void) {
  static const unsigned char code[] = {0x48, 0xff, 0xcf, 0x75, 0xfb, 0x48, 0x31, 0xc0, 0xc3};
  void *memory =
      mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED);
  memcpy(memory, code, sizeof code);
  jit = (long (*)(long))memory;
  char path[64];
  snprintf(path, sizeof path, "/tmp/perf-%d.map", (int)getpid());
  FILE *map = fopen(path, "w");
  CHECK(map);
  fprintf(map, "%lx %lx jitted_loop\n", (unsigned long)memory, sizeof code);
  fclose(map);
}
static FRAME void call_jit(void) {
  while (!stop) jit(10000000);
  __asm__ volatile("");
}

/* In the kernel: the frames are the wrapper's. */
static FRAME void fill_from_kernel(void) {
  static char buffer[1 << 20];
  int descriptor = open("/dev/urandom", O_RDONLY);
  while (!stop) CHECK(read(descriptor, buffer, sizeof buffer) > 0);
}

static void (*work)(void);
static void *run(void *unused) {
  work();
  return unused;
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  if (strcmp(argv[1], "vdso") == 0) work = ask_the_clock;
  if (strcmp(argv[1], "stub") == 0) work = call_nothing;
  if (strcmp(argv[1], "jit") == 0) make_jit(), work = call_jit;
  if (strcmp(argv[1], "kernel") == 0) work = fill_from_kernel;
  CHECK(work);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, run, NULL) == 0);
  ready();
  stop = 1;
  pthread_join(thread, NULL);
  char path[64];
  snprintf(path, sizeof path, "/tmp/perf-%d.map", (int)getpid());
  if (jit) unlink(path);
  return 0;
}

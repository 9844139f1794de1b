/* Names that would spoil a page: of threads (one spins, the others wait), of the program's own
 * first thread, of JIT code. Prints `thread TID NUMBER` for each entry of `names`, and the address
 * of the code. x86-64. */
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "workload.h"

static const char *const names[] = {"new\nline",
                                    "tab\tx",
                                    "\xff\xfe bad",
                                    "\x1b[31mred",
                                    "a]b: 1 [run",
                                    "x, 99=forged",
                                    "c1\xc2\x9b"
                                    "x",
                                    "cut1234567890\xc3\xa9",
                                    "<script>\"'&",
                                    "\xe2\x82\xac uro",
                                    "a; b",
                                    "goroutine 1 [",
                                    "\x7f\x01"};
enum { NAMES = sizeof names / sizeof *names };
static volatile int stop;
static pthread_barrier_t all_are_named;
static volatile long turns;

static void *run(void *argument) {
  long number = (long)argument;
  prctl(PR_SET_NAME, names[number], 0, 0, 0);
  say("thread %ld %ld\n", syscall(SYS_gettid), number);
  pthread_barrier_wait(&all_are_named);
  while (!stop) {
    if (number == 2) turns++;
    else usleep(20000);
  }
  return NULL;
}

/* Allocates at a place that /tmp/perf-PID.map calls by a name that holds no UTF-8 and a control
 * character. */
static void allocate_in_jit_code(void) {
  unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0x48, 0xb8, 0,    0,   0, 0,
                          0,    0,    0,    0,    0xff, 0xd0, 0x5d, 0xc3}; /* calls malloc(rdi) */
  void *target = (void *)(uintptr_t)malloc;
  memcpy(code + 6, &target, sizeof target);
  unsigned char *at =
      mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(at != MAP_FAILED);
  memcpy(at, code, sizeof code);
  char path[64];
  snprintf(path, sizeof path, "/tmp/perf-%d.map", (int)getpid());
  FILE *map = fopen(path, "w");
  CHECK(map != NULL);
  fprintf(map, "%lx %zx jit\x1b[1m\xff\xc2\x9b.code\n", (unsigned long)at, sizeof code);
  fclose(map);
  for (int i = 0; i < 10; i++) keep(((void *(*)(size_t))at)(2000));
  say("code %#lx\n", (unsigned long)at);
}

int main(void) {
  static pthread_t threads[NAMES];
  allocate_in_jit_code();
  CHECK(pthread_barrier_init(&all_are_named, NULL, NAMES + 1) == 0);
  for (long i = 0; i < NAMES; i++) CHECK(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
  prctl(PR_SET_NAME, "main\n<b>\xff\x1b", 0, 0, 0);
  pthread_barrier_wait(&all_are_named);
  ready();
  stop = 1;
  for (int i = 0; i < NAMES; i++) pthread_join(threads[i], NULL);
  char path[64];
  snprintf(path, sizeof path, "/tmp/perf-%d.map", (int)getpid());
  unlink(path);
  return 0;
}

/* Resident memory of known kinds and sizes, in MB: malloc'ed in small blocks by main (HEAP) and by
 * a thread (ARENA), anonymous, shared, of a file as it is and written to, on a thread's stack. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/mman.h>

#include "workload.h"

#define MB ((size_t)1 << 20)
enum { HEAP = 20, ARENA = 9, ANONYMOUS = 30, SHARED = 12, STACK = 5 };
enum { FILE_READ = 16, FILE_WRITTEN = 7 };

static void touch(volatile char *start, size_t size) {
  for (size_t i = 0; i < size; i += 4096) start[i] = 1;
}
static void allocate(size_t size) {
  for (size_t i = 0; i < size / 4096; i++) touch(keep(malloc(4080)), 4080);
}

static void *thread(void *barrier) {
  char stack[STACK * MB];
  touch(stack, sizeof stack);
  allocate(ARENA * MB);
  pthread_barrier_wait(barrier);
  sleep(1000);
  return stack;
}

static char *map(int flags, int file, size_t size) {
  char *start = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, file, 0);
  CHECK(start != MAP_FAILED);
  return start;
}

int main(void) {
  allocate(HEAP * MB);
  char name[] = "/tmp/pprofagent-resident-XXXXXX";
  int file = mkstemp(name);
  CHECK(file >= 0 && ftruncate(file, (FILE_READ + FILE_WRITTEN) * MB) == 0 && unlink(name) == 0);
  touch(map(MAP_PRIVATE | MAP_ANONYMOUS, -1, ANONYMOUS * MB), ANONYMOUS * MB);
  touch(map(MAP_SHARED | MAP_ANONYMOUS, -1, SHARED * MB), SHARED * MB);
  char *mapped = map(MAP_PRIVATE, file, (FILE_READ + FILE_WRITTEN) * MB);
  for (size_t i = 0; i < FILE_READ * MB; i += 4096) *(volatile char *)(mapped + i);
  touch(mapped + FILE_READ * MB, FILE_WRITTEN * MB);
  pthread_barrier_t barrier;
  pthread_t id;
  pthread_barrier_init(&barrier, NULL, 2);
  CHECK(pthread_create(&id, NULL, thread, &barrier) == 0);
  pthread_barrier_wait(&barrier);
  say("brk_heap %d\narenas %d\nanonymous %d\nshared %d\nfile_pages %d\nfile_copies %d\nstacks %d\n",
      HEAP, ARENA, ANONYMOUS, SHARED, FILE_READ, FILE_WRITTEN, STACK);
  ready();
  return 0;
}

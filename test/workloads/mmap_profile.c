/* Anonymous mappings that are known to the byte: made by f, g, h, cut, moved, grown, refused. With
 * an argument: so many mappings of 96 KB by many(), of which every other is unmapped. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "workload.h"

enum { KB = 1024, MB = 1024 * KB };

static char *map_at(void *where, size_t size, int kind) {
  char *start = mmap(where, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | kind, -1, 0);
  if (start == MAP_FAILED) _exit(3);
  return keep(start);
}
#define MAPS(name)                                   \
  FRAME static char *name(size_t size) {             \
    char *start = map_at(NULL, size, MAP_ANONYMOUS); \
    __asm__ volatile("");                            \
    return start;                                    \
  }
MAPS(f)
MAPS(g)
MAPS(h)
MAPS(moved)
MAPS(reserved)
MAPS(gone)
MAPS(many)

FRAME static char *grows(char *start, size_t size, size_t to) {
  char *grown = mremap(start, size, to, MREMAP_MAYMOVE);
  if (grown == MAP_FAILED) _exit(4);
  return keep(grown);
}

FRAME static char *commits(char *start, size_t size) {
  return map_at(start, size, MAP_ANONYMOUS | MAP_FIXED);
}

FRAME static char *shared(size_t size) {
  char *start = mmap64(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED) _exit(5);
  return keep(start);
}

FRAME static char *of_file(size_t size) {
  int file = open("/proc/self/exe", O_RDONLY);
  char *start = mmap(NULL, size, PROT_READ, MAP_PRIVATE, file, 0);
  close(file);
  if (start == MAP_FAILED) _exit(6);
  return keep(start);
}

/* What is refused changes nothing, and says why. */
static void refused(char *start) {
  errno = 0;
  if (munmap(start + 1, MB) != -1 || errno != EINVAL) _exit(10);
  if (munmap(start, 0) != -1 || errno != EINVAL) _exit(11);
  if (munmap(start, (size_t)-1) != -1 || errno != EINVAL) _exit(12);
  if (mremap(start, MB, (size_t)1 << 46, MREMAP_MAYMOVE) != MAP_FAILED) _exit(13);
  say("errno %d\n", errno);
  if (mremap(start, MB, 64 * MB, 0x100) != MAP_FAILED || errno != EINVAL) _exit(14);
  if (mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED || errno != EINVAL)
    _exit(15);
  if (mmap(NULL, MB, PROT_READ, MAP_PRIVATE, -1, 0) != MAP_FAILED || errno != EBADF) _exit(16);
  errno = 77;
  char *fine = gone(MB);
  if (munmap(fine, MB) != 0 || errno != 77) _exit(17);
}

static void map_all(void) {
  memset(f(4 * MB), 1, 1 * MB); /* a quarter of it is touched */
  char *cut = g(10 * MB);
  memset(cut, 1, 10 * MB);
  munmap(cut + 2 * MB, 3 * MB); /* from the middle */
  munmap(cut + 9 * MB, 1 * MB); /* its end */
  munmap(cut, 4 * KB); /* a page */
  char *whole = h(6 * MB);
  munmap(whole, 6 * MB);
  refused(f(1 * MB));

  char *small = moved(2 * MB);
  memset(small, 1, 2 * MB);
  (void)moved(64 * KB); /* above it, perhaps: it must move to grow */
  grows(small, 2 * MB, 7 * MB);
  char *shrunk = moved(3 * MB);
  mremap(shrunk, 3 * MB, 1 * MB, 0);

  char *area = reserved(64 * MB);
  for (int i = 0; i < 8; i++) commits(area + i * 4 * MB, 1 * MB);
  map_at(area + 40 * MB, 4 * KB, MAP_ANONYMOUS | MAP_FIXED); /* still the area's */
  shared(5 * MB);
  of_file(128 * KB);
  (void)many(60 * KB); /* too small */
  mmap(area + 50 * MB, 64 * KB, PROT_NONE, MAP_PRIVATE | MAP_FIXED,
       open("/proc/self/exe", O_RDONLY), 0); /* a file takes a part of it */
}

/* ---- what many threads do, with a handler that maps too ---- */

enum { THREADS = 6, ROUNDS = 3000 };

static void on_signal(int number) {
  (void)number;
  int error = errno;
  char *start = gone(80 * KB);
  munmap(start + 16 * KB, 64 * KB);
  munmap(start, 16 * KB);
  errno = error;
}

static void *churn(void *argument) {
  unsigned seed = (unsigned)(uintptr_t)argument;
  for (int i = 0; i < ROUNDS; i++) {
    size_t size = (size_t)(16 + rand_r(&seed) % 64) * 16 * KB;
    char *start = gone(size);
    *start = 1;
    if (i % 3 == 0) start = grows(start, size, size + 128 * KB), size += 128 * KB;
    munmap(start + size / 2 / 4096 * 4096, size - size / 2 / 4096 * 4096);
    munmap(start, size / 2 / 4096 * 4096);
    if (i % 64 == 0) raise(SIGUSR1);
    if (i % 1000 == 0) {
      pid_t child = fork();
      if (child == 0) _exit(munmap(gone(MB), MB));
      int status = -1;
      if (waitpid(child, &status, 0) != child || status != 0) _exit(20);
    }
  }
  return NULL;
}

static void churn_all(void) {
  pthread_t threads[THREADS];
  signal(SIGUSR1, on_signal);
  for (uintptr_t i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, churn, (void *)(i + 1));
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
}

int main(int count, char **words) {
  if (count > 1 && strcmp(words[1], "grow") == 0) {
    char *start = f(MB);
    for (int i = 1; i < 100; i++) start = grows(start, (size_t)i * MB, (size_t)(i + 1) * MB);
  } else if (count > 1) {
    int wanted = atoi(words[1]);
    for (int i = 0; i < wanted; i++) {
      char *start = many(96 * KB);
      if (i % 2) munmap(start, 96 * KB);
    }
  } else {
    map_all();
    churn_all();
  }
  ready();
  return 0;
}

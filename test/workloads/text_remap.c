/* flags: -O1 -fno-optimize-sibling-calls */
/* Moves a part of its own text to other memory, as programs do that put it on huge pages: arguments 1 and 2, which part (none, begin, middle,
 * end, whole) and to what (anonymous, named, memfd, split: a page gets another protection and back, between others that keep
 * theirs). Then each of four functions in pages of their own allocates once. With `neighbour` as argument 3, code made at run time lies
 * directly in front of the program, and allocates too. x86-64. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "workload.h"

#define PAD(name) __attribute__((aligned(4096), noinline)) void name(void) { __asm__ volatile(".skip 4096, 0x90"); }
#define OWN_PAGE __attribute__((aligned(4096), noinline))

FRAME void *head(size_t size) { return keep(malloc(size)); }
PAD(pad_before)
OWN_PAGE void *hot(size_t size) { return keep(malloc(size)); }
FRAME static void *hot_static(size_t size) { return keep(malloc(size)); }
PAD(pad_between)
OWN_PAGE void *tail(size_t size) { return keep(malloc(size)); }
PAD(pad_after)

/* The executable lines of this program: the first byte and the one behind the last. */
static void find_text(uintptr_t *start, uintptr_t *limit) {
  FILE *maps = fopen("/proc/self/maps", "r");
  char line[1024], access[8];
  unsigned long from, to;
  CHECK(maps != NULL);
  while (fgets(line, sizeof line, maps)) {
    if (sscanf(line, "%lx-%lx %7s", &from, &to, access) != 3 || access[2] != 'x') continue;
    if (from <= (uintptr_t)head && (uintptr_t)head < to) *start = from, *limit = to;
  }
  fclose(maps);
}

static void *new_memory(const char *kind, size_t size) {
  int flags = MAP_PRIVATE | MAP_ANONYMOUS, descriptor = -1;
  if (strcmp(kind, "memfd") == 0) {
    flags = MAP_SHARED;
    descriptor = memfd_create("text", 0);
    CHECK(descriptor >= 0 && ftruncate(descriptor, (off_t)size) == 0);
  }
  void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, descriptor, 0);
  CHECK(memory != MAP_FAILED);
  if (strcmp(kind, "named") == 0) prctl(0x53564d41 /* PR_SET_VMA */, 0, memory, size, "huge text"); /* where the kernel can */
  return memory;
}

static void move(const char *kind, uintptr_t at, size_t size) {
  if (strcmp(kind, "split") == 0) {
    CHECK(mprotect((void *)at, size, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
    return;
  }
  void *copy = new_memory(kind, size);
  memcpy(copy, (void *)at, size);
  CHECK(mprotect(copy, size, PROT_READ | PROT_EXEC) == 0);
  CHECK(syscall(SYS_mremap, copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, at) == (long)at);
}

static void allocate_in_front(uintptr_t start) {
  unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xd0, 0x5d, 0xc3}; /* calls malloc(rdi) */
  void *target = (void *)(uintptr_t)malloc;
  memcpy(code + 6, &target, sizeof target);
  unsigned char *at = mmap((void *)(start - 4096), 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  CHECK(at == (void *)(start - 4096));
  memcpy(at, code, sizeof code);
  CHECK(mprotect(at, 4096, PROT_READ | PROT_EXEC) == 0);
  keep(((void *(*)(size_t))at)(100005));
}

int main(int argc, char **argv) {
  uintptr_t start = 0, limit = 0, page = (uintptr_t)hot;
  CHECK(argc > 2);
  find_text(&start, &limit);
  if (strcmp(argv[1], "begin") == 0) move(argv[2], start, (uintptr_t)pad_before - start);
  if (strcmp(argv[1], "middle") == 0) move(argv[2], page, 4096);
  if (strcmp(argv[1], "end") == 0) move(argv[2], page, limit - page);
  if (strcmp(argv[1], "whole") == 0) move(argv[2], start, limit - start);
  if (argc > 3) allocate_in_front(start);
  head(100001);
  hot(100002);
  hot_static(100003);
  tail(100004);
  ready();
  return 0;
}

/* flags: -O1 -fno-optimize-sibling-calls */
/* Moves a part of its own text to other memory, as programs do that put it on huge pages: arguments
 * 1 and 2, which part (none, begin, middle, end, whole) and to what (anonymous, named, memfd, file:
 * one in /dev/shm, unlinked, as in hugetlbfs, split: a page gets another protection and back,
 * between others that keep theirs). Then each of four functions in pages of their own allocates
 * once. With `neighbour` as argument 3 the whole is mapped anew, together with code made at run
 * time that lies directly in front of it and allocates too. x86-64. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "workload.h"

#define PAD(name) \
  __attribute__((aligned(4096), noinline)) void name(void) { __asm__ volatile(".skip 4096, 0x90"); }
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

static inline __attribute__((always_inline)) long system_call(long number, long a, long b, long c,
                                                              long d) {
  register long flags __asm__("r10") = d;
  register long descriptor __asm__("r8") = -1, offset __asm__("r9") = 0;
  __asm__ volatile("syscall"
                   : "+a"(number)
                   : "D"(a), "S"(b), "d"(c), "r"(flags), "r"(descriptor), "r"(offset)
                   : "rcx", "r11", "memory");
  return number;
}

/* Runs where it has been copied to: it takes its own text away. [at, limit) becomes one new
 * mapping, filled from copy. */
__attribute__((noinline, no_stack_protector, aligned(4096),
               optimize("no-tree-loop-distribute-patterns"))) static void
map_anew(char *at, char *limit, const char *copy) {
  system_call(SYS_mmap, (long)at, limit - at, PROT_READ | PROT_WRITE,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED);
  for (volatile char *to = at; to < limit;) *to++ = *copy++;
  system_call(SYS_mprotect, (long)at, limit - at, PROT_READ | PROT_EXEC, 0);
}

static void *new_memory(const char *kind, size_t size) {
  int flags = MAP_PRIVATE | MAP_ANONYMOUS, descriptor = -1;
  if (strcmp(kind, "memfd") == 0) {
    flags = MAP_SHARED;
    descriptor = memfd_create("text", 0);
    CHECK(descriptor >= 0 && ftruncate(descriptor, (off_t)size) == 0);
  }
  if (strcmp(kind, "file") == 0) {
    char path[] = "/dev/shm/text_remap.XXXXXX";
    flags = MAP_SHARED;
    descriptor = mkstemp(path);
    CHECK(descriptor >= 0 && unlink(path) == 0 && ftruncate(descriptor, (off_t)size) == 0);
  }
  void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, descriptor, 0);
  CHECK(memory != MAP_FAILED);
  if (strcmp(kind, "named") == 0)
    prctl(0x53564d41 /* PR_SET_VMA */, 0, memory, size, "huge text"); /* where the kernel can */
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

/* The text, and a page in front of it with code that calls malloc, as one mapping. */
static void move_with_neighbour(uintptr_t start, uintptr_t limit) {
  unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0x48, 0xb8, 0,    0,    0,
                          0,    0,    0,    0,    0,    0xff, 0xd0, 0x5d, 0xc3};
  void *target = (void *)(uintptr_t)malloc;
  memcpy(code + 6, &target, sizeof target);
  size_t size = limit - start + 4096;
  char *copy = new_memory("", size), *stub = new_memory("", 4096), *at = (char *)start - 4096;
  memcpy(copy, code, sizeof code);
  memcpy(copy + 4096, (void *)start, limit - start);
  memcpy(stub, (void *)(uintptr_t)map_anew, 1024);
  CHECK(mprotect(stub, 4096, PROT_READ | PROT_EXEC) == 0);
  ((void (*)(char *, char *, const char *))stub)(at, (char *)limit, copy);
  keep(((void *(*)(size_t))at)(100005));
}

int main(int argc, char **argv) {
  uintptr_t start = 0, limit = 0, page = (uintptr_t)hot;
  CHECK(argc > 2);
  find_text(&start, &limit);
  if (strcmp(argv[1], "begin") == 0) move(argv[2], start, (uintptr_t)pad_before - start);
  if (strcmp(argv[1], "middle") == 0) move(argv[2], page, 4096);
  if (strcmp(argv[1], "end") == 0) move(argv[2], page, limit - page);
  if (argc > 3) move_with_neighbour(start, limit);
  else if (strcmp(argv[1], "whole") == 0) move(argv[2], start, limit - start);
  head(100001);
  hot(100002);
  hot_static(100003);
  tail(100004);
  ready();
  return 0;
}

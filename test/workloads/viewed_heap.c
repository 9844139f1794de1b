/* What a view of the heap must show: allocations of known sizes by known functions. Argument 1: a
 * file of names, one a line; code made at run time has them (/tmp/perf-PID.map) and the one of line
 * N (from 1) keeps N * 1000 bytes. `stays` keeps 50 blocks of 1,000 bytes, `shrinks` 30 of 2,000.
 * For each line that is read: `grows` keeps 7 blocks of 10,000 bytes, `shrinks` frees 3 of its
 * blocks, and `again` is printed. x86-64. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>

#include "workload.h"

enum { STAY = 50, SHRINK = 30, FREED = 3, GROW = 7, CODE_ROOM = 64 };

static void *shrinking[SHRINK];
static int freed;

FRAME static void stays(void) {
  for (int i = 0; i < STAY; i++) keep(malloc(1000));
}
FRAME static void shrinks(void) {
  for (int i = 0; i < SHRINK; i++) shrinking[i] = keep(malloc(2000));
}
FRAME static void grows(void) {
  for (int i = 0; i < GROW; i++) keep(malloc(10000));
}

static void made_code(const char *names_path, const char *map_path) {
  unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0x48, 0xb8, 0,    0,   0, 0,
                          0,    0,    0,    0,    0xff, 0xd0, 0x5d, 0xc3}; /* calls malloc(rdi) */
  void *target = (void *)(uintptr_t)malloc;
  memcpy(code + 6, &target, sizeof target);
  unsigned char *at = mmap((void *)0x200000000, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                           MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  FILE *names = fopen(names_path, "r"), *map = fopen(map_path, "w");
  CHECK(at != MAP_FAILED && names && map);
  char *line = NULL;
  size_t size = 0, count = 0;
  for (; getline(&line, &size, names) > 0 && (count + 1) * CODE_ROOM <= 4096; count++) {
    unsigned char *here = at + count * CODE_ROOM;
    memcpy(here, code, sizeof code);
    fprintf(map, "%lx %x %s", (unsigned long)here, CODE_ROOM, line);
  }
  free(line);
  CHECK(fclose(map) == 0 && fclose(names) == 0);
  for (size_t i = 0; i < count; i++)
    keep(((void *(*)(size_t))(at + i * CODE_ROOM))((i + 1) * 1000));
}

int main(int argc, char **argv) {
  char path[64];
  snprintf(path, sizeof path, "/tmp/perf-%d.map", (int)getpid());
  stays();
  shrinks();
  if (argc > 1) made_code(argv[1], path);
  say("ready\n");
  while (wait_for_line()) {
    grows();
    for (int i = 0; i < FREED && freed < SHRINK; i++) free(shrinking[freed++]);
    say("again\n");
  }
  if (argc > 1) unlink(path);
  return 0;
}

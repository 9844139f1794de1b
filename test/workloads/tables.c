/* tables live N: N live allocations of 16 bytes from one place. tables stacks N: one allocation of
 * 8 bytes from each of N distinct stacks, made by a recursion that picks one of two functions at
 * each of 20 levels. Then, at a line on stdin, frees everything. */
#include "workload.h"

enum { LEVELS = 20 };

static void **kept;
static size_t kept_count;

static FRAME void leaf(void) { kept[kept_count++] = keep(malloc(8)); }

static void walk(unsigned pattern, int level);
static FRAME void left(unsigned pattern, int level) {
  walk(pattern, level);
  __asm__ volatile("");
}
static FRAME void right(unsigned pattern, int level) {
  walk(pattern, level);
  __asm__ volatile("");
}
static FRAME void walk(unsigned pattern, int level) {
  if (level == LEVELS) leaf();
  else if (pattern & 1) right(pattern >> 1, level + 1);
  else left(pattern >> 1, level + 1);
  __asm__ volatile("");
}

static FRAME void hold_live(size_t count) {
  for (size_t i = 0; i < count; i++) kept[kept_count++] = keep(malloc(16));
}

int main(int argc, char **argv) {
  CHECK(argc == 3);
  size_t count = strtoul(argv[2], NULL, 10);
  kept = malloc(count * sizeof *kept);
  if (strcmp(argv[1], "live") == 0) hold_live(count);
  else
    for (size_t i = 0; i < count; i++) walk((unsigned)i, 0);
  if (!ready()) return 0;
  while (kept_count) free(kept[--kept_count]);
  ready();
  return 0;
}

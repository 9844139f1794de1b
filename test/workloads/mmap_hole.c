/* Reserves, unmaps every other piece, and then all, holes included: legal, and what lies in a hole
 * by then goes too. mmap_hole PIECE_KB COUNT */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "workload.h"

int main(int count, char **words) {
  size_t piece = (size_t)atol(words[1]) << 10, pieces = (size_t)atol(words[2]);
  (void)count;
  for (int round = 0; round < 3; round++) {
    char *area =
        mmap(NULL, piece * pieces, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (area == MAP_FAILED) return 2;
    for (size_t i = 1; i < pieces; i += 2)
      if (munmap(area + i * piece, piece) != 0) return 3;
    if (munmap(area, piece * pieces) != 0) return 4;
    for (int i = 0; i < 100; i++)
      if (mmap(NULL, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
        return 5;
  }
  say("ready\n");
  return 0;
}

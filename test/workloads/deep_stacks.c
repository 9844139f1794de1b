/* flags: -O1
 * Allocations at the bottom of recursions of known depths: arguments. */
#include "workload.h"

static FRAME void leaf(void) { keep(malloc(1000)); }

static FRAME void middle(int n) {
  if (n == 0) leaf();
  else middle(n - 1);
  __asm__ volatile("");
}

static FRAME void outer(int n) {
  middle(n);
  __asm__ volatile("");
}

int main(int argc, char **argv) {
  for (int i = 1; i < argc; i++) outer(atoi(argv[i]));
  ready();
  return 0;
}

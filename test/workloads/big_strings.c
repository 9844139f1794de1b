/* Holds 1001 bytes from hold(); its .debug_str is made huge by the test. Ends when its stdin does.
 */
#include "workload.h"

FRAME static void *hold(size_t size) { return keep(malloc(size)); }

int main(void) {
  void *held = hold(1001);
  while (ready()) {}
  free(held);
  return 0;
}

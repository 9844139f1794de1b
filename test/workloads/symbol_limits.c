/* Holds 1001 bytes from one function more each time it goes on: hold0, hold1, ... hold3. hold1 has
 * ROWS lines in the line table: what is known of its unit does not fit into a small memory. Its
 * .debug_str is made huge by the test. */
#include "workload.h"

#ifndef ROWS
#define ROWS 1
#endif
#define TEXT(x) #x
#define TEXT_OF(x) TEXT(x)

FRAME static void *hold0(size_t size) { return keep(malloc(size)); }
FRAME static void *hold1(size_t size) {
  void *held = keep(malloc(size));
  __asm__ volatile(
      ".set row, 1000\n.rept " TEXT_OF(ROWS) "\n.loc 1 row\nnop\n.set row, row + 1\n.endr");
  return keep(held);
}
FRAME static void *hold2(size_t size) { return keep(malloc(size)); }
FRAME static void *hold3(size_t size) { return keep(malloc(size)); }

int main(void) {
  void *(*const hold[])(size_t) = {hold0, hold1, hold2, hold3};
  size_t next = 0;
  hold[next++](1001);
  while (ready())
    if (next < 4) hold[next++](1001);
  return 0;
}

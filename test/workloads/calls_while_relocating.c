/* flags: calls_while_relocating_library.c as a library. Prints the line of the first call there
 * that did not do what it does without the agent, or 0. */
#include <stdio.h>

int calls_while_relocating(void);

int main(void) {
  printf("%d\n", calls_while_relocating());
  return 0;
}

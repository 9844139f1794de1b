/* A program with its own copy of a loader's variable that the agent reads too; the copy is empty
 * until the program is relocated. */
#include <stdio.h>
#include <stdlib.h>

extern void *__libc_stack_end;

int main(void) {
  void *block = malloc(100);
  printf("%d %d\n", __libc_stack_end != NULL, block != NULL);
  free(block);
  return 0;
}

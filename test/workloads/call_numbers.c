/* Compiled together with shim/base/call_number.c and shim/base/instruction.c. Reads functions, one
 * a line: where in it a `syscall` is, and its bytes in hexadecimal; prints the number that eax has
 * there, `rN` for what is in register N, `mN+D` for what is in memory at D from it, `eN<D` for what
 * was in N at the function's entry, with writes below D, `?` where it is not understood. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shim/base/call_number.h"

static int digit(int c) { return c <= '9' ? c - '0' : c - 'a' + 10; }

static const char *const formats[] = {[NUMBER_CONSTANT] = "%u\n",
                                      [NUMBER_IN_REGISTER] = "r%u\n",
                                      [NUMBER_IN_MEMORY] = "m%u%+d\n",
                                      [NUMBER_AT_ENTRY] = "e%u<%d\n"};

int main(void) {
  char *line = NULL;
  size_t capacity = 0;
  while (getline(&line, &capacity, stdin) > 0) {
    char *text;
    size_t at = strtoul(line, &text, 10), size = strcspn(text + 1, "\n") / 2;
    unsigned char *bytes = malloc(
        size + 1); /* of just that size: reads behind it are seen by valgrind and sanitizers */
    for (size_t i = 0; i < size; i++)
      bytes[i] = (unsigned char)(digit(text[1 + 2 * i]) << 4 | digit(text[2 + 2 * i]));
    struct call_number number;
    if (!call_number_find(bytes, size, at, &number)) puts("?");
    else printf(formats[number.place], number.value, number.displacement);
    free(bytes);
  }
  free(line);
  return 0;
}

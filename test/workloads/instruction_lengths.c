/* Compiled together with shim/base/instruction.c. Reads instructions as hexadecimal bytes, one a
 * line with what follows it in memory; prints the length of each, 0 where it is not understood. */
#include <stdio.h>
#include <string.h>

#include "shim/base/instruction.h"

int main(void) {
  char line[256];
  while (fgets(line, sizeof line, stdin)) {
    unsigned char bytes[64];
    size_t size = 0;
    unsigned byte;
    for (const char *at = line; size < sizeof bytes && sscanf(at, "%2x", &byte) == 1; at += 2)
      bytes[size++] = (unsigned char)byte;
    struct instruction instruction;
    printf("%d\n", instruction_decode(bytes, size, &instruction) ? instruction.length : 0);
  }
  return 0;
}

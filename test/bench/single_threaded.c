/* What libc does at less cost while a program has one thread: single_threaded WHAT MILLIONS. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  long count = atol(argv[2]) * 1000000, sum = 0;
  FILE *file = fopen("/dev/zero", "r");
  if (file == NULL) return 1;
  if (strcmp(argv[1], "getc") == 0) {
    for (long i = 0; i < count; i++) sum += getc(file);
  } else if (strcmp(argv[1], "malloc") == 0) {
    size_t size = argc > 3 ? strtoul(argv[3], NULL, 10) : 64;
    for (long i = 0; i < count; i++) {
      void *block = malloc(size);
      __asm__ volatile("" : "+r"(block) : : "memory");
      free(block);
    }
  } else {
    return 2;
  }
  return sum != 0;
}

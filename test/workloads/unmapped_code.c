/* flags: -O1 */
/* Code made at run time, called for a moment and unmapped, again and again until a line comes: a
 * profiler that looks at a sample later finds nothing there. */
#define _GNU_SOURCE
#include <poll.h>
#include <sys/mman.h>

#include "workload.h"

enum { SIZE = 4096, CALLS = 60 };

static void call_code(const unsigned char *code) {
  void *at = (void *)0x200000000000;
  void *made = mmap(at, SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  memcpy(made, code, SIZE);
  for (int i = 0; i < CALLS; i++) ((void (*)(void))made)();
  munmap(made, SIZE);
}

int main(void) {
  unsigned char code[SIZE];
  memset(code, 0x90, sizeof code);
  for (int i = 0; i < SIZE - 64; i += 2) code[i] = 0x89, code[i + 1] = 0xc0; /* mov %eax,%eax */
  code[SIZE - 64] = 0xc3; /* ret */
  if (!ready()) return 1;
  struct pollfd line = {.fd = STDIN_FILENO, .events = POLLIN};
  do call_code(code);
  while (poll(&line, 1, 0) == 0);
  wait_for_line();
  ready();
  return 0;
}

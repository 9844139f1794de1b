#include "first_stack.h"

#include <stdlib.h>
#include <string.h>

#include "agent_memory.h"
#include "process_info.h"

/* Where the kernel put the arguments of the first program: field 28 of proc(5)'s stat. */
uintptr_t first_stack_start(void) {
  enum { STAT_MAX = 4096, FIELD = 28 };
  size_t size;
  char *stat = process_read_file("/proc/thread-self/stat", STAT_MAX, &size);
  char *at = stat ? strrchr(stat, ')') : NULL;
  for (int field = 2; at && field < FIELD; field++)
    if ((at = strchr(at, ' '))) at++;
  uintptr_t start = at ? strtoull(at, NULL, 10) : 0;
  agent_free(stat);
  return start;
}

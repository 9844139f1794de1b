/* agent_memory.h on the C library's allocator, so that the address sanitizer sees every block.
 * agent_memory_fail_after lets the nth allocation from now fail, and all after it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "agent/runtime/agent_memory.h"

int64_t agent_memory_fail_after = INT64_MAX;

static int fails(void) {
  return agent_memory_fail_after != INT64_MAX && --agent_memory_fail_after < 0;
}

void *agent_malloc(size_t size) { return fails() ? NULL : malloc(size); }
void *agent_calloc(size_t count, size_t size) { return fails() ? NULL : calloc(count, size); }
void *agent_realloc(void *pointer, size_t size) { return fails() ? NULL : realloc(pointer, size); }
void agent_free(void *pointer) { free(pointer); }
char *agent_strdup(const char *text) { return fails() ? NULL : strdup(text); }
uint64_t agent_memory_bytes(void) { return 0; }

void *agent_pages_map(size_t size) {
  void *start = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return start == MAP_FAILED ? NULL : start;
}
void agent_pages_unmap(void *start, size_t size) { munmap(start, size); }
void agent_pages_forget(void *start) { (void)start; }

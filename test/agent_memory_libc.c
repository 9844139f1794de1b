/* agent_memory.h on the C library's allocator, so that the address sanitizer sees every block. agent_memory_fail_after lets the nth
 * allocation from now fail, and all after it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../agent/agent_memory.h"

int64_t agent_memory_fail_after = INT64_MAX;

static int fails(void) { return agent_memory_fail_after != INT64_MAX && --agent_memory_fail_after < 0; }

void *agent_malloc(size_t size) { return fails() ? NULL : malloc(size); }
void *agent_calloc(size_t count, size_t size) { return fails() ? NULL : calloc(count, size); }
void *agent_realloc(void *pointer, size_t size) { return fails() ? NULL : realloc(pointer, size); }
void agent_free(void *pointer) { free(pointer); }
char *agent_strdup(const char *text) { return fails() ? NULL : strdup(text); }
uint64_t agent_memory_bytes(void) { return 0; }

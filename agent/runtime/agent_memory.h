/* The agent's own allocator: private mmap'ed memory, never the host's malloc. Thread-safe among
 * agent threads. The third-party code that is linked in is redirected here as well (Makefile:
 * objcopy --redefine-sym). Context: agent threads; locks: the allocator's own. */
#ifndef AGENT_AGENT_MEMORY_H
#define AGENT_AGENT_MEMORY_H

#include <stddef.h>
#include <stdint.h>

void *agent_malloc(size_t size);
void *agent_calloc(size_t count, size_t size);
void *agent_realloc(void *pointer, size_t size);
void agent_free(void *pointer);
char *agent_strdup(const char *text);

/* Whole pages, zeroed, of which no child inherits any: stacks. Also on threads of the host's. */
void *agent_pages_map(size_t size);
void agent_pages_unmap(void *start, size_t size);
/* They are the caller's from now on: a thread unmaps its own stack last of all. */
void agent_pages_forget(void *start);

/* Bytes now mapped by this allocator, shown by /debug/pprof/health. */
uint64_t agent_memory_bytes(void);

#endif

/* The process' own memory, read as a debugger would: what cannot be read, or is unmapped meanwhile,
 * costs an error, not the host. Context: agent threads; locks: none. */
#ifndef AGENT_OWN_MEMORY_H
#define AGENT_OWN_MEMORY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* How much could be read, from the start of the range up to a page that cannot; 0 or less: none. */
ssize_t own_memory_read(uint64_t address, void *out, size_t size);

#endif

/* The process' own memory as another thread left it, by own_memory.h: what is unmapped meanwhile
 * costs an error, not the host. Blocks once read are kept until memory_reader_forget, so what one
 * reader sees is as of their first reading. Context: agent threads; locks: none (one owner).
 */
#ifndef AGENT_MEMORY_READER_H
#define AGENT_MEMORY_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct memory_reader;

struct memory_reader *memory_reader_new(void); /* NULL: out of memory */
void memory_reader_release(struct memory_reader *reader); /* NULL is fine */

/* Before something is to be seen as it is now. */
void memory_reader_forget(struct memory_reader *reader);

/* All size bytes at address, or false. */
bool memory_reader_read(struct memory_reader *reader, uintptr_t address, void *out, size_t size);
bool memory_reader_word(struct memory_reader *reader, uintptr_t address, uintptr_t *value);

#endif

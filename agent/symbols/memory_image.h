/* Reads our own address space the way a debugger would: by own_memory.h, so that what is unmapped
 * meanwhile (a concurrent dlclose) costs an error, not the host. Context: agent threads; locks:
 * none.
 */
#ifndef AGENT_MEMORY_IMAGE_H
#define AGENT_MEMORY_IMAGE_H

#include "mappings.h"
#include "symbol_table.h"

/* All size bytes at address, or false. */
bool memory_image_read(uint64_t address, void *out, size_t size);

/* From the program headers of the object whose ELF header is mapped at header_address: the
 * difference between runtime addresses and the file's, and the build-id ("" when it has none).
 * False: there is no ELF header. */
bool memory_image_identify(uint64_t header_address, uint64_t *bias,
                           char build_id[BUILD_ID_HEX_MAX]);

/* Adds the functions of the .dynsym that the loader uses (for the vdso: its only symbols). False:
 * there is none, or it is malformed. */
bool memory_image_add_symbols(struct symbol_table *table, struct region *region,
                              const struct mapping *map);

#endif

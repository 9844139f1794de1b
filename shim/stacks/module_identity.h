/* What tells an object without a build-id from another one that is loaded where it was, from a file
 * that may have been replaced or rewritten in place: a hash of its headers, its dynamic section,
 * its dynamic symbols and the table of its functions for unwinders. The same for one file loaded
 * twice at one place. 0: cannot be read. Context: whatever `read` allows (both readers ask the
 * kernel). */
#ifndef SHIM_MODULE_IDENTITY_H
#define SHIM_MODULE_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef bool module_reader(uint64_t address, void *out, size_t size);

uint64_t module_identity(uint64_t start, uint64_t end, uint64_t bias, module_reader *read);

#endif

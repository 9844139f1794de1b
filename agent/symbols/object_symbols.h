/* What is known of the functions of one object (executable, shared library, vdso): its symbol
 * tables and its debug information, from the file, its separate debug file, or, when the file is
 * gone or was replaced, from what the loader keeps mapped. Context: agent threads; locks: the
 * caller's.
 */
#ifndef AGENT_OBJECT_SYMBOLS_H
#define AGENT_OBJECT_SYMBOLS_H

#include "dwarf_names.h"
#include "mappings.h"

struct object_symbols;

enum object_loss { /* bits, each set at most once per object */
                   OBJECT_FILE_MISSING = 1,
                   OBJECT_MALFORMED = 2,
                   OBJECT_MEMORY_LIMIT = 4,
                   OBJECT_INLINED_CUT = 8,
                   OBJECT_SPLIT_MISSING = 16,
                   OBJECT_TOO_COSTLY = 32
};

/* NULL when out of memory. main_program: /proc/self/exe is this object. */
struct object_symbols *object_symbols_open(const struct mapping *map, bool main_program);
void object_symbols_close(struct object_symbols *object);
unsigned object_symbols_losses(const struct object_symbols *object);
uint64_t object_symbols_bytes(const struct object_symbols *object);

/* Gives up what can be read again. */
void object_symbols_forget(struct object_symbols *object);
/* Between two requests no file is kept open. False: it cannot go on. */
bool object_symbols_close_files(struct object_symbols *object);
bool object_symbols_open_files(struct object_symbols *object);

/* The frames at address (of the program headers), innermost first, and where the function's symbol
 * starts (0: unknown). The strings live until the next call. */
size_t object_symbols_find(struct object_symbols *object, uint64_t address,
                           struct dwarf_frame frames[DWARF_MAX_FRAMES], uint64_t *symbol_start);

#endif

/* The stubs of an object's procedure linkage table (.plt, .plt.sec, .plt.got): no symbol table has
 * them. Each jumps through a slot of the global offset table, and the relocation of that slot names
 * the function; objdump and gdb say FUNCTION@plt. Context: agent threads; locks: the caller's.
 */
#ifndef AGENT_PLT_SYMBOLS_H
#define AGENT_PLT_SYMBOLS_H

#include "elf_file.h"
#include "symbol_table.h"

struct plt_stub {
  uint64_t start, end; /* addresses as in the file's program headers */
  const char *name; /* raw, as in .dynsym; NULL: of a function chosen at load time by the one at
                       resolver (IFUNC) */
  uint64_t resolver;
};

struct plt_symbols {
  struct plt_stub *stubs; /* sorted by start */
  size_t count;
};

/* What PLT_NAME_SUFFIX ends is a stub's name, never a symbol's: there it would be a version called
 * "plt". */
#define PLT_NAME_SUFFIX "@plt"

/* Reads the stubs of file into its region. False: malformed or out of memory; what was found stays
 * usable. */
bool plt_symbols_read(struct plt_symbols *plt, struct elf_file *file);

/* The stub at address, or NULL. */
const struct plt_stub *plt_symbols_find(const struct plt_symbols *plt, uint64_t address);

/* FUNCTION@plt, in the region; NULL when memory is out. The function of an IFUNC is looked for in
 * the (finished) table of its object; one that is not there is named by its resolver's address, as
 * in objdump. */
const char *plt_symbols_name(const struct plt_stub *stub, const struct symbol_table *table,
                             struct region *region);

#endif

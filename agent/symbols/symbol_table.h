/* The functions of one object file by address, from .symtab, .dynsym and the .symtab inside
 * .gnu_debugdata, whichever are there: a .symtab may have been stripped of all but a few.
 *
 * An address is named only by a symbol whose [value, value + size) holds it. Symbols without a size
 * (hand-written assembly) reach to the end of the function that they are in, by the unwind tables.
 * Where those know of no function, one of a .symtab reaches to the next function or symbol or the
 * end of its section; one of a .dynsym names nothing: static functions in between have no symbol.
 * Context: agent threads; locks: none.
 */
#ifndef AGENT_SYMBOL_TABLE_H
#define AGENT_SYMBOL_TABLE_H

#include "elf_file.h"
#include "symbol_versions.h"

struct symbol {
  uint64_t start, end; /* addresses as in the file's program headers */
  uint64_t max_end; /* largest end of those with a size in the tree below it, and its own */
  const char *name; /* raw, as in the string table, but without @VERSION */
  uint32_t name_length;
  uint8_t binding, type;
  bool sized;
};

struct symbol_table {
  struct region *region;
  /* Sorted by start once finished, and a tree then: the root is in the middle. */
  struct symbol *symbols;
  size_t count, capacity;
  uint64_t name_bytes; /* that may still be read: names of malformed files overlap each other */
  struct symbol_versions versions;
};

void symbol_table_init(struct symbol_table *table, struct region *region);
/* Notes the versions that file defines, for the sections that are added later. */
void symbol_table_add_versions(struct symbol_table *table, struct elf_file *file);
/* Adds the function symbols of a symbol table section (SHT_SYMTAB or SHT_DYNSYM). False: malformed
 * or out of memory. */
bool symbol_table_add_section(struct symbol_table *table, struct elf_file *file,
                              const Elf64_Shdr *section);
/* The same from a table without section headers; every name must lie in strings, which must end
 * with a NUL. */
bool symbol_table_add_dynamic(struct symbol_table *table, const Elf64_Sym *symbols, size_t count,
                              const char *strings, size_t strings_size);
/* file: where the unwind tables are, or NULL. */
void symbol_table_finish(struct symbol_table *table, struct elf_file *file);

/* The best name for the function at address, or NULL: the innermost symbol; of aliases the one that
 * a programmer would have written. */
const struct symbol *symbol_table_find(const struct symbol_table *table, uint64_t address);

/* What is chosen at load time by the resolver that starts at address: the best name of an
 * STT_GNU_IFUNC, or NULL. */
const struct symbol *symbol_table_find_ifunc(const struct symbol_table *table, uint64_t address);

#endif

/* The versions of symbols that an object defines (.gnu.version_d).
 *
 * Linkers write name@VERSION into .symtab, and take what follows an @ for a version also where a
 * language has @ in its names (Crystal's "*Foo@Bar#baz"): exported ones then stand in .dynsym cut.
 * Real versions are no part of a name; what only looks like one is.
 * Context: agent threads; locks: none.
 */
#ifndef AGENT_SYMBOL_VERSIONS_H
#define AGENT_SYMBOL_VERSIONS_H

#include "elf_file.h"

enum { SYMBOL_VERSIONS_MAX = 256 }; /* libc has 50 */

struct symbol_versions {
  struct region *region; /* of the names that are made */
  const char *real[SYMBOL_VERSIONS_MAX];
  size_t real_count;
  const char **taken; /* parts of names, by their index in .gnu.version; NULL: there are none */
};

void symbol_versions_init(struct symbol_versions *versions, struct region *region);
/* Those of .gnu.version_d. */
void symbol_versions_add_file(struct symbol_versions *versions, struct elf_file *file);
/* GNU ld also writes each as an absolute symbol: a debug file has no other trace of them. */
void symbol_versions_add_symbols(struct symbol_versions *versions, const Elf64_Sym *symbols,
                                 size_t count, const struct elf_bytes *strings);

/* A name of .symtab without its real version. */
const char *symbol_versions_without(const struct symbol_versions *versions, const char *name);
/* The index of .gnu.version for each symbol of the dynamic symbol table in that section; no data
 * when all versions are real. */
struct elf_bytes symbol_versions_indices(const struct symbol_versions *versions,
                                         struct elf_file *file, const Elf64_Shdr *dynsym);
/* A name of .dynsym with what was taken for its version. */
const char *symbol_versions_restored(const struct symbol_versions *versions,
                                     const struct elf_bytes *indices, size_t symbol,
                                     const char *name);

#endif

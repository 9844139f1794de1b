/* Lookups in a loaded object's dynamic symbol table, by nothing but memory reads: no libc function
 * is called (while libraries are being relocated, strcmp may already be bound to a program that is
 * not), no lock taken, nothing allocated. Context: any, even during relocation. */
#ifndef SHIM_DYNAMIC_SYMBOLS_H
#define SHIM_DYNAMIC_SYMBOLS_H

#include <link.h>
#include <stdbool.h>
#include <stdint.h>

struct dynamic_symbols {
  uintptr_t bias;
  const ElfW(Sym) * symbols;
  const char *strings, *soname; /* NULL: none */
  const uint32_t *gnu_hash;
  const uint32_t *sysv_hash;
  const uint16_t *versions;
  const ElfW(Verdef) * definitions; /* of versions; NULL: none */
};

/* dynamic: the object's PT_DYNAMIC in memory. False when it has no symbols. */
bool dynamic_symbols_open(struct dynamic_symbols *table, uintptr_t bias, const ElfW(Dyn) * dynamic);

/* Index of the default version of a defined global function, or STN_UNDEF. */
uint32_t dynamic_symbols_find_index(const struct dynamic_symbols *table, const char *name);

/* Its address, or NULL. That of an IFUNC is what its resolver chooses: only once its object is
 * relocated. */
void *dynamic_symbols_find(const struct dynamic_symbols *table, const char *name);

/* The same where one name is looked for in many objects: its hash, as GNU's tables have it, is made
 * once. */
uint32_t dynamic_symbols_hash(const char *name);
uint32_t dynamic_symbols_find_index_hashed(const struct dynamic_symbols *table, const char *name,
                                           uint32_t hash);
void *dynamic_symbols_find_hashed(const struct dynamic_symbols *table, const char *name,
                                  uint32_t hash);

/* That of a variable. */
void *dynamic_symbols_find_data(const struct dynamic_symbols *table, const char *name);

/* A definition under this version, also one that is not the default; NULL if there is none. */
void *dynamic_symbols_find_version(const struct dynamic_symbols *table, const char *name,
                                   const char *version);

#endif

#include "dynamic_symbols.h"

#include <elf.h>
#include <stddef.h>

static bool same_text(const char *a, const char *b) {
  for (; *a == *b; a++, b++)
    if (!*a) return true;
  return false;
}

uint32_t dynamic_symbols_hash(const char *name) {
  uint32_t hash = 5381;
  for (; *name; name++) hash = hash * 33 + (unsigned char)*name;
  return hash;
}

static uint32_t sysv_hash_of(const char *name) {
  uint32_t hash = 0;
  for (; *name; name++) {
    hash = (hash << 4) + (unsigned char)*name;
    hash ^= (hash >> 24) & 0xf0;
  }
  return hash & 0x0fffffff;
}

enum { VERSION_HIDDEN = 0x8000, VERSION_DEFAULT = 0 };
enum kind { FUNCTION, DATA };

static bool is_of_kind(unsigned type, enum kind kind) {
  if (kind == DATA) return type == STT_OBJECT;
  return type == STT_FUNC || type == STT_NOTYPE || type == STT_GNU_IFUNC;
}

/* version: an index of the table's, or VERSION_DEFAULT for the one that a reference without a
 * version gets. */
static bool symbol_matches(const struct dynamic_symbols *table, uint32_t index, const char *name,
                           uint16_t version, enum kind kind) {
  const ElfW(Sym) *symbol = &table->symbols[index];
  unsigned type = symbol->st_info & 0xf, bind = symbol->st_info >> 4;
  return symbol->st_shndx != SHN_UNDEF && symbol->st_value != 0 && is_of_kind(type, kind) &&
         (bind == STB_GLOBAL || bind == STB_WEAK) &&
         (version != VERSION_DEFAULT
              ? (table->versions[index] & ~VERSION_HIDDEN) == version
              : !table->versions || !(table->versions[index] & VERSION_HIDDEN)) &&
         same_text(table->strings + symbol->st_name, name);
}

/* The gABI's hash table and GNU's (binutils, bfd/elflink.c), for which the hash is. */
static uint32_t find_index(const struct dynamic_symbols *table, const char *name, uint32_t hash,
                           uint16_t version, enum kind kind) {
  if (table->gnu_hash) {
    const uint32_t *words = table->gnu_hash;
    uint32_t bucket_count = words[0], first = words[1], bloom_words = words[2], shift = words[3];
    const ElfW(Addr) *bloom = (const ElfW(Addr) *)(words + 4);
    const uint32_t *buckets = (const uint32_t *)(bloom + bloom_words),
                   *chain = buckets + bucket_count;
    enum { WORD_BITS = sizeof(ElfW(Addr)) * 8 };
    if (bucket_count == 0 || bloom_words == 0) return STN_UNDEF;
    ElfW(Addr) word = bloom[(hash / WORD_BITS) % bloom_words];
    if (!(word >> (hash % WORD_BITS) & word >> ((hash >> shift) % WORD_BITS) & 1)) return STN_UNDEF;
    for (uint32_t index = buckets[hash % bucket_count]; index >= first; index++) {
      uint32_t entry = chain[index - first];
      if ((entry | 1) == (hash | 1) && symbol_matches(table, index, name, version, kind))
        return index;
      if (entry & 1) break;
    }
  } else if (table->sysv_hash) {
    const uint32_t *words = table->sysv_hash, *buckets = words + 2, *chain = buckets + words[0];
    if (words[0] == 0) return STN_UNDEF;
    for (uint32_t index = buckets[sysv_hash_of(name) % words[0]]; index != STN_UNDEF;
         index = chain[index])
      if (symbol_matches(table, index, name, version, kind)) return index;
  }
  return STN_UNDEF;
}

uint32_t dynamic_symbols_find_index_hashed(const struct dynamic_symbols *table, const char *name,
                                           uint32_t hash) {
  return find_index(table, name, hash, VERSION_DEFAULT, FUNCTION);
}

uint32_t dynamic_symbols_find_index(const struct dynamic_symbols *table, const char *name) {
  return dynamic_symbols_find_index_hashed(table, name, dynamic_symbols_hash(name));
}

static uint16_t version_index(const struct dynamic_symbols *table, const char *version) {
  for (const ElfW(Verdef) *definition = table->definitions; definition;) {
    const ElfW(Verdaux) *name =
        (const ElfW(Verdaux) *)((const char *)definition + definition->vd_aux);
    if (same_text(table->strings + name->vda_name, version)) return definition->vd_ndx;
    definition = definition->vd_next
                     ? (const ElfW(Verdef) *)((const char *)definition + definition->vd_next)
                     : NULL;
  }
  return VERSION_DEFAULT;
}

/* How the loader calls a resolver (glibc: sysdeps/ARCHITECTURE/dl-irel.h). */
static void *resolve(uintptr_t resolver) {
#if defined(__x86_64__)
  return ((void *(*)(void))resolver)();
#else
#error "how a resolver is called is not written for this architecture yet"
#endif
}

static void *address_of(const struct dynamic_symbols *table, uint32_t index) {
  if (index == STN_UNDEF) return NULL;
  const ElfW(Sym) *symbol = &table->symbols[index];
  uintptr_t address = table->bias + symbol->st_value;
  return (symbol->st_info & 0xf) == STT_GNU_IFUNC ? resolve(address) : (void *)address;
}

void *dynamic_symbols_find_version(const struct dynamic_symbols *table, const char *name,
                                   const char *version) {
  uint16_t wanted = table->versions ? version_index(table, version) : VERSION_DEFAULT;
  if (wanted == VERSION_DEFAULT) return NULL;
  uint32_t hash = dynamic_symbols_hash(name);
  return address_of(table, find_index(table, name, hash, wanted, FUNCTION));
}

void *dynamic_symbols_find(const struct dynamic_symbols *table, const char *name) {
  return address_of(table, dynamic_symbols_find_index(table, name));
}

void *dynamic_symbols_find_hashed(const struct dynamic_symbols *table, const char *name,
                                  uint32_t hash) {
  return address_of(table, dynamic_symbols_find_index_hashed(table, name, hash));
}

void *dynamic_symbols_find_data(const struct dynamic_symbols *table, const char *name) {
  uint32_t hash = dynamic_symbols_hash(name);
  return address_of(table, find_index(table, name, hash, VERSION_DEFAULT, DATA));
}

bool dynamic_symbols_open(struct dynamic_symbols *table, uintptr_t bias,
                          const ElfW(Dyn) * dynamic) {
  uintptr_t soname = 0;
  table->bias = bias;
  table->symbols = NULL;
  table->strings = NULL;
  table->gnu_hash = table->sysv_hash = NULL;
  table->versions = NULL;
  table->definitions = NULL;
  for (; dynamic->d_tag != DT_NULL; dynamic++) {
    /* glibc has relocated these in place but for the vdso's, which are still file addresses. */
    uintptr_t value = dynamic->d_un.d_ptr;
    if (dynamic->d_tag == DT_SONAME) soname = value;
    if (value < bias) value += bias;
    if (dynamic->d_tag == DT_SYMTAB) table->symbols = (const ElfW(Sym) *)value;
    else if (dynamic->d_tag == DT_STRTAB) table->strings = (const char *)value;
    else if (dynamic->d_tag == DT_GNU_HASH) table->gnu_hash = (const uint32_t *)value;
    else if (dynamic->d_tag == DT_HASH) table->sysv_hash = (const uint32_t *)value;
    else if (dynamic->d_tag == DT_VERSYM) table->versions = (const uint16_t *)value;
    else if (dynamic->d_tag == DT_VERDEF) table->definitions = (const ElfW(Verdef) *)value;
  }
  table->soname = soname && table->strings ? table->strings + soname : NULL;
  return table->symbols && table->strings;
}

#define _GNU_SOURCE
#include "memory_image.h"

#include <string.h>

#include "agent/runtime/own_memory.h"

enum {
  MAX_SEGMENTS = 512,
  MAX_NOTES = 4096,
  MAX_DYNAMIC = 512,
  MAX_BUCKETS = 1 << 22,
  MAX_SYMBOLS = 1 << 22,
  MAX_STRINGS = 256 << 20
};

bool memory_image_read(uint64_t address, void *out, size_t size) {
  char *to = out;
  while (size > 0) {
    ssize_t got = own_memory_read(address, to, size);
    if (got <= 0) return false;
    to += got;
    address += (uint64_t)got;
    size -= (size_t)got;
  }
  return true;
}

static bool read_header(uint64_t address, Elf64_Ehdr *header) {
  return memory_image_read(address, header, sizeof *header) &&
         memcmp(header->e_ident, ELFMAG, SELFMAG) == 0 && header->e_ident[EI_CLASS] == ELFCLASS64 &&
         header->e_phentsize == sizeof(Elf64_Phdr) && header->e_phnum <= MAX_SEGMENTS;
}

static bool read_segment(uint64_t header_address, const Elf64_Ehdr *header, unsigned index,
                         Elf64_Phdr *out) {
  return memory_image_read(header_address + header->e_phoff + index * sizeof *out, out,
                           sizeof *out);
}

/* The segment that holds the header (file offset 0) says where the file's addresses are. */
static bool find_bias(uint64_t header_address, const Elf64_Ehdr *header, uint64_t *bias) {
  for (unsigned i = 0; i < header->e_phnum; i++) {
    Elf64_Phdr segment;
    if (!read_segment(header_address, header, i, &segment)) return false;
    if (segment.p_type != PT_LOAD) continue;
    if (segment.p_offset >= 4096)
      return false; /* loaded in order of address: offset 0 is in the first */
    *bias = header_address - (segment.p_vaddr - segment.p_offset);
    return true;
  }
  return false;
}

bool memory_image_identify(uint64_t header_address, uint64_t *bias,
                           char build_id[BUILD_ID_HEX_MAX]) {
  Elf64_Ehdr header;
  build_id[0] = '\0';
  if (!read_header(header_address, &header) || !find_bias(header_address, &header, bias))
    return false;
  for (unsigned i = 0; i < header.e_phnum; i++) {
    Elf64_Phdr segment;
    uint8_t notes[MAX_NOTES];
    if (!read_segment(header_address, &header, i, &segment)) break;
    if (segment.p_type != PT_NOTE || segment.p_filesz > sizeof notes) continue;
    if (memory_image_read(*bias + segment.p_vaddr, notes, segment.p_filesz) &&
        elf_notes_build_id(notes, segment.p_filesz, build_id))
      break;
  }
  return true;
}

struct dynamic_tables {
  uint64_t symbols, strings, strings_size, hash, gnu_hash;
};

static bool read_dynamic(uint64_t bias, const Elf64_Phdr *segment, struct dynamic_tables *tables) {
  memset(tables, 0, sizeof *tables);
  size_t count = segment->p_memsz / sizeof(Elf64_Dyn);
  for (size_t i = 0; i < count && i < MAX_DYNAMIC; i++) {
    Elf64_Dyn entry;
    if (!memory_image_read(bias + segment->p_vaddr + i * sizeof entry, &entry, sizeof entry))
      return false;
    uint64_t address = entry.d_un.d_ptr;
    if (address < bias) address += bias; /* the loader has added it already, but not in the vdso */
    switch (entry.d_tag) {
      case DT_SYMTAB: tables->symbols = address; break;
      case DT_STRTAB: tables->strings = address; break;
      case DT_STRSZ: tables->strings_size = entry.d_un.d_val; break;
      case DT_HASH: tables->hash = address; break;
      case DT_GNU_HASH: tables->gnu_hash = address; break;
      case DT_NULL: return tables->symbols != 0 && tables->strings != 0;
      default: break;
    }
  }
  return tables->symbols != 0 && tables->strings != 0;
}

/* A .dynsym does not tell its length: the hash tables do. The chain of the highest bucket ends with
 * the last symbol. */
static bool count_by_gnu_hash(uint64_t table, struct region *region, size_t *count) {
  struct {
    uint32_t buckets, first_symbol, bloom_words, bloom_shift;
  } header;
  if (!memory_image_read(table, &header, sizeof header) || header.buckets == 0 ||
      header.buckets > MAX_BUCKETS || header.bloom_words > MAX_BUCKETS)
    return false;
  uint64_t at = table + sizeof header + header.bloom_words * sizeof(uint64_t);
  uint32_t *buckets = region_alloc(region, header.buckets * sizeof *buckets);
  if (buckets == NULL || !memory_image_read(at, buckets, header.buckets * sizeof *buckets))
    return false;
  uint32_t last = 0;
  for (uint32_t i = 0; i < header.buckets; i++)
    if (buckets[i] > last) last = buckets[i];
  region_free(region, buckets, header.buckets * sizeof *buckets);
  if (last < header.first_symbol) {
    *count = header.first_symbol;
    return true;
  }
  at += header.buckets * sizeof *buckets;
  for (; last < MAX_SYMBOLS; last++) {
    uint32_t chain;
    if (!memory_image_read(at + (uint64_t)(last - header.first_symbol) * sizeof chain, &chain,
                           sizeof chain))
      return false;
    if ((chain & 1) != 0) break;
  }
  *count = (size_t)last + 1;
  return true;
}

static bool count_symbols(const struct dynamic_tables *tables, struct region *region,
                          size_t *count) {
  uint32_t words[2];
  if (tables->hash != 0 && memory_image_read(tables->hash, words, sizeof words)) {
    *count = words[1]; /* nchain */
    return true;
  }
  return tables->gnu_hash != 0 && count_by_gnu_hash(tables->gnu_hash, region, count);
}

static bool add_dynamic_symbols(struct symbol_table *table, struct region *region, uint64_t bias,
                                const Elf64_Phdr *segment) {
  struct dynamic_tables tables;
  size_t count;
  if (!read_dynamic(bias, segment, &tables) || !count_symbols(&tables, region, &count))
    return false;
  if (count > MAX_SYMBOLS || tables.strings_size == 0 || tables.strings_size > MAX_STRINGS)
    return false;
  Elf64_Sym *symbols = region_alloc(region, count * sizeof *symbols);
  char *strings = region_alloc(region, tables.strings_size + 1);
  if (symbols == NULL || strings == NULL) return false;
  if (!memory_image_read(tables.symbols, symbols, count * sizeof *symbols)) return false;
  if (!memory_image_read(tables.strings, strings, tables.strings_size)) return false;
  strings[tables.strings_size] = '\0';
  return symbol_table_add_dynamic(table, symbols, count, strings, tables.strings_size);
}

bool memory_image_add_symbols(struct symbol_table *table, struct region *region,
                              const struct mapping *map) {
  const uint64_t candidates[] = {map->start - map->offset,
                                 map->bias}; /* where the ELF header may be mapped */
  for (size_t c = 0; c < sizeof candidates / sizeof candidates[0]; c++) {
    Elf64_Ehdr header;
    uint64_t bias;
    if (!read_header(candidates[c], &header) || !find_bias(candidates[c], &header, &bias) ||
        bias != map->bias)
      continue;
    for (unsigned i = 0; i < header.e_phnum; i++) {
      Elf64_Phdr segment;
      if (!read_segment(candidates[c], &header, i, &segment)) return false;
      if (segment.p_type == PT_DYNAMIC) return add_dynamic_symbols(table, region, bias, &segment);
    }
  }
  return false;
}

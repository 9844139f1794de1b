#include "module_identity.h"

#include <elf.h>
#include <string.h>

enum {
  PART_MAX = 64 * 1024,
  HEADERS_MAX = 64,
  DYNAMIC_MAX = 256,
  CHUNK = 128
}; /* little stack: signal handlers, coroutines */

struct hashed_module {
  uint64_t start, end, bias, hash;
  module_reader *read;
  uint64_t headers;
  unsigned header_count;
};

static bool read_header(const struct hashed_module *module, unsigned i, Elf64_Phdr *out) {
  return module->read(module->headers + i * sizeof *out, out, sizeof *out);
}

static void add(struct hashed_module *module, uint64_t word) {
  module->hash = (module->hash ^ word) * 0x9e3779b97f4a7c15ULL;
  module->hash ^= module->hash >> 29;
}

/* Segments that are read only by being executed are none of ours to read. */
static bool is_readable(const struct hashed_module *module, uint64_t at, uint64_t size) {
  Elf64_Phdr header;
  for (unsigned i = 0; i < module->header_count && read_header(module, i, &header); i++) {
    uint64_t from = module->bias + header.p_vaddr;
    if (header.p_type != PT_LOAD || (header.p_flags & PF_R) == 0) continue;
    if (at >= from && at - from <= header.p_memsz && size <= header.p_memsz - (at - from))
      return at + size <= module->end;
  }
  return false;
}

/* The first PART_MAX bytes. */
static bool add_bytes(struct hashed_module *module, uint64_t at, uint64_t size) {
  uint64_t words[CHUNK / sizeof(uint64_t)];
  add(module, size);
  if (size > PART_MAX) size = PART_MAX;
  if (!is_readable(module, at, size)) return false;
  while (size > 0) {
    size_t part = size < CHUNK ? (size_t)size : CHUNK;
    words[(part - 1) / sizeof *words] = 0;
    if (!module->read(at, words, part)) return false;
    for (size_t i = 0; i < (part + sizeof *words - 1) / sizeof *words; i++) add(module, words[i]);
    at += part;
    size -= part;
  }
  return true;
}

static bool add_dynamic(struct hashed_module *module, const Elf64_Phdr *header) {
  uint64_t at = module->bias + header->p_vaddr, symbols = 0, strings = 0, strings_size = 0;
  Elf64_Dyn entry;
  if (!is_readable(module, at, header->p_memsz)) return false;
  for (unsigned i = 0; i < DYNAMIC_MAX && i < header->p_memsz / sizeof entry;
       i++, at += sizeof entry) {
    if (!module->read(at, &entry, sizeof entry)) return false;
    if (entry.d_tag == DT_NULL) break;
    if (entry.d_tag == DT_DEBUG) continue; /* written by the loader */
    uint64_t value = entry.d_un.d_val;
    if (entry.d_tag == DT_SYMTAB) symbols = value < module->bias ? value + module->bias : value;
    if (entry.d_tag == DT_STRTAB) strings = value < module->bias ? value + module->bias : value;
    if (entry.d_tag == DT_STRSZ) strings_size = value;
    add(module, (uint64_t)entry.d_tag);
    add(module, value);
  }
  if (symbols != 0 && symbols < strings && !add_bytes(module, symbols, strings - symbols))
    return false;
  return strings == 0 || add_bytes(module, strings, strings_size);
}

uint64_t module_identity(uint64_t start, uint64_t end, uint64_t bias, module_reader *read) {
  struct hashed_module module = {.start = start, .end = end, .bias = bias, .read = read};
  Elf64_Ehdr header;
  if (end - start < sizeof header || !read(start, &header, sizeof header) ||
      memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
    return 0;
  Elf64_Phdr one;
  if (header.e_phnum > HEADERS_MAX || header.e_phentsize != sizeof one ||
      header.e_phoff > end - start || header.e_phnum * sizeof one > end - start - header.e_phoff)
    return 0;
  module.headers = start + header.e_phoff;
  module.header_count = header.e_phnum;
  add(&module, header.e_entry);
  add(&module, header.e_shoff); /* moves with nearly every change of the file */
  add(&module, header.e_shnum);
  for (unsigned i = 0; i < module.header_count; i++) {
    if (!read_header(&module, i, &one)) return 0;
    const uint64_t words[] = {one.p_type,  one.p_flags,  one.p_offset,
                              one.p_vaddr, one.p_filesz, one.p_memsz};
    for (size_t k = 0; k < sizeof words / sizeof *words; k++) add(&module, words[k]);
    if (one.p_type == PT_DYNAMIC && !add_dynamic(&module, &one)) return 0;
    if (one.p_type == PT_GNU_EH_FRAME && !add_bytes(&module, bias + one.p_vaddr, one.p_memsz))
      return 0;
  }
  return module.hash == 0 ? 1 : module.hash;
}

#include "announced_object.h"

#include <string.h>

#include "shim/stacks/cfi_entry.h"
#include "shim/stacks/registered_frames.h"
#include "agent/runtime/agent_memory.h"
#include "memory_image.h"

enum {
  OBJECT_MAX = 1 << 30,
  SECTIONS_MAX = 1 << 16,
  FRAMES_MAX = 16 << 20, /* bytes of unwind entries */
  MISSING_END = 8 /* zeroes behind what is read */
};

bool announced_object_open(struct announced_object *object, const struct jit_object *at) {
  Elf64_Ehdr header;
  *object = (struct announced_object){.at = *at};
  if (at->size < sizeof header || at->size > OBJECT_MAX ||
      !memory_image_read(at->address, &header, sizeof header) ||
      memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
      header.e_machine != EM_X86_64 || header.e_shentsize != sizeof *object->sections ||
      header.e_shnum == 0 || header.e_shoff > at->size ||
      header.e_shnum * sizeof *object->sections > at->size - header.e_shoff)
    return false;
  object->relocatable = header.e_type == ET_REL;
  object->section_count = header.e_shnum;
  object->names_index = header.e_shstrndx;
  size_t size = header.e_shnum * sizeof *object->sections;
  object->sections = agent_malloc(size);
  if (object->sections && memory_image_read(at->address + header.e_shoff, object->sections, size))
    return true;
  announced_object_close(object);
  return false;
}

void announced_object_close(struct announced_object *object) {
  agent_free(object->sections);
  object->sections = NULL;
}

/* A copy of its contents with zeroes behind, or NULL. */
static uint8_t *read_section(const struct announced_object *object, const Elf64_Shdr *section,
                             uint64_t bytes_max) {
  uint64_t size = section->sh_size;
  if (size == 0 || size > bytes_max || section->sh_type == SHT_NOBITS ||
      section->sh_offset > object->at.size || size > object->at.size - section->sh_offset)
    return NULL;
  uint8_t *copy = agent_malloc(size + MISSING_END);
  if (copy && memory_image_read(object->at.address + section->sh_offset, copy, size)) {
    memset(copy + size, 0, MISSING_END);
    return copy;
  }
  agent_free(copy);
  return NULL;
}

/* ---- names ---- */

static const Elf64_Shdr *section_at(const struct announced_object *object, unsigned index) {
  return index > 0 && index < object->section_count ? &object->sections[index] : NULL;
}

/* One without a size reaches to its section's end. */
static bool range_of(const struct announced_object *object, const Elf64_Sym *symbol,
                     struct announced_function *out) {
  const Elf64_Shdr *section = section_at(object, symbol->st_shndx);
  if (ELF64_ST_TYPE(symbol->st_info) != STT_FUNC || symbol->st_shndx == SHN_UNDEF) return false;
  out->start = symbol->st_value;
  if (object->relocatable && section) out->start += section->sh_addr;
  out->end = out->start + symbol->st_size;
  if (symbol->st_size == 0 && section) out->end = section->sh_addr + section->sh_size;
  return out->end > out->start;
}

bool announced_object_functions(const struct announced_object *object, uint64_t bytes_max,
                                announced_function_taker *take, void *taker) {
  bool whole = true;
  for (unsigned i = 1; i < object->section_count; i++) {
    const Elf64_Shdr *table = &object->sections[i];
    const Elf64_Shdr *names = section_at(object, table->sh_link);
    if (table->sh_type != SHT_SYMTAB || !names) continue;
    if (table->sh_size > bytes_max || names->sh_size > bytes_max - table->sh_size) {
      whole = false;
      continue;
    }
    Elf64_Sym *symbols = (Elf64_Sym *)read_section(object, table, bytes_max);
    char *strings = (char *)read_section(object, names, bytes_max);
    size_t count = symbols && strings ? table->sh_size / sizeof *symbols : 0;
    for (size_t at = 0; at < count; at++) {
      struct announced_function function;
      if (symbols[at].st_name >= names->sh_size || !range_of(object, &symbols[at], &function))
        continue;
      function.name = strings + symbols[at].st_name;
      if (*function.name && !take(taker, &function)) break;
    }
    agent_free(symbols);
    agent_free(strings);
  }
  return whole;
}

/* ---- unwind entries ---- */

static bool is_relocated_later(const struct announced_object *object, unsigned index) {
  for (unsigned i = 1; i < object->section_count; i++) {
    const Elf64_Shdr *section = &object->sections[i];
    if ((section->sh_type == SHT_RELA || section->sh_type == SHT_REL) && section->sh_info == index)
      return object->relocatable && section->sh_size > 0;
  }
  return false;
}

static uint64_t text_of(const struct announced_object *object) {
  for (unsigned i = 1; i < object->section_count; i++)
    if (object->sections[i].sh_flags & SHF_EXECINSTR) return object->sections[i].sh_addr;
  return 0;
}

static bool register_section(const struct announced_object *object, unsigned index,
                             bool debug_frame, uint64_t key) {
  const Elf64_Shdr *section = &object->sections[index];
  if (is_relocated_later(object, index)) return false;
  uint8_t *copy = read_section(object, section, FRAMES_MAX);
  if (!copy) return false;
  uintptr_t start = (uintptr_t)copy;
  const struct cfi_section table = {.start = start,
                                    .end = start + section->sh_size + MISSING_END,
                                    .moved = start - section->sh_addr,
                                    .text = text_of(object),
                                    .in_own_memory = true,
                                    .debug_frame = debug_frame};
  registered_frames_add(&table, key);
  agent_free(copy);
  return true;
}

/* By the name of one of these; 0: there is none. */
static unsigned find_section(const struct announced_object *object, const char *names,
                             uint64_t names_size, const char *wanted) {
  for (unsigned i = 1; i < object->section_count; i++)
    if (object->sections[i].sh_name < names_size &&
        strcmp(names + object->sections[i].sh_name, wanted) == 0)
      return i;
  return 0;
}

bool announced_object_register(const struct announced_object *object, uint64_t key) {
  const Elf64_Shdr *section = section_at(object, object->names_index);
  char *names = section ? (char *)read_section(object, section, FRAMES_MAX) : NULL;
  if (!names) return false;
  unsigned frames = find_section(object, names, section->sh_size, ".eh_frame");
  bool debug_frame = !frames;
  if (!frames) frames = find_section(object, names, section->sh_size, ".debug_frame");
  agent_free(names);
  return frames && register_section(object, frames, debug_frame, key);
}

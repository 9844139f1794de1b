#include "symbol_versions.h"

#include <string.h>

enum {
  INDEX_MASK = 0x7fff,
  INDICES = 0x8000,
  VERSION_MAX = 256
}; /* the highest bit: not the default version */

void symbol_versions_init(struct symbol_versions *versions, struct region *region) {
  versions->region = region;
  versions->real_count = 0;
  versions->taken = NULL;
}

/* GLIBC_2.2.5, CXXABI_1.3, libfoo.so.1, 1.2-rc3+x */
static bool looks_real(const char *name) {
  if (strnlen(name, VERSION_MAX) == VERSION_MAX) return false;
  for (const char *at = name; *at != '\0'; at++) {
    bool letter = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z');
    bool digit = *at >= '0' && *at <= '9';
    if (!letter && !digit && strchr("_.+-", *at) == NULL) return false;
  }
  return name[0] != '\0';
}

static void add_real(struct symbol_versions *versions, const char *name) {
  if (versions->real_count < SYMBOL_VERSIONS_MAX) versions->real[versions->real_count++] = name;
}

static void add_taken(struct symbol_versions *versions, const char *name, size_t index) {
  const size_t size = INDICES * sizeof *versions->taken;
  if (versions->taken == NULL) {
    versions->taken = region_alloc(versions->region, size);
    if (versions->taken == NULL) return;
    memset(versions->taken, 0, size);
  }
  versions->taken[index] = name;
}

void symbol_versions_add_file(struct symbol_versions *versions, struct elf_file *file) {
  for (uint32_t i = 1; i < file->section_count; i++) {
    const Elf64_Shdr *section = &file->sections[i];
    struct elf_bytes bytes, strings;
    if (section->sh_type != SHT_GNU_verdef || section->sh_link >= file->section_count ||
        !elf_section_read(file, &file->sections[section->sh_link], &strings) ||
        !elf_section_read(file, section, &bytes))
      continue;
    uint64_t at = 0;
    while (at <= bytes.size && bytes.size - at >= sizeof(Elf64_Verdef)) {
      Elf64_Verdef version;
      Elf64_Verdaux name;
      memcpy(&version, bytes.data + at, sizeof version);
      if (version.vd_aux > bytes.size - at || bytes.size - at - version.vd_aux < sizeof name) break;
      memcpy(&name, bytes.data + at + version.vd_aux, sizeof name);
      const char *text =
          name.vda_name < strings.size ? (const char *)strings.data + name.vda_name : "";
      if (looks_real(text) && (version.vd_flags & VER_FLG_BASE) == 0) add_real(versions, text);
      else if (text[0] != '\0' && (version.vd_flags & VER_FLG_BASE) == 0)
        add_taken(versions, text, version.vd_ndx & INDEX_MASK);
      if (version.vd_next == 0) break;
      at += version.vd_next;
    }
  }
}

void symbol_versions_add_symbols(struct symbol_versions *versions, const Elf64_Sym *symbols,
                                 size_t count, const struct elf_bytes *strings) {
  for (const Elf64_Sym *symbol = symbols; symbol < symbols + count; symbol++)
    if (symbol->st_shndx == SHN_ABS && ELF64_ST_TYPE(symbol->st_info) == STT_OBJECT &&
        symbol->st_value == 0 && symbol->st_size == 0 && symbol->st_name < strings->size &&
        looks_real((const char *)strings->data + symbol->st_name))
      add_real(versions, (const char *)strings->data + symbol->st_name);
}

static bool is_real_version(const struct symbol_versions *versions, const char *name) {
  for (size_t i = 0; i < versions->real_count; i++)
    if (strcmp(versions->real[i], name) == 0) return true;
  return false;
}

static const char *joined(struct region *region, const char *name, size_t length,
                          const char *rest) {
  size_t rest_length = strlen(rest);
  char *text = region_alloc(region, length + rest_length + 1);
  if (text == NULL) return name;
  memcpy(text, name, length);
  memcpy(text + length, rest, rest_length + 1);
  return text;
}

const char *symbol_versions_without(const struct symbol_versions *versions, const char *name) {
  const char *at = strrchr(name, '@');
  if (at == NULL) return name;
  size_t length = (size_t)(at - name);
  if (length > 0 && name[length - 1] == '@') length--; /* the default one: name@@VERSION */
  if (length == 0 || !is_real_version(versions, at + 1)) return name;
  return joined(versions->region, name, length, "");
}

struct elf_bytes symbol_versions_indices(const struct symbol_versions *versions,
                                         struct elf_file *file, const Elf64_Shdr *dynsym) {
  struct elf_bytes indices = {NULL, 0};
  if (versions->taken == NULL) return indices;
  for (uint32_t i = 1; i < file->section_count; i++) {
    const Elf64_Shdr *section = &file->sections[i];
    if (section->sh_type == SHT_GNU_versym && section->sh_link == dynsym - file->sections &&
        elf_section_read(file, section, &indices))
      return indices;
  }
  return (struct elf_bytes){NULL, 0};
}

const char *symbol_versions_restored(const struct symbol_versions *versions,
                                     const struct elf_bytes *indices, size_t symbol,
                                     const char *name) {
  uint16_t index;
  if (symbol >= indices->size / sizeof index) return name;
  memcpy(&index, indices->data + symbol * sizeof index, sizeof index);
  const char *taken = versions->taken[index & INDEX_MASK];
  if (taken == NULL) return name;
  const char *with_at = joined(versions->region, name, strlen(name), "@");
  return joined(versions->region, with_at, strlen(with_at), taken);
}

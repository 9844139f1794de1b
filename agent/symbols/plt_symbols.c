#include "plt_symbols.h"

#include <stdio.h>
#include <string.h>
#include <sys/types.h>

/* from libbacktrace: glibc's qsort may use the host's malloc */
#include "backtrace.h"
#include "internal.h"

enum {
  DEFAULT_STUB_SIZE = 16, /* of linkers that leave sh_entsize at 0 */
  SMALL_STUB_SIZE = 8, /* a jump and two bytes of padding: .plt.got */
  LARGEST_STUB_SIZE = 64,
  MAX_SECTIONS = 8, /* of each kind: .rela.dyn and .rela.plt; three with stubs */
  NO_INDEX = -1
};

/* What a linker filled one slot of the global offset table with. */
struct slot {
  uint64_t address;
  const char *name;
  uint64_t resolver;
  size_t order; /* no two are equal: those that a malformed file repeats would make sorting
                   quadratic */
};

struct slots {
  struct slot *items; /* sorted by address */
  size_t count, capacity;
  const uint64_t *lazy; /* address of the slot that each relocation of .rela.plt fills: lazy stubs
                           push its index */
  size_t lazy_count;
};

struct dynamic_names {
  uint32_t section; /* index of .dynsym; 0: none */
  const Elf64_Sym *symbols;
  size_t count;
  struct elf_bytes strings;
};

/* How a stub names its slot. */
struct stub_target {
  uint64_t slot; /* 0: by the index in .rela.plt */
  int64_t index; /* or NO_INDEX */
};

static uint32_t little_endian(const uint8_t *bytes) {
  return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
         (uint32_t)bytes[3] << 24;
}

static bool begins_with_endbr64(const uint8_t *code, uint64_t size) {
  return size >= 4 && memcmp(code, "\xf3\x0f\x1e\xfa", 4) == 0;
}

/* [endbr64] [mov $index,%r11d] [bnd] jmp *slot(%rip), or endbr64, push $index, and a jump to the
 * start of .plt. */
static bool decode_x86_64(const uint8_t *code, uint64_t size, uint64_t address,
                          struct stub_target *out) {
  uint64_t at = begins_with_endbr64(code, size) ? 4 : 0;
  if (at == 4 && size - at >= 5 && code[at] == 0x68) {
    *out = (struct stub_target){.index = little_endian(code + at + 1)};
    return true;
  }
  if (size - at >= 6 && code[at] == 0x41 && code[at + 1] == 0xbb) at += 6; /* mold's */
  if (size - at >= 1 && code[at] == 0xf2) at++;
  if (size - at < 6 || code[at] != 0xff || code[at + 1] != 0x25) return false;
  *out = (struct stub_target){
      .slot = address + at + 6 + (uint64_t)(int64_t)(int32_t)little_endian(code + at + 2),
      .index = NO_INDEX};
  return true;
}

static bool decode(const struct elf_file *file, const uint8_t *code, uint64_t size,
                   uint64_t address, struct stub_target *out) {
  switch (file->header.e_machine) {
    case EM_X86_64: return decode_x86_64(code, size, address, out);
    default: return false;
  }
}

static bool names_a_function(const struct elf_file *file, const Elf64_Rela *relocation,
                             bool *by_resolver) {
  uint32_t type = (uint32_t)ELF64_R_TYPE(relocation->r_info);
  *by_resolver = false;
  switch (file->header.e_machine) {
    case EM_X86_64:
      *by_resolver = type == R_X86_64_IRELATIVE;
      return *by_resolver || type == R_X86_64_JUMP_SLOT || type == R_X86_64_GLOB_DAT;
    default: return false;
  }
}

static bool is_relocation_section(const struct elf_file *file, const Elf64_Shdr *section) {
  (void)file;
  return section->sh_type == SHT_RELA && (section->sh_flags & SHF_ALLOC) != 0 &&
         section->sh_entsize == sizeof(Elf64_Rela);
}

static void give_back(struct elf_file *file, const struct elf_bytes *bytes) {
  region_free(file->region, (void *)(uintptr_t)bytes->data, bytes->size + 8);
}

static bool read_names(struct dynamic_names *names, struct elf_file *file) {
  memset(names, 0, sizeof *names);
  for (uint32_t i = 1; i < file->section_count; i++) {
    const Elf64_Shdr *section = &file->sections[i];
    if (section->sh_type != SHT_DYNSYM) continue;
    struct elf_bytes symbols;
    if (section->sh_entsize != sizeof(Elf64_Sym) || section->sh_link == 0 ||
        section->sh_link >= file->section_count ||
        !elf_section_read(file, &file->sections[section->sh_link], &names->strings) ||
        !elf_section_read(file, section, &symbols))
      return false;
    names->section = i;
    names->symbols = (const Elf64_Sym *)(const void *)symbols.data;
    names->count = symbols.size / sizeof(Elf64_Sym);
    return true;
  }
  return true; /* static: its only stubs are those of IFUNCs */
}

static bool add_slot(struct slots *slots, struct region *region, const struct slot *slot) {
  if (slots->count == slots->capacity) {
    size_t capacity = slots->capacity == 0 ? 64 : 2 * slots->capacity;
    struct slot *grown = region_alloc(region, capacity * sizeof *grown);
    if (grown == NULL) return false;
    if (slots->count > 0) memcpy(grown, slots->items, slots->count * sizeof *grown);
    region_free(region, slots->items, slots->capacity * sizeof *grown);
    slots->items = grown;
    slots->capacity = capacity;
  }
  slots->items[slots->count] = *slot;
  slots->items[slots->count].order = slots->count;
  slots->count++;
  return true;
}

static bool add_relocation(struct slots *slots, struct elf_file *file,
                           const struct dynamic_names *names, const Elf64_Rela *relocation,
                           bool has_names) {
  struct slot slot = {.address = relocation->r_offset};
  bool by_resolver;
  if (!names_a_function(file, relocation, &by_resolver)) return true;
  if (by_resolver) {
    slot.resolver = (uint64_t)relocation->r_addend;
  } else {
    uint64_t symbol = ELF64_R_SYM(relocation->r_info);
    if (!has_names || symbol >= names->count ||
        names->symbols[symbol].st_name >= names->strings.size)
      return true;
    slot.name = (const char *)names->strings.data + names->symbols[symbol].st_name;
    if (slot.name[0] == '\0') return true;
  }
  return add_slot(slots, file->region, &slot);
}

static bool add_relocations(struct slots *slots, struct elf_file *file,
                            const struct dynamic_names *names, const Elf64_Shdr *section) {
  struct elf_bytes bytes;
  if (!elf_section_read(file, section, &bytes)) return false;
  const Elf64_Rela *relocations = (const Elf64_Rela *)(const void *)bytes.data;
  size_t count = bytes.size / sizeof *relocations;
  bool complete = true, has_names = names->section != 0 && section->sh_link == names->section;
  for (size_t i = 0; i < count && complete; i++)
    complete = add_relocation(slots, file, names, &relocations[i], has_names);
  if (complete && strcmp(elf_section_name(file, section), ".rela.plt") == 0 &&
      slots->lazy == NULL && count > 0) {
    uint64_t *lazy = region_alloc(file->region, count * sizeof *lazy);
    if (lazy != NULL) {
      for (size_t i = 0; i < count; i++) lazy[i] = relocations[i].r_offset;
      slots->lazy = lazy;
      slots->lazy_count = count;
    }
    complete = lazy != NULL;
  }
  give_back(file, &bytes);
  return complete;
}

static int compare_slots(const void *left, const void *right) {
  const struct slot *a = left, *b = right;
  if (a->address != b->address) return a->address < b->address ? -1 : 1;
  return a->order < b->order ? -1 : a->order > b->order;
}

static const struct slot *find_slot(const struct slots *slots, const struct stub_target *target) {
  uint64_t address = target->slot;
  if (target->index != NO_INDEX) {
    if ((uint64_t)target->index >= slots->lazy_count) return NULL;
    address = slots->lazy[target->index];
  }
  size_t low = 0, high = slots->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (slots->items[middle].address < address) low = middle + 1;
    else high = middle;
  }
  return low < slots->count && slots->items[low].address == address ? &slots->items[low] : NULL;
}

static bool is_stub_section(const struct elf_file *file, const Elf64_Shdr *section) {
  static const char *const names[] = {".plt", ".plt.sec", ".plt.got", ".plt.bnd", ".iplt"};
  if (section->sh_type != SHT_PROGBITS || (section->sh_flags & SHF_EXECINSTR) == 0) return false;
  const char *name = elf_section_name(file, section);
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
    if (strcmp(name, names[i]) == 0) return true;
  return false;
}

static uint64_t stub_size(const struct elf_file *file, const Elf64_Shdr *section,
                          const struct elf_bytes *code) {
  if (section->sh_entsize >= SMALL_STUB_SIZE && section->sh_entsize <= LARGEST_STUB_SIZE &&
      section->sh_entsize % SMALL_STUB_SIZE == 0)
    return section->sh_entsize;
  bool small = strcmp(elf_section_name(file, section), ".plt.got") == 0 &&
               !begins_with_endbr64(code->data, code->size);
  return small ? SMALL_STUB_SIZE : DEFAULT_STUB_SIZE;
}

static bool add_stubs(struct plt_symbols *plt, struct elf_file *file, const struct slots *slots,
                      const Elf64_Shdr *section) {
  struct elf_bytes code;
  if (section->sh_addr + section->sh_size < section->sh_addr ||
      !elf_section_read(file, section, &code))
    return false;
  uint64_t size = stub_size(file, section, &code);
  size_t most = plt->count + code.size / size + 1;
  struct plt_stub *stubs = region_alloc(file->region, most * sizeof *stubs);
  if (stubs != NULL) {
    if (plt->count > 0) memcpy(stubs, plt->stubs, plt->count * sizeof *stubs);
    for (uint64_t at = 0; at < code.size; at += size) {
      struct stub_target target;
      const struct slot *slot;
      uint64_t length = code.size - at < size ? code.size - at : size;
      if (!decode(file, code.data + at, length, section->sh_addr + at, &target) ||
          (slot = find_slot(slots, &target)) == NULL)
        continue;
      stubs[plt->count++] = (struct plt_stub){section->sh_addr + at, section->sh_addr + at + length,
                                              slot->name, slot->resolver};
    }
    plt->stubs = stubs;
  }
  give_back(file, &code);
  return stubs != NULL;
}

static int compare_stubs(const void *left, const void *right) {
  const struct plt_stub *a = left, *b = right;
  return a->start < b->start ? -1 : a->start > b->start;
}

static size_t find_sections(const struct elf_file *file,
                            bool (*wanted)(const struct elf_file *, const Elf64_Shdr *),
                            const Elf64_Shdr *found[MAX_SECTIONS]) {
  size_t count = 0;
  for (uint32_t i = 1; i < file->section_count && count < MAX_SECTIONS; i++)
    if (wanted(file, &file->sections[i])) found[count++] = &file->sections[i];
  return count;
}

bool plt_symbols_read(struct plt_symbols *plt, struct elf_file *file) {
  memset(plt, 0, sizeof *plt);
  const Elf64_Shdr *with_stubs[MAX_SECTIONS], *with_relocations[MAX_SECTIONS];
  size_t stub_sections = find_sections(file, is_stub_section, with_stubs);
  if (stub_sections == 0) return true;
  size_t relocation_sections = find_sections(file, is_relocation_section, with_relocations);
  struct slots slots = {0};
  struct dynamic_names names;
  bool complete = read_names(&names, file);
  for (size_t i = 0; i < relocation_sections; i++)
    complete &= add_relocations(&slots, file, &names, with_relocations[i]);
  backtrace_qsort(slots.items, slots.count, sizeof *slots.items, compare_slots);
  for (size_t i = 0; i < stub_sections; i++)
    complete &= add_stubs(plt, file, &slots, with_stubs[i]);
  backtrace_qsort(plt->stubs, plt->count, sizeof *plt->stubs, compare_stubs);
  region_free(file->region, slots.items, slots.capacity * sizeof *slots.items);
  return complete;
}

const struct plt_stub *plt_symbols_find(const struct plt_symbols *plt, uint64_t address) {
  size_t low = 0, high = plt->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (plt->stubs[middle].start <= address) low = middle + 1;
    else high = middle;
  }
  return low > 0 && plt->stubs[low - 1].end > address ? &plt->stubs[low - 1] : NULL;
}

const char *plt_symbols_name(const struct plt_stub *stub, const struct symbol_table *table,
                             struct region *region) {
  const char *name = stub->name;
  char by_address[40];
  if (name == NULL) {
    const struct symbol *chosen = symbol_table_find_ifunc(table, stub->resolver);
    if (chosen != NULL) {
      name = chosen->name;
    } else {
      snprintf(by_address, sizeof by_address, "*ABS*+0x%lx", (unsigned long)stub->resolver);
      name = by_address;
    }
  }
  size_t length = strlen(name);
  char *text = region_alloc(region, length + sizeof PLT_NAME_SUFFIX);
  if (text == NULL) return NULL;
  memcpy(text, name, length);
  memcpy(text + length, PLT_NAME_SUFFIX, sizeof PLT_NAME_SUFFIX);
  return text;
}

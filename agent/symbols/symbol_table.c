#include "symbol_table.h"

#include <string.h>
#include <sys/types.h>

#include "fde_ranges.h"

/* from libbacktrace: glibc's qsort may use the host's malloc */
#include "backtrace.h"
#include "internal.h"

enum {
  FIRST_CAPACITY = 256,
  /* Linkers merge names that end alike, so that all of them are longer than their section. */
  NAME_BYTES_A_BYTE = 16,
  NAME_BYTES_FREE = 1 << 20,
  ALIASES_TRIED = 1024 /* of IFUNCs at one address */
};

void symbol_table_init(struct symbol_table *table, struct region *region) {
  memset(table, 0, sizeof *table);
  table->region = region;
  symbol_versions_init(&table->versions, region);
}

void symbol_table_add_versions(struct symbol_table *table, struct elf_file *file) {
  symbol_versions_add_file(&table->versions, file);
}

/* Its length; false: too much has been read already. */
static bool measure(struct symbol_table *table, const char *name, uint32_t *length) {
  uint64_t limit = table->name_bytes < UINT32_MAX ? table->name_bytes : UINT32_MAX;
  uint64_t got = strnlen(name, limit);
  table->name_bytes -= got;
  *length = (uint32_t)got;
  return got < limit;
}

/* For that many more. */
static bool make_room(struct symbol_table *table, size_t more) {
  if (table->capacity - table->count >= more) return true;
  size_t capacity = table->capacity == 0 ? FIRST_CAPACITY : 2 * table->capacity;
  if (more > 1) capacity = table->count + more;
  struct symbol *grown = region_alloc(table->region, capacity * sizeof *grown);
  if (grown == NULL) return false;
  if (table->count > 0) memcpy(grown, table->symbols, table->count * sizeof *grown);
  region_free(table->region, table->symbols, table->capacity * sizeof *grown);
  table->symbols = grown;
  table->capacity = capacity;
  return true;
}

static bool add(struct symbol_table *table, const Elf64_Sym *symbol, const char *name,
                uint32_t length, uint64_t sizeless_end) {
  if (!make_room(table, 1)) return false;
  bool sized = symbol->st_size != 0;
  uint64_t end = sized ? symbol->st_value + symbol->st_size : sizeless_end;
  if (end < symbol->st_value || (sized && end == symbol->st_value)) return true; /* it wraps */
  table->symbols[table->count++] = (struct symbol){.start = symbol->st_value,
                                                   .end = end,
                                                   .name = name,
                                                   .name_length = length,
                                                   .binding = ELF64_ST_BIND(symbol->st_info),
                                                   .type = ELF64_ST_TYPE(symbol->st_info),
                                                   .sized = sized};
  return true;
}

static bool is_function(const Elf64_Sym *symbol) {
  unsigned type = ELF64_ST_TYPE(symbol->st_info);
  return symbol->st_shndx != SHN_UNDEF &&
         (type == STT_FUNC || type == STT_GNU_IFUNC || type == STT_NOTYPE);
}

/* Which letters after a '$' mark where code and data begin, by the ABI of each processor. Elsewhere
 * a '$' is part of the name (Swift). */
static const char *mapping_letters(unsigned machine) {
  switch (machine) {
    case EM_AARCH64:
    case EM_RISCV: return "xd";
    case EM_ARM: return "atd";
    default: return "";
  }
}

/* What assemblers leave behind: $x, $d.1, $xrv64gc, .Lloop. They name places, not functions. */
static bool is_mark(const Elf64_Sym *symbol, const char *name, unsigned machine) {
  if (ELF64_ST_TYPE(symbol->st_info) != STT_NOTYPE || ELF64_ST_BIND(symbol->st_info) != STB_LOCAL ||
      symbol->st_size != 0)
    return false;
  if (name[0] == '.') return true;
  if (name[0] != '$' || name[1] == '\0' || strchr(mapping_letters(machine), name[1]) == NULL)
    return false;
  return name[2] == '\0' || name[2] == '.' || machine == EM_RISCV;
}

bool symbol_table_add_section(struct symbol_table *table, struct elf_file *file,
                              const Elf64_Shdr *section) {
  struct elf_bytes symbols, strings;
  if (section->sh_link == 0 || section->sh_link >= file->section_count ||
      section->sh_entsize != sizeof(Elf64_Sym))
    return false;
  if (!elf_section_read(file, section, &symbols)) return false;
  if (!elf_section_read(file, &file->sections[section->sh_link], &strings)) return false;
  size_t count = symbols.size / sizeof(Elf64_Sym);
  const Elf64_Sym *symbol = (const Elf64_Sym *)(const void *)symbols.data;
  table->name_bytes += NAME_BYTES_A_BYTE * strings.size + NAME_BYTES_FREE;
  size_t functions = 0;
  for (size_t i = 0; i < count; i++) functions += is_function(&symbol[i]);
  if (!make_room(table, functions)) return false;
  bool complete = true, is_symtab = section->sh_type == SHT_SYMTAB;
  if (is_symtab) symbol_versions_add_symbols(&table->versions, symbol, count, &strings);
  struct elf_bytes indices = symbol_versions_indices(&table->versions, file, section);
  for (size_t i = 0; i < count && complete; i++, symbol++) {
    if (!is_function(symbol) || symbol->st_name >= strings.size) continue;
    const char *name = (const char *)strings.data + symbol->st_name;
    if (name[0] == '\0' || is_mark(symbol, name, file->header.e_machine)) continue;
    uint64_t sizeless_end = symbol->st_value;
    if (symbol->st_shndx < file->section_count) {
      const Elf64_Shdr *home = &file->sections[symbol->st_shndx];
      if ((home->sh_flags & SHF_EXECINSTR) == 0) continue;
      bool inside = symbol->st_value - home->sh_addr < home->sh_size;
      if (!inside && symbol->st_size == 0) continue; /* _etext */
      if (is_symtab) sizeless_end = home->sh_addr + home->sh_size;
    } else if (ELF64_ST_TYPE(symbol->st_info) == STT_NOTYPE) {
      continue; /* absolute */
    }
    uint32_t length;
    complete = measure(table, name, &length);
    if (!complete) break;
    const char *without = is_symtab ? symbol_versions_without(&table->versions, name)
                                    : symbol_versions_restored(&table->versions, &indices, i, name);
    if (without != name) length = (uint32_t)strlen(without);
    complete = add(table, symbol, without, length, sizeless_end);
  }
  region_free(file->region, (void *)(uintptr_t)symbols.data, symbols.size + 8);
  return complete;
}

bool symbol_table_add_dynamic(struct symbol_table *table, const Elf64_Sym *symbols, size_t count,
                              const char *strings, size_t strings_size) {
  table->name_bytes += NAME_BYTES_A_BYTE * strings_size + NAME_BYTES_FREE;
  for (size_t i = 0; i < count; i++) {
    const Elf64_Sym *symbol = &symbols[i];
    if (!is_function(symbol) || ELF64_ST_TYPE(symbol->st_info) == STT_NOTYPE ||
        symbol->st_name >= strings_size)
      continue;
    const char *name = strings + symbol->st_name;
    uint32_t length;
    if (name[0] == '\0') continue;
    if (!measure(table, name, &length)) return false;
    if (!add(table, symbol, name, length, symbol->st_value)) return false;
  }
  return true;
}

static unsigned leading_underscores(const char *name) {
  unsigned count = 0;
  while (name[count] == '_') count++;
  return count;
}

/* Negative: a is the better name. Mangled names begin with underscores of their own: among them
 * only the rest decides. */
static int compare_aliases(const struct symbol *a, const struct symbol *b) {
  if (a->sized != b->sized) return a->sized ? -1 : 1;
  bool a_label = a->type == STT_NOTYPE, b_label = b->type == STT_NOTYPE;
  if (a_label != b_label) return a_label ? 1 : -1;
  bool a_local = a->binding == STB_LOCAL, b_local = b->binding == STB_LOCAL;
  if (a_local != b_local) return a_local ? 1 : -1;
  unsigned a_under = leading_underscores(a->name), b_under = leading_underscores(b->name);
  if (a_under != b_under) return a_under < b_under ? -1 : 1;
  if (a->binding != b->binding)
    return a->binding == STB_GLOBAL ? -1 : b->binding == STB_GLOBAL ? 1 : 0;
  if (a->name == b->name) return 0;
  size_t a_length = a->name_length, b_length = b->name_length;
  /* gold cuts names at an @ in .symtab too */
  if (b_length > a_length && b->name[a_length] == '@' && strncmp(a->name, b->name, a_length) == 0)
    return 1;
  if (a_length > b_length && a->name[b_length] == '@' && strncmp(a->name, b->name, b_length) == 0)
    return -1;
  if (a_length != b_length) return a_length < b_length ? -1 : 1;
  return strcmp(a->name, b->name);
}

/* By start, larger ranges first, so that the innermost symbol comes last; of equal ranges the best
 * name comes last. */
static int compare_symbols(const void *left, const void *right) {
  const struct symbol *a = left, *b = right;
  if (a->start != b->start) return a->start < b->start ? -1 : 1;
  if (a->sized != b->sized) return a->sized ? 1 : -1;
  if (a->end != b->end) return a->end > b->end ? -1 : 1;
  return compare_aliases(b, a);
}

static void bound_by_functions(struct symbol *symbol, const struct fde_ranges *ranges) {
  size_t at = fde_ranges_at_or_below(ranges, symbol->start);
  const struct fde_range *around = at == 0 ? NULL : &ranges->items[at - 1];
  if (around != NULL && around->end > symbol->start) symbol->end = around->end;
  else if (at < ranges->count && symbol->end > ranges->items[at].start)
    symbol->end = ranges->items[at].start;
}

static void bound_sizeless_symbols(struct symbol_table *table, const struct fde_ranges *ranges) {
  uint64_t next = UINT64_MAX; /* start of the first symbol above */
  for (size_t i = table->count; i-- > 0;) {
    struct symbol *symbol = &table->symbols[i];
    if (i + 1 < table->count && table->symbols[i + 1].start > symbol->start)
      next = table->symbols[i + 1].start;
    if (symbol->sized) continue;
    bound_by_functions(symbol, ranges);
    if (symbol->end > next) symbol->end = next;
  }
}

/* Of the tree from low up to high; its depth is the logarithm of their number. */
static uint64_t note_max_end(struct symbol *symbols, size_t low, size_t high) {
  if (low >= high) return 0;
  size_t middle = low + (high - low) / 2;
  struct symbol *root = &symbols[middle];
  uint64_t below = note_max_end(symbols, low, middle);
  uint64_t above = note_max_end(symbols, middle + 1, high);
  root->max_end = root->sized ? root->end : 0;
  if (below > root->max_end) root->max_end = below;
  if (above > root->max_end) root->max_end = above;
  return root->max_end;
}

void symbol_table_finish(struct symbol_table *table, struct elf_file *file) {
  struct fde_ranges ranges = {0};
  if (file != NULL) fde_ranges_read(&ranges, file);
  backtrace_qsort(table->symbols, table->count, sizeof *table->symbols, compare_symbols);
  bound_sizeless_symbols(table, &ranges);
  if (file != NULL) fde_ranges_release(&ranges, file->region);
  note_max_end(table->symbols, 0, table->count);
}

/* The last symbol that starts at or below address: index + 1, or 0. */
static size_t last_at_or_below(const struct symbol_table *table, uint64_t address) {
  size_t low = 0, high = table->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (table->symbols[middle].start <= address) low = middle + 1;
    else high = middle;
  }
  return low;
}

/* The last one with a size that holds address, of those from low up to high: the innermost. Where
 * every start is below address, the ends alone tell whether there is one. */
static const struct symbol *find_sized(const struct symbol *symbols, size_t low, size_t high,
                                       uint64_t address) {
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    const struct symbol *root = &symbols[middle];
    if (root->max_end <= address) return NULL;
    if (root->start <= address) {
      const struct symbol *later = find_sized(symbols, middle + 1, high, address);
      if (later != NULL) return later;
      if (root->sized && root->end > address) return root;
    }
    high = middle;
  }
  return NULL;
}

/* One without a size reaches to the next start at most, so it is among those that start last. They
 * come first there, and their ends fall. */
static const struct symbol *find_sizeless(const struct symbol_table *table, uint64_t address) {
  size_t end = last_at_or_below(table, address);
  if (end == 0) return NULL;
  uint64_t start = table->symbols[end - 1].start;
  size_t first = start == 0 ? 0 : last_at_or_below(table, start - 1), low = first;
  while (low < end) {
    size_t middle = low + (end - low) / 2;
    const struct symbol *symbol = &table->symbols[middle];
    if (!symbol->sized && symbol->end > address) low = middle + 1;
    else end = middle;
  }
  return low == first ? NULL : &table->symbols[low - 1];
}

const struct symbol *symbol_table_find(const struct symbol_table *table, uint64_t address) {
  /* a label inside a function with a size does not hide that function */
  const struct symbol *sized = find_sized(table->symbols, 0, table->count, address);
  return sized != NULL ? sized : find_sizeless(table, address);
}

const struct symbol *symbol_table_find_ifunc(const struct symbol_table *table, uint64_t address) {
  size_t tries = ALIASES_TRIED;
  for (size_t i = last_at_or_below(table, address);
       i > 0 && tries-- > 0 && table->symbols[i - 1].start == address; i--)
    if (table->symbols[i - 1].type == STT_GNU_IFUNC) return &table->symbols[i - 1];
  return NULL;
}

#include "object_symbols.h"

#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "agent_memory.h"
#include "debug_files.h"
#include "mapped_file.h"
#include "memory_headroom.h"
#include "memory_image.h"
#include "plt_symbols.h"
#include "symbol_table.h"

/* from libbacktrace: the xz decoder */
#include "backtrace.h"
#include "internal.h"

enum { MIN_XZ_SIZE = 64, MAX_MINI_DEBUG_INFO = 128 << 20 };
static const uint64_t SYMBOL_BYTE_LIMIT = 256ULL << 20, DEBUG_BYTE_LIMIT = 512ULL << 20;

/* The limit, or a part of what the host can spare: it must never be killed for what we read. */
static uint64_t spare_bytes(uint64_t limit, unsigned divisor) {
  uint64_t share = memory_headroom() / divisor;
  return share < limit ? share : limit;
}

struct object_symbols {
  struct region *symbol_region, *debug_region; /* apart: debug information that is too large leaves the symbol table */
  struct symbol_table table;
  struct plt_symbols plt;
  struct dwarf_names *names; /* in debug_region; NULL when there are none */
  unsigned losses;
};

/* Takes the descriptor: a file if it is the object that was mapped: same build-id, or none known
 * and the file neither unlinked nor unloaded. */
static bool open_if_same(struct elf_file *file, struct region *region, int descriptor, const char *build_id, bool trusted) {
  if (descriptor < 0 || !elf_file_from_descriptor(file, region, descriptor)) return false;
  if (build_id[0] == '\0') {
    if (trusted) return true;
  } else {
    char found[BUILD_ID_HEX_MAX];
    if (elf_file_build_id(file, found) && strcmp(found, build_id) == 0) return true;
  }
  elf_file_close(file);
  return false;
}

static bool open_object(struct elf_file *file, struct region *region, const struct mapping *map, bool main_program) {
  bool in_place = !map->deleted && !map->unloaded;
  if (open_if_same(file, region, mapped_file_open(map), map->build_id, in_place)) return true;
  if (map->unloaded) return false;
  int program = main_program ? elf_file_open_path("/proc/thread-self/exe") : -1;
  if (open_if_same(file, region, program, map->build_id, true)) return true;
  char path[80]; /* needs CAP_CHECKPOINT_RESTORE */
  snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", (unsigned long)map->start, (unsigned long)map->limit);
  return open_if_same(file, region, elf_file_open_path(path), map->build_id, true);
}

static bool add_symbols(struct object_symbols *object, struct elf_file *file, uint32_t type) {
  for (uint32_t i = 1; i < file->section_count; i++)
    if (file->sections[i].sh_type == type) {
      if (!symbol_table_add_section(&object->table, file, &file->sections[i])) object->losses |= OBJECT_MALFORMED;
      return true;
    }
  return false;
}

/* .gnu_debugdata: an xz-compressed ELF file that holds a .symtab of the functions that .dynsym leaves out. */
static void add_mini_debug_info(struct object_symbols *object, struct elf_file *file) {
  const Elf64_Shdr *section = elf_section_find(file, ".gnu_debugdata");
  if (section == NULL) return;
  struct region *region = object->symbol_region;
  struct elf_bytes packed;
  unsigned char *image = NULL;
  size_t size = 0;
  struct elf_file inner;
  bool read = section->sh_size >= MIN_XZ_SIZE && section->sh_size <= MAX_MINI_DEBUG_INFO &&
              elf_section_read(file, section, &packed) &&
              backtrace_uncompress_lzma(region_backtrace_state(region), packed.data, packed.size, NULL, NULL, &image, &size) &&
              image != NULL && elf_file_from_memory(&inner, region, image, size) && add_symbols(object, &inner, SHT_SYMTAB);
  if (!read) object->losses |= OBJECT_MALFORMED;
}

static void open_debug_information(struct object_symbols *object, struct elf_file *file,
                                   const struct mapping *map) {
  struct elf_file alternate;
  bool has_alternate = debug_file_open_alternate(&alternate, file), malformed;
  object->names = dwarf_names_open(file, has_alternate ? &alternate : NULL, map->path, &malformed);
  if (has_alternate) elf_file_close(&alternate);
  if (object->names == NULL && malformed && !region_exhausted(object->debug_region)) object->losses |= OBJECT_MALFORMED;
}

static void drop_debug_information_if_exhausted(struct object_symbols *object) {
  if (object->debug_region == NULL || !region_exhausted(object->debug_region)) return;
  object->losses |= OBJECT_MEMORY_LIMIT;
  dwarf_names_close(object->names);
  object->names = NULL;
  region_destroy(object->debug_region);
  object->debug_region = NULL;
}

static uint64_t symtab_size(const struct elf_file *file) {
  const Elf64_Shdr *section = elf_section_find(file, ".symtab");
  return section == NULL ? 0 : section->sh_size;
}

static void read_file(struct object_symbols *object, struct elf_file *file,
                      const struct mapping *map) {
  symbol_table_add_versions(&object->table, file);
  add_symbols(object, file, SHT_SYMTAB);
  add_symbols(object, file, SHT_DYNSYM); /* the .symtab may be a few that were kept */
  struct elf_file in_debug_region = *file, debug;
  in_debug_region.region = object->debug_region;
  open_debug_information(object, &in_debug_region, map);
  if (object->names == NULL && debug_file_open(&debug, &in_debug_region, map->path, map->build_id)) {
    open_debug_information(object, &debug, map);
    if (symtab_size(&debug) > symtab_size(file)) {
      debug.region = object->symbol_region;
      /* its headers lie in debug_region, which is dropped before symbol_region only */
      add_symbols(object, &debug, SHT_SYMTAB);
    }
    elf_file_close(&debug);
  }
  add_mini_debug_info(object, file);
  if (file->section_count == 0 && !map->unloaded) /* stripped of them */
    memory_image_add_symbols(&object->table, object->symbol_region, map);
  symbol_table_finish(&object->table, file);
  if (!plt_symbols_read(&object->plt, file)) object->losses |= OBJECT_MALFORMED;
}

struct object_symbols *object_symbols_open(const struct mapping *map, bool main_program) {
  struct object_symbols *object = agent_calloc(1, sizeof *object);
  if (object == NULL) return NULL;
  object->symbol_region = region_create(spare_bytes(SYMBOL_BYTE_LIMIT, 4));
  object->debug_region = region_create(spare_bytes(DEBUG_BYTE_LIMIT, 2));
  if (object->symbol_region == NULL || object->debug_region == NULL) {
    object_symbols_close(object);
    return NULL;
  }
  symbol_table_init(&object->table, object->symbol_region);
  struct elf_file file;
  if (map->kind == MAPPING_FILE && open_object(&file, object->symbol_region, map, main_program)) {
    read_file(object, &file, map);
    elf_file_close(&file);
  } else {
    if (map->kind == MAPPING_FILE) object->losses |= OBJECT_FILE_MISSING;
    if (map->kind == MAPPING_FILE && debug_file_open_by_build_id(&file, object->debug_region, map->build_id)) {
      open_debug_information(object, &file, map); /* the object is gone, its debug file is here */
      file.region = object->symbol_region;
      add_symbols(object, &file, SHT_SYMTAB);
      elf_file_close(&file);
    }
    if (!map->unloaded) memory_image_add_symbols(&object->table, object->symbol_region, map);
    symbol_table_finish(&object->table, NULL);
  }
  if (region_exhausted(object->symbol_region)) object->losses |= OBJECT_MEMORY_LIMIT;
  drop_debug_information_if_exhausted(object);
  return object;
}

void object_symbols_close(struct object_symbols *object) {
  if (object == NULL) return;
  dwarf_names_close(object->names);
  region_destroy(object->symbol_region);
  region_destroy(object->debug_region);
  agent_free(object);
}

unsigned object_symbols_losses(const struct object_symbols *object) { return object->losses; }

uint64_t object_symbols_bytes(const struct object_symbols *object) {
  return region_bytes(object->symbol_region) + (object->debug_region == NULL ? 0 : region_bytes(object->debug_region));
}

static bool is_mangled(const char *name) { return name[0] == '_' && (name[1] == 'Z' || name[1] == 'R'); }

/* What follows the last "::" outside of template arguments. */
static const char *last_component(const char *name) {
  const char *last = name;
  int depth = 0;
  for (const char *at = name; *at != '\0'; at++) {
    depth += (*at == '<') - (*at == '>' && depth > 0);
    if (depth == 0 && at[0] == ':' && at[1] == ':') last = at + 2;
  }
  return last;
}

/* Whether a mangled symbol can be the function that DWARF calls by a plain name, as it does for static functions and anonymous
 * namespaces: "foo<int>" is written "3foo..." there. */
static bool denotes(const char *mangled, const char *plain) {
  plain = last_component(plain);
  if (strncmp(plain, "operator", 8) == 0) return true;
  if (plain[0] == '~') plain++;
  size_t length = strcspn(plain, "<");
  for (const char *at = mangled; length > 0 && (at = strchr(at, plain[0])) != NULL; at++)
    if (strncmp(at, plain, length) == 0) return true;
  return false;
}

static bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '$' || c == '.' || (c & 0x80) != 0;
}

/* Whether a symbol is that plain name and more before it: Crystal's "*Foo@Bar#baz<Int32>:Nil" is
 * plain "baz" in its DWARF. */
static bool qualifies(const char *symbol, const char *plain) {
  size_t length = strlen(plain);
  for (const char *at = symbol; length > 0 && (at = strstr(at, plain)) != NULL; at++)
    if (at > symbol && !is_word(at[-1]) && (!is_word(at[length]) || !is_word(plain[length - 1])))
      return true;
  return false;
}

/* Without the suffixes of gcc's and clang's clones (".constprop.0", ".cold"): DWARF has said already which function it is.
 * Rust's ".." is part of the name. */
static const char *without_clone_suffix(struct region *region, const char *name) {
  for (const char *at = name; *at != '\0'; at++)
    if (at[0] == '.' && at > name && at[-1] != '.' && at[1] >= 'a' && at[1] <= 'z') {
      char *copy = region_alloc(region, (size_t)(at - name) + 1);
      if (copy == NULL) return name;
      memcpy(copy, name, (size_t)(at - name));
      copy[at - name] = '\0';
      return copy;
    }
  return name;
}

static void note_losses(struct object_symbols *object) {
  unsigned losses = dwarf_names_losses(object->names);
  if ((losses & DWARF_INLINED_CUT) != 0) object->losses |= OBJECT_INLINED_CUT;
  if ((losses & DWARF_SPLIT_MISSING) != 0) object->losses |= OBJECT_SPLIT_MISSING;
}

size_t object_symbols_find(struct object_symbols *object, uint64_t address, struct dwarf_frame frames[DWARF_MAX_FRAMES],
                           uint64_t *symbol_start) {
  const struct plt_stub *stub = plt_symbols_find(&object->plt, address);
  if (stub != NULL) {
    *symbol_start = stub->start;
    frames[0] = (struct dwarf_frame){.name = plt_symbols_name(stub, &object->table, object->symbol_region)};
    return frames[0].name != NULL;
  }
  const struct symbol *symbol = symbol_table_find(&object->table, address);
  *symbol_start = symbol == NULL ? 0 : symbol->start;
  size_t count = 0;
  if (object->names != NULL) {
    count = dwarf_names_find(object->names, address, frames);
    note_losses(object);
    drop_debug_information_if_exhausted(object);
    if (object->names == NULL) count = 0; /* its strings went with the region */
  }
  if (symbol == NULL) return count;
  if (count == 0) frames[count++] = (struct dwarf_frame){.name = symbol->name};
  struct dwarf_frame *function = &frames[count - 1];
  if (function->name == NULL)
    function->name = symbol->name;
  else if (!is_mangled(function->name) && is_mangled(symbol->name) && denotes(symbol->name, function->name))
    function->name = without_clone_suffix(object->symbol_region, symbol->name);
  else if (qualifies(symbol->name, function->name))
    function->name = symbol->name;
  return count;
}

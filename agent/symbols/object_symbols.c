#define _GNU_SOURCE
#include "object_symbols.h"

#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "agent/runtime/agent_memory.h"
#include "debug_files.h"
#include "mapped_file.h"
#include "agent/runtime/memory_headroom.h"
#include "memory_image.h"
#include "plt_symbols.h"
#include "symbol_table.h"

/* from libbacktrace: the xz decoder */
#include "backtrace.h"
#include "internal.h"

enum { MIN_XZ_SIZE = 64, MAX_MINI_DEBUG_INFO = 128 << 20, QUALIFYING_TRIES = 64 };

struct object_symbols {
  struct region *symbol_region,
      *debug_region; /* apart: debug information that is too large leaves the symbol table */
  struct region *found; /* names that the latest lookup made */
  struct section_windows *windows; /* on debug sections; NULL as debug_region is */
  struct symbol_table table;
  struct plt_symbols plt;
  struct dwarf_names *names; /* in debug_region; NULL when there are none */
  unsigned losses;
};

/* Takes the descriptor: a file if it is the object that was mapped: same build-id, or none known
 * and the file neither unlinked nor unloaded. */
static bool open_if_same(struct elf_file *file, struct region *region, int descriptor,
                         const char *build_id, bool trusted) {
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

static bool open_object(struct elf_file *file, struct region *region, const struct mapping *map,
                        bool main_program) {
  bool in_place = !map->deleted && !map->unloaded;
  if (open_if_same(file, region, mapped_file_open(map), map->build_id, in_place)) return true;
  if (map->unloaded) return false;
  int program = main_program ? elf_file_open_path("/proc/thread-self/exe") : -1;
  if (open_if_same(file, region, program, map->build_id, true)) return true;
  char path[80]; /* needs CAP_CHECKPOINT_RESTORE */
  snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", (unsigned long)map->start,
           (unsigned long)map->limit);
  return open_if_same(file, region, elf_file_open_path(path), map->build_id, true);
}

static bool add_symbols(struct object_symbols *object, struct elf_file *file, uint32_t type) {
  for (uint32_t i = 1; i < file->section_count; i++)
    if (file->sections[i].sh_type == type) {
      if (!symbol_table_add_section(&object->table, file, &file->sections[i]))
        object->losses |= OBJECT_MALFORMED;
      return true;
    }
  return false;
}

/* .gnu_debugdata: an xz-compressed ELF file that holds a .symtab of the functions that .dynsym
 * leaves out. */
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
              backtrace_uncompress_lzma(region_backtrace_state(region), packed.data, packed.size,
                                        NULL, NULL, &image, &size) &&
              image != NULL && elf_file_from_memory(&inner, region, image, size) &&
              add_symbols(object, &inner, SHT_SYMTAB);
  if (!read) object->losses |= OBJECT_MALFORMED;
}

static void open_debug_information(struct object_symbols *object, struct elf_file *file,
                                   const struct mapping *map) {
  struct elf_file alternate;
  bool has_alternate = debug_file_open_alternate(&alternate, file);
  unsigned losses;
  object->names = dwarf_names_open(file, has_alternate ? &alternate : NULL, object->windows,
                                   map->path, &losses);
  if (has_alternate) elf_file_close(&alternate);
  if ((losses & DWARF_MALFORMED) != 0) object->losses |= OBJECT_MALFORMED;
  if ((losses & DWARF_MEMORY) != 0) object->losses |= OBJECT_MEMORY_LIMIT;
  if ((losses & DWARF_TOO_COSTLY) != 0) object->losses |= OBJECT_TOO_COSTLY;
}

static void drop_debug_information(struct object_symbols *object) {
  dwarf_names_close(object->names);
  object->names = NULL;
  section_windows_destroy(object->windows);
  object->windows = NULL;
  region_destroy(object->debug_region);
  object->debug_region = NULL;
}

static void drop_debug_information_if_exhausted(struct object_symbols *object) {
  if (object->debug_region == NULL || !region_exhausted(object->debug_region)) return;
  object->losses |= OBJECT_MEMORY_LIMIT;
  drop_debug_information(object);
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
  if (object->names == NULL &&
      debug_file_open(&debug, &in_debug_region, map->path, map->build_id)) {
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
  object->symbol_region = region_create(UINT64_MAX);
  object->debug_region = region_create(UINT64_MAX);
  object->found = region_create(UINT64_MAX);
  object->windows = section_windows_create();
  if (object->symbol_region == NULL || object->debug_region == NULL || object->found == NULL ||
      object->windows == NULL) {
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
    if (map->kind == MAPPING_FILE &&
        debug_file_open_by_build_id(&file, object->debug_region, map->build_id)) {
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
  if (object->names == NULL) drop_debug_information(object); /* what was read in vain */
  return object;
}

void object_symbols_close(struct object_symbols *object) {
  if (object == NULL) return;
  drop_debug_information(object);
  region_destroy(object->symbol_region);
  region_destroy(object->found);
  agent_free(object);
}

void object_symbols_forget(struct object_symbols *object) {
  if (object->names != NULL) dwarf_names_forget(object->names);
  region_empty(object->found);
}

bool object_symbols_close_files(struct object_symbols *object) {
  section_windows_close_files(object->windows);
  return object->names == NULL || !dwarf_names_has_package(object->names);
}

bool object_symbols_open_files(struct object_symbols *object) {
  return section_windows_open_files(object->windows);
}

unsigned object_symbols_losses(const struct object_symbols *object) { return object->losses; }

uint64_t object_symbols_bytes(const struct object_symbols *object) {
  uint64_t bytes = region_bytes(object->symbol_region) + region_bytes(object->found);
  if (object->debug_region != NULL) bytes += region_bytes(object->debug_region);
  if (object->names != NULL) bytes += dwarf_names_bytes(object->names);
  return bytes + section_windows_bytes(object->windows);
}

static bool is_mangled(const char *name) {
  return name[0] == '_' && (name[1] == 'Z' || name[1] == 'R');
}

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

/* Whether a mangled symbol can be the function that DWARF calls by a plain name, as it does for
 * static functions and anonymous namespaces: "foo<int>" is written "3foo..." there. */
static bool denotes(const char *mangled, const char *plain) {
  plain = last_component(plain);
  if (strncmp(plain, "operator", 8) == 0) return true;
  if (plain[0] == '~') plain++;
  size_t length = strcspn(plain, "<");
  return length > 0 && memmem(mangled, strlen(mangled), plain, length) != NULL;
}

static bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '$' || c == '.' || (c & 0x80) != 0;
}

/* Whether a symbol is that plain name and more before it: Crystal's "*Foo@Bar#baz<Int32>:Nil" is
 * plain "baz" in its DWARF. */
static bool qualifies(const char *symbol, const char *plain) {
  size_t length = strlen(plain);
  const char *at = symbol, *end = symbol + strlen(symbol);
  for (int tries = 0; length > 0 && tries < QUALIFYING_TRIES; tries++, at++) {
    at = memmem(at, (size_t)(end - at), plain, length); /* strstr of glibc takes n * m steps */
    if (at == NULL) return false;
    if (at > symbol && !is_word(at[-1]) && (!is_word(at[length]) || !is_word(plain[length - 1])))
      return true;
  }
  return false;
}

/* Without the suffixes of gcc's and clang's clones (".constprop.0", ".cold"): DWARF has said
 * already which function it is. Rust's ".." is part of the name. */
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
  if ((losses & DWARF_MEMORY) != 0) object->losses |= OBJECT_MEMORY_LIMIT;
  if ((losses & DWARF_TOO_COSTLY) != 0) object->losses |= OBJECT_TOO_COSTLY;
}

size_t object_symbols_find(struct object_symbols *object, uint64_t address,
                           struct dwarf_frame frames[DWARF_MAX_FRAMES], uint64_t *symbol_start) {
  region_rewind(object->found);
  const struct plt_stub *stub = plt_symbols_find(&object->plt, address);
  if (stub != NULL) {
    *symbol_start = stub->start;
    frames[0] = (struct dwarf_frame){.name = plt_symbols_name(stub, &object->table, object->found)};
    return frames[0].name != NULL;
  }
  const struct symbol *symbol = symbol_table_find(&object->table, address);
  *symbol_start = symbol == NULL ? 0 : symbol->start;
  size_t count = 0;
  if (object->names != NULL) {
    count = dwarf_names_find(object->names, address, frames);
    note_losses(object);
    drop_debug_information_if_exhausted(object);
    if (object->names != NULL && (object->losses & OBJECT_TOO_COSTLY) != 0)
      drop_debug_information(object);
    if (object->names == NULL) count = 0; /* its strings went with the region */
  }
  if (symbol == NULL) return count;
  if (count == 0) {
    frames[0] = (struct dwarf_frame){.name = symbol->name};
    return 1;
  }
  struct dwarf_frame *function = &frames[count - 1];
  if (function->name == NULL) function->name = symbol->name;
  else if (!is_mangled(function->name) && is_mangled(symbol->name) &&
           denotes(symbol->name, function->name))
    function->name = without_clone_suffix(object->found, symbol->name);
  else if (qualifies(symbol->name, function->name)) function->name = symbol->name;
  return count;
}

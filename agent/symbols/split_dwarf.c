#include "split_dwarf.h"

#include <stdio.h>
#include <string.h>
#include <sys/types.h>

#include "debug_files.h"

/* from libbacktrace */
#include "backtrace.h"
#include "internal.h"

enum {
  PATH_SIZE = 4096,
  OBJECT_PATHS = 2,
  PLACES_OF_OBJECT = 2, /* in its directory: by the .dwo's relative path, by its last part */
  MAX_INDEX_COLUMNS = 16, /* DWARF knows 8 */
  INDEX_HEADER = 16
};

/* A part of a section of a package. */
struct contribution {
  uint32_t offset, size;
};

struct package {
  bool tried, open;
  struct elf_file file;
  struct elf_bytes index; /* .debug_cu_index */
  struct elf_bytes whole[DEBUG_MAX]; /* read whole: strings, and sections that are compressed */
};

struct split_dwarf {
  struct region *region, *details;
  uid_t owner; /* of the file that names the others */
  const char *paths[OBJECT_PATHS]; /* "" for none; not absolute ones are not used */
  struct package packages[OBJECT_PATHS];
};

static const struct {
  enum dwarf_section section;
  const char *name;
  uint32_t column, column_5; /* its number in a package's index of version 2, 5; 0: it is shared */
} split_sections[] = {
    {DEBUG_INFO, ".debug_info.dwo", 1, 1},
    {DEBUG_ABBREV, ".debug_abbrev.dwo", 3, 3},
    {DEBUG_STR_OFFSETS, ".debug_str_offsets.dwo", 6, 6},
    {DEBUG_RNGLISTS, ".debug_rnglists.dwo", UINT32_MAX, 8},
    {DEBUG_STR, ".debug_str.dwo", 0, 0},
};
enum { SPLIT_SECTIONS = sizeof split_sections / sizeof split_sections[0] };

static const char *copy_text(struct region *region, const char *text) {
  size_t size = strlen(text) + 1;
  char *copy = region_alloc(region, size);
  return copy == NULL ? NULL : memcpy(copy, text, size);
}

struct split_dwarf *split_dwarf_create(struct region *region, struct region *details,
                                       const char *object, const char *debug_file, uid_t owner) {
  struct split_dwarf *split = region_alloc(region, sizeof *split);
  if (split == NULL) return NULL;
  memset(split, 0, sizeof *split);
  split->region = region;
  split->owner = owner;
  split->details = details;
  split->paths[0] = copy_text(region, object);
  split->paths[1] = strcmp(object, debug_file) == 0 ? "" : copy_text(region, debug_file);
  return split->paths[0] != NULL && split->paths[1] != NULL ? split : NULL;
}

void split_dwarf_close(struct split_dwarf *split) {
  for (int i = 0; i < OBJECT_PATHS; i++)
    if (split->packages[i].open) elf_file_close(&split->packages[i].file);
}

bool split_dwarf_has_package(const struct split_dwarf *split) {
  return split->packages[0].open || split->packages[1].open;
}

/* ---- packages ---- */

static bool open_package(struct split_dwarf *split, int number) {
  struct package *package = &split->packages[number];
  if (package->tried) return package->open;
  package->tried = true;
  char path[PATH_SIZE];
  int length = snprintf(path, sizeof path, "%s.dwp", split->paths[number]);
  if (split->paths[number][0] != '/' || length >= (int)sizeof path) return false;
  if (!debug_file_open_split(&package->file, split->region, path, split->owner)) return false;
  const Elf64_Shdr *index = elf_section_find(&package->file, ".debug_cu_index");
  package->open = index != NULL && elf_section_read(&package->file, index, &package->index);
  if (!package->open) elf_file_close(&package->file);
  return package->open;
}

static uint32_t number_at(const struct elf_bytes *bytes, uint64_t offset) {
  uint32_t number;
  memcpy(&number, bytes->data + offset, sizeof number);
  return number;
}

/* The index: a header (version, columns, units, slots), a hash table of ids, a table of rows for
 * its slots (from 1; 0: the slot is free), the columns' names, for each row its offsets, for each
 * row its sizes. */
struct index {
  struct elf_bytes bytes;
  uint32_t version, columns, units, slots;
  uint64_t rows, names, offsets, sizes; /* where these tables start */
};

static bool read_index(const struct elf_bytes *bytes, struct index *index) {
  if (bytes->size < INDEX_HEADER) return false;
  index->bytes = *bytes;
  index->version = number_at(bytes, 0) & 0xffff; /* 32 bits in version 2, 16 and a padding in 5 */
  index->columns = number_at(bytes, 4);
  index->units = number_at(bytes, 8);
  index->slots = number_at(bytes, 12);
  if (index->version != 2 && index->version != 5) return false;
  if (index->columns == 0 || index->columns > MAX_INDEX_COLUMNS) return false;
  if (index->slots == 0 || (index->slots & (index->slots - 1)) != 0) return false;
  uint64_t row_size = UINT64_C(4) * index->columns;
  index->rows = INDEX_HEADER + UINT64_C(8) * index->slots;
  index->names = index->rows + UINT64_C(4) * index->slots;
  index->offsets = index->names + row_size;
  index->sizes = index->offsets + row_size * index->units;
  return index->sizes + row_size * index->units <= bytes->size;
}

/* The row of that unit, from 0; -1: it is not in this package. */
static int64_t find_row(const struct index *index, uint64_t id) {
  uint64_t mask = index->slots - 1, slot = id & mask, step = ((id >> 32) & mask) | 1;
  for (uint32_t i = 0; i < index->slots; i++, slot = (slot + step) & mask) {
    uint32_t row = number_at(&index->bytes, index->rows + 4 * slot);
    uint64_t found;
    memcpy(&found, index->bytes.data + INDEX_HEADER + 8 * slot, sizeof found);
    if (row == 0) return -1;
    if (found == id) return row <= index->units ? (int64_t)row - 1 : -1;
  }
  return -1;
}

static bool find_contribution(const struct index *index, int64_t row, uint32_t name,
                              struct contribution *part) {
  for (uint32_t i = 0; i < index->columns; i++) {
    if (number_at(&index->bytes, index->names + UINT64_C(4) * i) != name) continue;
    uint64_t at = UINT64_C(4) * (index->columns * (uint64_t)row + i);
    part->offset = number_at(&index->bytes, index->offsets + at);
    part->size = number_at(&index->bytes, index->sizes + at);
    return true;
  }
  return false;
}

/* part: NULL for the whole section. */
static bool read_part(struct package *package, struct region *details, enum dwarf_section section,
                      const char *name, const struct contribution *part, struct elf_bytes *out) {
  const Elf64_Shdr *header = elf_section_find(&package->file, name);
  if (header == NULL) return false;
  if (part != NULL && (header->sh_flags & SHF_COMPRESSED) == 0) {
    if (part->size > header->sh_size || part->offset > header->sh_size - part->size) return false;
    if (header->sh_offset > package->file.size) return false; /* the sum below cannot overflow */
    struct elf_file in_details = package->file;
    in_details.region = details;
    return elf_file_read(&in_details, header->sh_offset + part->offset, part->size, out);
  }
  struct elf_bytes *whole = &package->whole[section];
  if (whole->data == NULL && !elf_section_read(&package->file, header, whole)) return false;
  *out = *whole;
  if (part == NULL) return true;
  if (part->size > whole->size || part->offset > whole->size - part->size) return false;
  out->data += part->offset;
  out->size = part->size;
  return true;
}

static void read_from_package(struct package *package, struct region *details, uint64_t id,
                              struct dwarf_sections *sections) {
  struct index index;
  int64_t row = read_index(&package->index, &index) ? find_row(&index, id) : -1;
  if (row < 0) return;
  for (int i = 0; i < SPLIT_SECTIONS; i++) {
    uint32_t column = index.version == 5 ? split_sections[i].column_5 : split_sections[i].column;
    enum dwarf_section section = split_sections[i].section;
    struct contribution part;
    struct elf_bytes bytes;
    if (column != 0 && !find_contribution(&index, row, column, &part)) continue;
    if (!read_part(package, details, section, split_sections[i].name, column != 0 ? &part : NULL,
                   &bytes))
      continue;
    sections->data[section] = bytes.data;
    sections->size[section] = bytes.size;
  }
}

/* ---- .dwo files ---- */

/* All sections of that name, one behind the other: gcc gives each type unit one of its own. */
static bool read_joined(struct elf_file *file, const char *name, struct elf_bytes *out) {
  uint32_t count = 0, kept = 0;
  for (uint32_t i = 1; i < file->section_count; i++)
    count += strcmp(elf_section_name(file, &file->sections[i]), name) == 0;
  struct elf_bytes *parts = count == 0 ? NULL : region_alloc(file->region, count * sizeof *parts);
  if (parts == NULL) return false;
  uint64_t size = 0;
  for (uint32_t i = 1; i < file->section_count; i++) {
    if (strcmp(elf_section_name(file, &file->sections[i]), name) != 0) continue;
    if (!elf_section_read(file, &file->sections[i], &parts[kept])) return false;
    size += parts[kept++].size;
  }
  *out = parts[0];
  if (count == 1) return true;
  uint8_t *joined = region_alloc(file->region, size + ELF_PADDING);
  if (joined == NULL) return false;
  *out = (struct elf_bytes){.data = joined, .size = size};
  for (uint32_t i = 0; i < count; joined += parts[i++].size)
    memcpy(joined, parts[i].data, parts[i].size);
  memset(joined, 0, ELF_PADDING);
  return true;
}

static void read_from_file(struct split_dwarf *split, const char *path,
                           struct dwarf_sections *sections) {
  struct elf_file file;
  if (!debug_file_open_split(&file, split->details, path, split->owner)) return;
  for (int i = 0; i < SPLIT_SECTIONS; i++) {
    struct elf_bytes bytes;
    if (!read_joined(&file, split_sections[i].name, &bytes)) continue;
    sections->data[split_sections[i].section] = bytes.data;
    sections->size[split_sections[i].section] = bytes.size;
  }
  elf_file_close(&file);
}

/* Where the compiler says; then in the directories of the object, in case all was moved. */
static bool path_of(const struct split_dwarf *split, const struct split_unit *unit, int number,
                    char path[PATH_SIZE]) {
  const char *name = unit->name, *directory = "", *slash = "";
  int directory_length = 0;
  if (number == 0) {
    if (name[0] != '/') {
      if (unit->directory == NULL || unit->directory[0] != '/') return false;
      directory = unit->directory;
      directory_length = (int)strnlen(directory, PATH_SIZE);
      slash = "/";
    }
  } else {
    directory = split->paths[(number - 1) / PLACES_OF_OBJECT];
    const char *end = strrchr(directory, '/'), *last = strrchr(name, '/');
    if (directory[0] != '/') return false;
    directory_length = (int)(end + 1 - directory);
    bool whole = (number - 1) % PLACES_OF_OBJECT == 0;
    if (whole && name[0] == '/') return false;
    if (!whole) {
      if (last == NULL) return false; /* the same place again */
      name = last + 1;
    }
  }
  int length = snprintf(path, PATH_SIZE, "%.*s%s%s", directory_length, directory, slash, name);
  return length > 0 && length < PATH_SIZE;
}

bool split_dwarf_sections(struct split_dwarf *split, const struct split_unit *unit, int place,
                          struct dwarf_sections *sections) {
  enum { FILES = 1 + OBJECT_PATHS * PLACES_OF_OBJECT };
  char path[PATH_SIZE];
  if (place < OBJECT_PATHS) {
    if (open_package(split, place))
      read_from_package(&split->packages[place], split->details, unit->id, sections);
    return true;
  }
  if (place - OBJECT_PATHS >= FILES) return false;
  if (path_of(split, unit, place - OBJECT_PATHS, path)) read_from_file(split, path, sections);
  return true;
}

#include "dwarf_names.h"

#include <string.h>
#include <sys/types.h>

#include "debug_files.h"
#include "split_dwarf.h"

/* from libbacktrace */
#include "backtrace.h"
#include "internal.h"

static const char *const section_names[DEBUG_MAX] = {
    [DEBUG_INFO] = ".debug_info",         [DEBUG_LINE] = ".debug_line",
    [DEBUG_ABBREV] = ".debug_abbrev",     [DEBUG_RANGES] = ".debug_ranges",
    [DEBUG_STR] = ".debug_str",           [DEBUG_ADDR] = ".debug_addr",
    [DEBUG_STR_OFFSETS] = ".debug_str_offsets", [DEBUG_LINE_STR] = ".debug_line_str",
    [DEBUG_RNGLISTS] = ".debug_rnglists",
};

struct dwarf_names {
  struct region *region;
  fileline find;
  struct split_dwarf *split;
  unsigned losses;
  /* the lookup that is under way */
  struct dwarf_frame *frames;
  size_t count;
};

/* Most of what libbacktrace reports is told by its return values as well; a unit that cannot be
 * read costs its own names only. */
static void note_error(void *data, const char *message, int number) {
  struct dwarf_names *names = data;
  (void)message;
  if (number == BACKTRACE_SPLIT_UNIT_MISSING) names->losses |= DWARF_SPLIT_MISSING;
}

/* Called by libbacktrace. */
int backtrace_split_sections(struct backtrace_state *state, void *data, const char *directory,
                             const char *name, uint64_t id, int attempt,
                             struct dwarf_sections *sections) {
  (void)state;
  const struct dwarf_names *names = data;
  const struct split_unit unit = {.directory = directory, .name = name, .id = id};
  return split_dwarf_sections(names->split, &unit, attempt, sections);
}

/* False: a section is there but cannot be read. has_info tells whether there is anything to read names from. */
static bool read_sections(struct elf_file *file, struct dwarf_sections *sections, bool *has_info) {
  memset(sections, 0, sizeof *sections);
  for (int i = 0; i < DEBUG_MAX; i++) {
    const Elf64_Shdr *section = elf_section_find(file, section_names[i]);
    if (section == NULL) {
      char old_name[32] = ".z"; /* .zdebug_info: compressed the old way */
      strcpy(old_name + 2, section_names[i] + 1);
      section = elf_section_find(file, old_name);
    }
    if (section == NULL || section->sh_size == 0) continue;
    struct elf_bytes bytes;
    if (!elf_section_read(file, section, &bytes)) return false;
    sections->data[i] = bytes.data;
    sections->size[i] = bytes.size;
  }
  *has_info = sections->size[DEBUG_INFO] > 0 && sections->size[DEBUG_ABBREV] > 0;
  return true;
}

static struct dwarf_names *create(struct elf_file *file, const char *object) {
  char path[4096];
  struct dwarf_names *names = region_alloc(file->region, sizeof *names);
  if (names == NULL) return NULL;
  debug_file_path(file, path, sizeof path);
  names->region = file->region;
  names->split = split_dwarf_create(file->region, object, path, file->owner);
  return names->split == NULL ? NULL : names;
}

struct dwarf_names *dwarf_names_open(struct elf_file *file, struct elf_file *alternate,
                                     const char *object, bool *malformed) {
  static const bool big_endian = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;
  *malformed = false;
  if (elf_section_find(file, ".debug_info") == NULL && elf_section_find(file, ".zdebug_info") == NULL) return NULL;
  struct dwarf_names *names = create(file, object);
  struct dwarf_sections sections;
  bool has_info = false;
  if (names == NULL || !read_sections(file, &sections, &has_info)) {
    *malformed = true;
    return NULL;
  }
  if (!has_info) return NULL;
  struct backtrace_state *state = region_backtrace_state(file->region);
  struct dwarf_data *alternate_data = NULL;
  if (alternate != NULL) {
    struct dwarf_sections alternate_sections;
    bool alternate_info = false;
    fileline unused;
    if (!read_sections(alternate, &alternate_sections, &alternate_info) || !alternate_info ||
        !backtrace_dwarf_add(state, 0, &alternate_sections, big_endian, NULL, note_error, names,
                             &unused, &alternate_data))
      alternate_data = NULL;
  }
  if (!backtrace_dwarf_add(state, 0, &sections, big_endian, alternate_data, note_error, names,
                           &names->find, NULL)) {
    *malformed = true;
    return NULL;
  }
  return names;
}

void dwarf_names_close(struct dwarf_names *names) {
  if (names != NULL) split_dwarf_close(names->split);
}

/* Called for the innermost function first, last for the one that is not inlined. */
static int keep_frame(void *data, uintptr_t pc, const char *filename, int line, const char *function) {
  (void)pc;
  struct dwarf_names *names = data;
  if (filename == NULL && function == NULL) return 0;
  if (names->count == DWARF_MAX_FRAMES) {
    names->losses |= DWARF_INLINED_CUT;
    names->count--; /* the last place is for the outermost */
    names->frames[names->count - 1].name = "[truncated: more inlined calls]";
    names->frames[names->count - 1].filename = NULL;
    names->frames[names->count - 1].line = 0;
  }
  names->frames[names->count++] = (struct dwarf_frame){
      .name = function, .filename = filename, .line = line > 0 ? (uint32_t)line : 0};
  return 0;
}

size_t dwarf_names_find(struct dwarf_names *names, uint64_t address, struct dwarf_frame frames[DWARF_MAX_FRAMES]) {
  names->frames = frames;
  names->count = 0;
  names->find(region_backtrace_state(names->region), (uintptr_t)address, keep_frame, note_error,
              names);
  return names->count;
}

unsigned dwarf_names_losses(const struct dwarf_names *names) { return names->losses; }

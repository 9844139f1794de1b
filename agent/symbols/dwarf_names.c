#include "dwarf_names.h"

#include <string.h>
#include <sys/types.h>

#include "debug_files.h"
#include "split_dwarf.h"
#include "symbol_memory.h"

/* from libbacktrace */
#include "backtrace.h"
#include "internal.h"

static const char *const section_names[DEBUG_MAX] = {
    [DEBUG_INFO] = ".debug_info",
    [DEBUG_LINE] = ".debug_line",
    [DEBUG_ABBREV] = ".debug_abbrev",
    [DEBUG_RANGES] = ".debug_ranges",
    [DEBUG_STR] = ".debug_str",
    [DEBUG_ADDR] = ".debug_addr",
    [DEBUG_STR_OFFSETS] = ".debug_str_offsets",
    [DEBUG_LINE_STR] = ".debug_line_str",
    [DEBUG_RNGLISTS] = ".debug_rnglists",
};

enum {
  DETAILS_SHARE = 4 /* of the budget, for what was read of units at lookups */
};

static const bool big_endian = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;

struct dwarf_names {
  struct region *region;
  struct region *details; /* what was read of units; may be given up between two lookups */
  struct region *found; /* the strings of the latest lookup */
  struct section_windows *windows;
  fileline find;
  struct split_dwarf *split;
  unsigned losses;
  uint64_t first_unit; /* bytes of the first that was read into details: it may be large */
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

/* A copy: the section may be a window that is about to move. */
static const char *keep_string(struct dwarf_names *names, const char *text) {
  if (text == NULL || !backtrace_bring_string(text, DWARF_NAME_MAX)) return NULL;
  size_t length = strnlen(text, DWARF_NAME_MAX);
  char *copy = region_alloc(names->found, length + 1);
  if (copy == NULL) return NULL;
  memcpy(copy, text, length);
  copy[length] = '\0';
  return copy;
}

/* Called by libbacktrace. */
int backtrace_split_sections(struct backtrace_state *state, void *data, const char *directory,
                             const char *name, uint64_t id, int attempt,
                             struct dwarf_sections *sections) {
  (void)state;
  struct dwarf_names *names = data;
  const struct split_unit unit = {
      .directory = keep_string(names, directory), .name = keep_string(names, name), .id = id};
  if (unit.name == NULL) return 0;
  return split_dwarf_sections(names->split, &unit, attempt, sections);
}

/* False: a section is there but cannot be read. has_info tells whether there is anything to read
 * names from. */
static bool read_sections(struct section_windows *windows, struct elf_file *file,
                          struct dwarf_sections *sections, bool *has_info) {
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
    if (!section_windows_open(windows, file, section, &bytes)) return false;
    sections->data[i] = bytes.data;
    sections->size[i] = bytes.size;
  }
  *has_info = sections->size[DEBUG_INFO] > 0 && sections->size[DEBUG_ABBREV] > 0;
  return true;
}

static struct dwarf_names *create(struct elf_file *file, struct section_windows *windows,
                                  const char *object) {
  char path[4096];
  struct dwarf_names *names = region_alloc(file->region, sizeof *names);
  if (names == NULL) return NULL;
  memset(names, 0, sizeof *names);
  debug_file_path(file, path, sizeof path);
  names->region = file->region;
  names->windows = windows;
  names->details = region_create(UINT64_MAX);
  names->found = region_create(UINT64_MAX);
  if (names->details != NULL && names->found != NULL)
    names->split = split_dwarf_create(file->region, names->details, object, path, file->owner);
  if (names->split != NULL) return names;
  dwarf_names_close(names);
  return NULL;
}

static struct dwarf_data *open_alternate(struct dwarf_names *names, struct elf_file *file) {
  struct dwarf_sections sections;
  bool has_info = false;
  fileline unused;
  struct dwarf_data *data = NULL;
  if (!read_sections(names->windows, file, &sections, &has_info) || !has_info ||
      !backtrace_dwarf_add(region_backtrace_state(names->region), 0, &sections, big_endian, NULL,
                           note_error, names, &unused, &data))
    return NULL;
  return data;
}

static bool open_sections(struct dwarf_names *names, struct elf_file *file,
                          struct elf_file *alternate, bool *malformed) {
  struct dwarf_sections sections;
  bool has_info = false;
  *malformed = !read_sections(names->windows, file, &sections, &has_info);
  if (*malformed || !has_info) return false;
  region_set_details(names->region, names->details);
  section_windows_use(names->windows);
  struct dwarf_data *moved = alternate == NULL ? NULL : open_alternate(names, alternate);
  *malformed = !backtrace_dwarf_add(region_backtrace_state(names->region), 0, &sections, big_endian,
                                    moved, note_error, names, &names->find, NULL);
  section_windows_use(NULL);
  if (*malformed && region_exhausted(names->details)) names->losses |= DWARF_MEMORY;
  return !*malformed;
}

struct dwarf_names *dwarf_names_open(struct elf_file *file, struct elf_file *alternate,
                                     struct section_windows *windows, const char *object,
                                     unsigned *losses) {
  *losses = 0;
  if (elf_section_find(file, ".debug_info") == NULL &&
      elf_section_find(file, ".zdebug_info") == NULL)
    return NULL;
  struct dwarf_names *names = create(file, windows, object);
  bool malformed = false;
  if (names != NULL && open_sections(names, file, alternate, &malformed)) {
    dwarf_names_forget(names);
    return names;
  }
  bool is_short = names == NULL || (names->losses & DWARF_MEMORY) != 0 ||
                  section_windows_short(windows) || region_exhausted(file->region);
  if (is_short) *losses = DWARF_MEMORY;
  else if (section_windows_overdrawn(windows)) *losses = DWARF_TOO_COSTLY;
  else if (malformed) *losses = DWARF_MALFORMED;
  dwarf_names_close(names);
  return NULL;
}

void dwarf_names_close(struct dwarf_names *names) {
  if (names == NULL) return;
  if (names->split != NULL) split_dwarf_close(names->split);
  region_destroy(names->details);
  region_destroy(names->found);
  names->details = names->found = NULL;
}

/* failed: the units that were read did not fit. */
static void forget(struct dwarf_names *names, bool failed) {
  backtrace_dwarf_forget(region_backtrace_state(names->region), failed);
  region_empty(names->details);
}

void dwarf_names_forget(struct dwarf_names *names) {
  forget(names, false);
  region_empty(names->found);
  section_windows_empty(names->windows);
}

bool dwarf_names_has_package(const struct dwarf_names *names) {
  return split_dwarf_has_package(names->split);
}

uint64_t dwarf_names_bytes(const struct dwarf_names *names) {
  return region_bytes(names->details) + region_bytes(names->found);
}

/* Called for the innermost function first, last for the one that is not inlined. */
static int keep_frame(void *data, uintptr_t pc, const char *filename, int line,
                      const char *function) {
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
  names->frames[names->count++] = (struct dwarf_frame){.name = keep_string(names, function),
                                                       .filename = keep_string(names, filename),
                                                       .line = line > 0 ? (uint32_t)line : 0};
  return 0;
}

static void find(struct dwarf_names *names, uint64_t address) {
  names->count = 0;
  region_rewind(names->found);
  section_windows_use(names->windows);
  names->find(region_backtrace_state(names->region), (uintptr_t)address, keep_frame, note_error,
              names);
  section_windows_use(NULL);
}

size_t dwarf_names_find(struct dwarf_names *names, uint64_t address,
                        struct dwarf_frame frames[DWARF_MAX_FRAMES]) {
  names->frames = frames;
  uint64_t bytes = region_bytes(names->details);
  if (bytes > symbol_memory_budget() / DETAILS_SHARE && bytes > 2 * names->first_unit)
    forget(names, false);
  bool fresh = region_bytes(names->details) == 0;
  find(names, address);
  if (fresh) names->first_unit = region_bytes(names->details);
  if (region_exhausted(names->details) && !fresh) {
    forget(names, false);
    section_windows_empty(names->windows);
    find(names, address);
  }
  if (region_exhausted(names->details)) {
    forget(names, true);
    names->losses |= DWARF_MEMORY;
    names->count = 0;
  }
  if (section_windows_overdrawn(names->windows)) {
    names->losses |= DWARF_TOO_COSTLY;
    names->count = 0;
  }
  return names->count;
}

unsigned dwarf_names_losses(const struct dwarf_names *names) { return names->losses; }

#include "mappings.h"

#include <elf.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "shim/stacks/module_identity.h"
#include "shim/stacks/module_registry.h"
#include "agent/runtime/agent_memory.h"
#include "loaded_code.h"
#include "mapped_file.h"
#include "maps_lines.h"
#include "memory_image.h"
#include "agent/runtime/process_info.h"

enum { PATH_SIZE = 4096, PIECES_MORE = 256 /* than lines */ };

/* What mappings_collect returns: the items, the texts that they point to, and where the live ones
 * end. */
struct collected {
  struct mappings set;
  size_t capacity,
      live_count; /* items[1 .. live_count) are in order of address; unloaded ones follow */
  char *maps_text; /* the live ones' paths point in here or into texts; the others own theirs */
  char **texts;
  size_t text_count;
  bool known[]; /* by index: the registry has it, so a sampled stack may mean it */
};

/* When the first page of the object is not mapped (or no longer its own), its file says where its
 * segments go. */
static bool identify_by_file(struct mapping *map) {
  Elf64_Ehdr header;
  bool found = false;
  int descriptor = map->deleted ? -1 : mapped_file_open(map);
  if (descriptor < 0) return false;
  if (pread(descriptor, &header, sizeof header, 0) == (ssize_t)sizeof header &&
      memcmp(header.e_ident, ELFMAG, SELFMAG) == 0) {
    for (unsigned i = 0; i < header.e_phnum && !found; i++) {
      Elf64_Phdr segment;
      if (pread(descriptor, &segment, sizeof segment,
                (off_t)(header.e_phoff + i * sizeof segment)) != (ssize_t)sizeof segment)
        break;
      if (segment.p_type != PT_LOAD || map->offset + 4096 <= segment.p_offset ||
          map->offset >= segment.p_offset + segment.p_filesz)
        continue;
      map->bias = map->start - (segment.p_vaddr - segment.p_offset + map->offset);
      found = true;
    }
  }
  close(descriptor);
  return found;
}

/* first_page: where the latest line of the same file with offset 0 is mapped, 0 if there is none.
 */
static void describe(struct mapping *map, const struct maps_line *line, uint64_t first_page) {
  memset(map, 0, sizeof *map);
  map->start = line->start;
  map->limit = line->limit;
  map->offset = line->offset;
  map->device = line->device;
  map->inode = line->inode;
  map->bias = line->start - line->offset;
  map->deleted = maps_strip_deleted(line->path);
  map->path = line->path;
  uint64_t bias;
  if (strcmp(line->path, "[vdso]") == 0) {
    map->kind = MAPPING_VDSO;
    if (memory_image_identify(line->start, &bias, map->build_id)) map->bias = bias;
    return;
  }
  if (line->path[0] == '/' && first_page != 0 &&
      memory_image_identify(first_page, &bias, map->build_id)) {
    map->bias = bias;
    return;
  }
  if (maps_is_no_file(line->path)) {
    map->kind = MAPPING_ANONYMOUS;
    if (line->path[0] == '/') map->path = "";
    return;
  }
  map->no_object = !identify_by_file(map);
}

static struct mapping *append(struct collected *collected) {
  if (collected->set.count == collected->capacity) return NULL;
  return &collected->set.items[collected->set.count++];
}

/* ---- what the loader says of an executable line ---- */

/* The object that the latest lines lie in. */
struct current_object {
  char *lines; /* from the one at hand on, each with its NUL */
  const char *lines_end;
  struct loaded_object loaded; /* limit 0: none */
  const char *path; /* of the file it was mapped from; NULL: no line has told */
  bool deleted;
  dev_t device;
  ino_t inode;
};

static bool is_in(const struct current_object *object, uint64_t address) {
  return address >= object->loaded.start && address < object->loaded.limit;
}

static const struct loaded_segment *segment_at(const struct loaded_object *object, uint64_t address,
                                               bool executable) {
  for (unsigned i = 0; i < object->segment_count; i++) {
    const struct loaded_segment *segment = &object->segments[i];
    if (address < segment->start || address >= segment->limit) continue;
    if (segment->executable || !executable) return segment;
  }
  return NULL;
}

/* Which file the object is: the last that its lines show in its place. Text that was moved to
 * another file (hugetlbfs, /dev/shm) is in its place as well, the data behind it tells better. */
static void look_for_file(struct current_object *object) {
  struct maps_line line;
  for (char *at = object->lines; at < object->lines_end; at += strlen(at) + 1) {
    if (!maps_line_parse(at, &line)) continue;
    if (line.start >= object->loaded.limit) break;
    if (!is_in(object, line.start) || line.inode == 0 || maps_is_no_file(line.path)) continue;
    const struct loaded_segment *segment = segment_at(&object->loaded, line.start, false);
    if (segment == NULL || line.offset != segment->offset + (line.start - segment->start)) continue;
    object->path = line.path;
    object->device = line.device;
    object->inode = line.inode;
  }
  if (object->path != NULL) object->deleted = maps_strip_deleted((char *)(uintptr_t)object->path);
}

static bool find_object(struct current_object *object, uint64_t address) {
  if (is_in(object, address)) return true;
  *object = (struct current_object){.lines = object->lines, .lines_end = object->lines_end};
  if (!loaded_object_at(address, &object->loaded)) object->loaded.limit = 0;
  if (object->loaded.limit == 0) return false;
  look_for_file(object);
  return true;
}

/* The loader's name may be relative to what was the working directory: a guess that the build-id
 * has to confirm. */
static char *absolute_path(const char *path) {
  char absolute[PATH_SIZE];
  if (path[0] == '\0') {
    ssize_t length = readlink("/proc/thread-self/exe", absolute, sizeof absolute - 1);
    if (length < 0) return agent_strdup(process_program_path());
    absolute[length] = '\0';
    maps_strip_deleted(absolute);
    return agent_strdup(absolute);
  }
  if (path[0] == '/' || path[0] == '[') return agent_strdup(path);
  ssize_t length = readlink("/proc/thread-self/cwd", absolute, sizeof absolute);
  if (length <= 0 || (size_t)length + 2 + strlen(path) > sizeof absolute) return agent_strdup(path);
  snprintf(absolute + length, sizeof absolute - (size_t)length, "/%s", path);
  return agent_strdup(absolute);
}

/* By the loader's own name, as no line shows the file: that one is not trusted without its
 * build-id. */
static bool name_by_loader(struct collected *collected, struct current_object *object) {
  char name[PATH_SIZE];
  loaded_object_name(&object->loaded, name, sizeof name);
  char **texts = agent_realloc(collected->texts, (collected->text_count + 1) * sizeof *texts);
  if (texts != NULL) collected->texts = texts;
  char *path = texts == NULL ? NULL : absolute_path(name);
  if (path == NULL) return false;
  object->path = texts[collected->text_count++] = path;
  object->deleted = true;
  return true;
}

/* Where the next object that a sampled stack knows begins, in front of limit. */
static uint64_t next_module(uint64_t address, uint64_t limit) {
  struct module_view module;
  for (uint32_t i = 1, count = module_registry_count(); i <= count; i++)
    if (module_registry_read(i, &module) && module.start > address && module.start < limit)
      limit = module.start;
  return limit;
}

/* A line that is no object's file: text that the program has moved to other memory is still the
 * object's, all else is what it is. */
static bool add_pieces(struct collected *collected, struct current_object *object,
                       const struct maps_line *line, uint64_t first_page) {
  for (uint64_t at = line->start, end; at < line->limit; at = end) {
    bool inside = find_object(object, at);
    const struct loaded_segment *segment = inside ? segment_at(&object->loaded, at, true) : NULL;
    end = segment != NULL ? segment->limit
          : inside        ? object->loaded.limit
                          : next_module(at, line->limit);
    for (unsigned i = 0; inside && segment == NULL && i < object->loaded.segment_count; i++) {
      const struct loaded_segment *next = &object->loaded.segments[i];
      if (next->executable && next->start > at && next->start < end) end = next->start;
    }
    if (end > line->limit) end = line->limit;
    struct mapping *map = append(collected);
    if (map == NULL) return false;
    if (segment == NULL || (object->path == NULL && !name_by_loader(collected, object))) {
      struct maps_line piece = *line;
      piece.offset += at - line->start;
      piece.start = at;
      piece.limit = end;
      describe(map, &piece, first_page);
      continue;
    }
    *map = (struct mapping){.start = at,
                            .limit = end,
                            .offset = segment->offset + (at - segment->start),
                            .device = object->device,
                            .inode = object->inode,
                            .bias = object->loaded.bias,
                            .kind = MAPPING_FILE,
                            .deleted = object->deleted,
                            .path = object->path};
    memcpy(map->build_id, object->loaded.build_id, sizeof map->build_id);
  }
  return true;
}

/* An object's lines follow one another, that with the ELF header (offset 0) first; lines after it
 * may have offset 0 as well, when a small file's segments share a page. */
static void add_live(struct collected *collected) {
  uint64_t first_page = 0;
  struct maps_line line, previous = {0};
  char *text = collected->maps_text;
  struct current_object object = {.lines_end = text + strlen(text)};
  for (char *newline = text; (newline = strchr(newline, '\n')) != NULL;) *newline++ = '\0';
  for (char *at = text; at < object.lines_end; at += strlen(at) + 1) {
    if (!maps_line_parse(at, &line)) continue; /* or what maps_strip_deleted has cut off */
    object.lines = at;
    if (line.inode == 0 && line.path[0] == '\0' && !line.executable)
      continue; /* .bss: between the lines of one object */
    bool same_file =
        line.inode == previous.inode && line.device == previous.device && line.inode != 0;
    if (!same_file) first_page = 0;
    if (line.offset == 0 && line.inode != 0 && (first_page == 0 || previous.offset != 0))
      first_page = line.start;
    previous = line;
    find_object(&object, line.start);
    if (!line.executable) continue;
    bool is_vdso = strcmp(line.path, "[vdso]") == 0;
    bool is_own = is_in(&object, line.start) && object.path != NULL && object.inode == line.inode &&
                  object.device == line.device;
    bool is_file = line.inode != 0 && !maps_is_no_file(line.path) && !is_in(&object, line.start);
    if (!is_vdso && !is_own && !is_file) {
      if (!add_pieces(collected, &object, &line, first_page)) return;
      continue;
    }
    struct mapping *map = append(collected);
    if (map == NULL) return;
    describe(map, &line, is_own ? object.loaded.start : first_page);
    if (is_own) map->deleted = object.deleted;
  }
}

static void copy_build_id(const struct module_view *module, char hex[BUILD_ID_HEX_MAX]) {
  hex[0] = '\0';
  if (module->build_id != NULL) build_id_to_hex(module->build_id, module->build_id_size, hex);
}

/* Without a build-id: whether what is loaded there now is still that module. */
static bool is_unchanged(const struct module_view *module) {
  return module->current || module->identity == 0 ||
         module_identity(module->start, module->end, module->bias, memory_image_read) ==
             module->identity;
}

static bool is_module(const struct mapping *map, const struct module_view *module,
                      const char *build_id) {
  return map->kind != MAPPING_ANONYMOUS && map->start < module->end && map->limit > module->start &&
         map->bias == module->bias &&
         (build_id[0] == '\0' || map->build_id[0] == '\0' ||
          strcmp(build_id, map->build_id) == 0) &&
         (build_id[0] != '\0' || is_unchanged(module));
}

static bool is_vdso_name(const char *path) {
  return strncmp(path, "linux-vdso", 10) == 0 || strncmp(path, "linux-gate", 10) == 0;
}

/* Joins one module with the live mappings that are its, or adds it as one that is gone (or, without
 * /proc, as all there is). */
static void join_module(struct collected *collected, const struct module_view *module,
                        bool proc_readable) {
  char build_id[BUILD_ID_HEX_MAX];
  copy_build_id(module, build_id);
  bool live = false;
  for (size_t i = 0; i < collected->live_count; i++) {
    struct mapping *map = &collected->set.items[i];
    if (!is_module(map, module, build_id)) continue;
    live = true;
    collected->known[i] = true;
    if (module->first_epoch > map->first_epoch) map->first_epoch = module->first_epoch;
  }
  if (live) return;
  bool vdso = is_vdso_name(module->path);
  char *path = absolute_path(vdso ? "[vdso]" : module->path);
  struct mapping *map = path == NULL ? NULL : append(collected);
  if (map == NULL) {
    agent_free(path);
    return;
  }
  memset(map, 0, sizeof *map);
  map->start = module->start;
  map->limit = module->end;
  map->bias = module->bias;
  map->unloaded = proc_readable;
  map->first_epoch = module->first_epoch;
  memcpy(map->build_id, build_id, sizeof build_id);
  /* after a chroot its path may lead to another file: without a build-id nobody could tell */
  map->deleted = !proc_readable && build_id[0] == '\0';
  map->kind = vdso ? MAPPING_VDSO : MAPPING_FILE;
  map->path = path;
}

/* Puts the main program's mapping first and keeps the order of the others. */
static void main_program_first(struct collected *collected) {
  uint64_t start = getauxval(AT_ENTRY), end = start + 1;
  struct module_view module;
  for (uint32_t i = 1, count = module_registry_count(); i <= count; i++)
    if (module_registry_read(i, &module) && module.path != NULL && module.path[0] == '\0') {
      start = module.start; /* when started as an argument of ld.so, AT_ENTRY is ld.so's */
      end = module.end;
      break;
    }
  for (size_t i = 0; i < collected->set.count; i++) {
    struct mapping found = collected->set.items[i];
    if (found.start >= end || found.limit <= start) continue;
    memmove(&collected->set.items[1], &collected->set.items[0], i * sizeof found);
    collected->set.items[0] = found;
    return;
  }
}

struct mappings *mappings_collect(void) {
  char *text = maps_read();
  size_t lines = 0;
  for (const char *at = text; at != NULL && *at != '\0'; at++) lines += *at == '\n';
  uint32_t modules = module_registry_count();
  size_t capacity = lines + PIECES_MORE + modules;
  struct collected *collected =
      agent_calloc(1, sizeof *collected + capacity * sizeof collected->known[0]);
  if (collected != NULL) {
    collected->capacity = capacity;
    collected->set.items = agent_calloc(collected->capacity, sizeof *collected->set.items);
  }
  if (collected == NULL || collected->set.items == NULL) {
    agent_free(collected);
    agent_free(text);
    return NULL;
  }
  collected->maps_text = text;
  if (text != NULL) add_live(collected);
  main_program_first(collected);
  collected->live_count = collected->set.count;
  for (uint32_t i = 1; i <= modules; i++) {
    struct module_view module;
    if (module_registry_read(i, &module) && module.path != NULL)
      join_module(collected, &module, text != NULL);
  }
  if (text == NULL) main_program_first(collected);
  return &collected->set;
}

void mappings_release(struct mappings *set) {
  if (set == NULL) return;
  struct collected *collected = (struct collected *)(void *)set;
  for (size_t i = collected->live_count; i < set->count; i++)
    agent_free((char *)(uintptr_t)set->items[i].path);
  for (size_t i = 0; i < collected->text_count; i++) agent_free(collected->texts[i]);
  agent_free(collected->texts);
  agent_free(collected->maps_text);
  agent_free(set->items);
  agent_free(collected);
}

static bool holds(const struct mapping *map, uint64_t address) {
  return address >= map->start && address < map->limit;
}

static const struct mapping *find_live(const struct collected *collected, uint64_t address) {
  const struct mapping *items = collected->set.items;
  if (collected->live_count == 0) return NULL;
  if (holds(&items[0], address)) return &items[0];
  size_t low = 1,
         high = collected->live_count; /* the last that starts at or below address is low - 1 */
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (items[middle].start <= address) low = middle + 1;
    else high = middle;
  }
  return low > 1 && holds(&items[low - 1], address) ? &items[low - 1] : NULL;
}

const struct mapping *mappings_find(const struct mappings *set, uint64_t address, uint32_t epoch) {
  const struct collected *collected = (const struct collected *)(const void *)set;
  const struct mapping *live = find_live(collected, address), *best = NULL;
  if (live != NULL && (epoch == UINT32_MAX || collected->live_count == set->count)) return live;
  if (live != NULL && collected->known[live - set->items] && live->first_epoch <= epoch)
    best = live;
  for (size_t i = collected->live_count; i < set->count; i++) {
    const struct mapping *map = &set->items[i];
    if (holds(map, address) && map->first_epoch <= epoch &&
        (best == NULL || map->first_epoch > best->first_epoch))
      best = map;
  }
  /* a live one that the registry does not know (JIT code, say) has no claim against what sampled
   * stacks have meant */
  return best == NULL && live != NULL && live->first_epoch <= epoch ? live : best;
}

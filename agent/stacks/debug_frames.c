#include "debug_frames.h"

#include <string.h>

#include "agent/runtime/agent_memory.h"
#include "agent/runtime/byte_reader.h"
#include "agent/symbols/debug_files.h"
#include "agent/symbols/elf_file.h"
#include "agent/symbols/libbacktrace_region.h"
#include "agent/symbols/loaded_code.h"
#include "agent/runtime/trusted_path.h"

/* from libbacktrace: glibc's qsort may use the host's malloc */
#include "backtrace.h"
#include "internal.h"

enum {
  OBJECTS_MAX = 32, /* more: the oldest is forgotten */
  OBJECT_BYTES_MAX = 16 << 20,
  TOTAL_BYTES_MAX = 32 << 20,
  PATH_BYTES = 4096,
  EXTENDED = 0xffffffff
};

struct range {
  uint64_t start, end; /* as in the file */
  size_t offset;
};

struct object {
  uint64_t start, limit, bias;
  struct region *region; /* NULL: it has no .debug_frame that could be read */
  struct elf_bytes section;
  struct range *ranges;
  size_t count;
};

struct debug_frames {
  struct object objects[OBJECTS_MAX];
  unsigned next;
};

struct debug_frames *debug_frames_new(void) {
  return agent_calloc(1, sizeof(struct debug_frames));
}

static void forget_object(struct object *object) {
  if (object->region) region_destroy(object->region);
  memset(object, 0, sizeof *object);
}

void debug_frames_forget(struct debug_frames *frames) {
  for (unsigned i = 0; i < OBJECTS_MAX; i++) forget_object(&frames->objects[i]);
}

void debug_frames_release(struct debug_frames *frames) {
  if (frames) debug_frames_forget(frames);
  agent_free(frames);
}

/* ---- the section ---- */

/* An entry's length, and the reader within it. */
static struct byte_reader take_entry(struct byte_reader *reader, bool *wide) {
  uint64_t length = byte_reader_take(reader, 4);
  *wide = length == EXTENDED;
  if (*wide) length = byte_reader_take(reader, 8);
  if (length > (uint64_t)(reader->end - reader->at)) reader->failed = true;
  if (reader->failed) return (struct byte_reader){NULL, NULL, true};
  struct byte_reader entry = {reader->at, reader->at + length, false};
  reader->at += length;
  return entry;
}

static bool is_common(uint64_t id, bool wide) { return id == (wide ? UINT64_MAX : EXTENDED); }

/* Addresses are whole words there but where an augmentation says otherwise, which no compiler
 * writes in this section. */
static bool has_plain_addresses(const struct object *object, uint64_t offset) {
  if (offset >= object->section.size) return false;
  struct byte_reader reader = {object->section.data + offset,
                               object->section.data + object->section.size, false};
  bool wide;
  struct byte_reader entry = take_entry(&reader, &wide);
  uint64_t id = byte_reader_take(&entry, wide ? 8 : 4);
  byte_reader_take(&entry, 1); /* version */
  return is_common(id, wide) && byte_reader_take(&entry, 1) == 0 && !entry.failed;
}

/* Counts the entries, and writes them where ranges is not NULL. */
static size_t read_entries(const struct object *object, struct range *ranges) {
  struct byte_reader reader = {object->section.data, object->section.data + object->section.size,
                               false};
  size_t count = 0;
  uint64_t plain = UINT64_MAX; /* the last common entry that was found to be so */
  while (reader.at < reader.end) {
    size_t offset = (size_t)(reader.at - object->section.data);
    bool wide;
    struct byte_reader entry = take_entry(&reader, &wide);
    uint64_t common = byte_reader_take(&entry, wide ? 8 : 4), start = byte_reader_take(&entry, 8),
             size = byte_reader_take(&entry, 8);
    if (reader.failed) break;
    if (is_common(common, wide) || entry.failed || size == 0 || start + size < start) continue;
    if (common != plain && !has_plain_addresses(object, common)) continue;
    plain = common;
    if (ranges) ranges[count] = (struct range){start, start + size, offset};
    count++;
  }
  return count;
}

static int by_start(const void *left, const void *right) {
  const struct range *a = left, *b = right;
  if (a->start != b->start) return a->start < b->start ? -1 : 1;
  return a->offset < b->offset ? -1 : a->offset > b->offset;
}

static bool read_section(struct object *object, struct elf_file *file) {
  const Elf64_Shdr *section = elf_section_find(file, ".debug_frame");
  if (!section || !elf_section_read(file, section, &object->section)) return false;
  object->count = read_entries(object, NULL);
  object->ranges = region_alloc(object->region, object->count * sizeof *object->ranges);
  if (!object->count || !object->ranges) return false;
  read_entries(object, object->ranges);
  backtrace_qsort(object->ranges, object->count, sizeof *object->ranges, by_start);
  return true;
}

/* ---- its file ---- */

static bool open_object(struct elf_file *file, struct region *region,
                        const struct loaded_object *loaded, char *path) {
  char found[BUILD_ID_HEX_MAX];
  loaded_object_name(loaded, path, PATH_BYTES);
  /* a name may be relative to what was the working directory, and a build-id is no secret */
  int descriptor = *path ? trusted_path_open_contents(path, (uid_t)-1)
                         : elf_file_open_path("/proc/thread-self/exe");
  if (!*path) strcpy(path, "/proc/thread-self/exe");
  if (descriptor < 0 || !elf_file_from_descriptor(file, region, descriptor)) return false;
  /* Without a build-id nothing says that the file is still what was loaded. */
  if (loaded->build_id[0] && elf_file_build_id(file, found) && strcmp(found, loaded->build_id) == 0)
    return true;
  elf_file_close(file);
  return false;
}

static bool read_files(struct object *object, const struct loaded_object *loaded) {
  struct elf_file file, debug;
  char *path = agent_malloc(PATH_BYTES);
  bool read = false;
  if (path && open_object(&file, object->region, loaded, path)) {
    read = read_section(object, &file);
    if (!read && debug_file_open(&debug, &file, path, loaded->build_id)) {
      read = read_section(object, &debug);
      elf_file_close(&debug);
    }
    elf_file_close(&file);
  } else if (debug_file_open_by_build_id(&debug, object->region, loaded->build_id)) {
    read = read_section(object, &debug);
    elf_file_close(&debug);
  }
  agent_free(path);
  return read;
}

static uint64_t bytes_in_use(const struct debug_frames *frames) {
  uint64_t sum = 0;
  for (unsigned i = 0; i < OBJECTS_MAX; i++)
    if (frames->objects[i].region) sum += region_bytes(frames->objects[i].region);
  return sum;
}

/* What cannot be read is remembered too, so that it is tried once. */
static struct object *read_object(struct debug_frames *frames, const struct loaded_object *loaded) {
  struct object *object = &frames->objects[frames->next];
  frames->next = (frames->next + 1) % OBJECTS_MAX;
  forget_object(object);
  object->start = loaded->start;
  object->limit = loaded->limit;
  object->bias = loaded->bias;
  uint64_t used = bytes_in_use(frames);
  uint64_t room = used < TOTAL_BYTES_MAX ? TOTAL_BYTES_MAX - used : 0;
  object->region = region_create(room < OBJECT_BYTES_MAX ? room : OBJECT_BYTES_MAX);
  if (object->region && !read_files(object, loaded)) {
    region_destroy(object->region);
    object->region = NULL;
  }
  return object;
}

static struct object *object_of(struct debug_frames *frames, uintptr_t pc) {
  struct loaded_object loaded;
  for (unsigned i = 0; i < OBJECTS_MAX; i++) {
    struct object *object = &frames->objects[i];
    if (pc - object->start < object->limit - object->start) return object;
  }
  if (!loaded_object_at(pc, &loaded)) return NULL;
  return read_object(frames, &loaded);
}

bool debug_frames_find(struct debug_frames *frames, uintptr_t pc, struct debug_frame_entry *out) {
  struct object *object = object_of(frames, pc);
  if (!object || !object->region) return false;
  uint64_t wanted = pc - object->bias;
  size_t low = 0, high = object->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (object->ranges[middle].start <= wanted) low = middle + 1;
    else high = middle;
  }
  if (low == 0 || wanted >= object->ranges[low - 1].end) return false;
  *out = (struct debug_frame_entry){object->section.data, object->section.size,
                                    object->ranges[low - 1].offset, object->bias};
  return true;
}

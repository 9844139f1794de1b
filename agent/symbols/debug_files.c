#include "debug_files.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "agent/runtime/agent_memory.h"
#include "agent/runtime/trusted_path.h"

#define DEBUG_ROOT "/usr/lib/debug"

enum { PATH_SIZE = 4096, READ_STEP = 1 << 16 };

/* also: who may own it beside root and this user: the owner of the file that names it. */
static bool open_path(struct elf_file *file, struct region *region, const char *path, uid_t also) {
  int descriptor = trusted_path_open_contents(path, also);
  return descriptor >= 0 && elf_file_from_descriptor(file, region, descriptor);
}

static bool has_build_id(struct elf_file *file, const char *wanted) {
  char found[BUILD_ID_HEX_MAX];
  return elf_file_build_id(file, found) && strcmp(found, wanted) == 0;
}

bool debug_file_open_by_build_id(struct elf_file *debug, struct region *region,
                                 const char *build_id) {
  char path[sizeof DEBUG_ROOT + 32 + BUILD_ID_HEX_MAX];
  if (strlen(build_id) < 6) return false;
  snprintf(path, sizeof path, DEBUG_ROOT "/.build-id/%.2s/%s.debug", build_id, build_id + 2);
  if (!open_path(debug, region, path, (uid_t)-1)) return false;
  if (has_build_id(debug, build_id)) return true;
  elf_file_close(debug);
  return false;
}

static bool has_checksum(const struct elf_file *file, uint32_t wanted) {
  uint8_t *block = agent_malloc(READ_STEP);
  if (block == NULL) return false;
  uLong checksum = crc32(0, NULL, 0);
  uint64_t offset = 0;
  while (offset < file->size) {
    ssize_t got = pread(file->descriptor, block, READ_STEP, (off_t)offset);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    checksum = crc32(checksum, block, (uInt)got);
    offset += (uint64_t)got;
  }
  agent_free(block);
  return offset == file->size && (uint32_t)checksum == wanted;
}

/* .gnu_debuglink: a file name, padding to 4 bytes, the CRC-32 of the file's contents. */
static bool read_debuglink(struct elf_file *object, const char **name, uint32_t *checksum) {
  const Elf64_Shdr *section = elf_section_find(object, ".gnu_debuglink");
  struct elf_bytes link;
  if (section == NULL || section->sh_size > PATH_SIZE || !elf_section_read(object, section, &link))
    return false;
  size_t length = strnlen((const char *)link.data, link.size);
  uint64_t at = (length + 4) & ~(size_t)3;
  if (length == 0 || at + 4 > link.size || strchr((const char *)link.data, '/') != NULL)
    return false;
  memcpy(checksum, link.data + at, 4);
  *name = (const char *)link.data;
  return true;
}

static bool open_by_debuglink(struct elf_file *debug, struct elf_file *object, const char *path,
                              const char *build_id) {
  static const struct {
    const char *root, *below;
    size_t skip; /* leading part of the object's directory to leave out */
  } places[] = {
      {"", "", 0}, {"", ".debug/", 0}, {DEBUG_ROOT, "", 0}, {DEBUG_ROOT, "", sizeof "/usr" - 1}};
  const char *name;
  uint32_t checksum;
  const char *slash = strrchr(path, '/');
  if (slash == NULL || !read_debuglink(object, &name, &checksum)) return false;
  int directory = (int)(slash + 1 - path); /* with its slash */
  for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
    char candidate[PATH_SIZE];
    size_t skip = places[i].skip;
    if (skip != 0 && strncmp(path, "/usr/", skip + 1) != 0) continue;
    int length = snprintf(candidate, sizeof candidate, "%s%.*s%s%s", places[i].root,
                          directory - (int)skip, path + skip, places[i].below, name);
    if (length < 0 || length >= (int)sizeof candidate || strcmp(candidate, path) == 0) continue;
    if (!open_path(debug, object->region, candidate, object->owner)) continue;
    char found[BUILD_ID_HEX_MAX];
    bool right = build_id[0] != '\0' && elf_file_build_id(debug, found)
                     ? strcmp(found, build_id) == 0
                     : has_checksum(debug, checksum);
    if (right) return true;
    elf_file_close(debug);
  }
  return false;
}

bool debug_file_open(struct elf_file *debug, struct elf_file *object, const char *path,
                     const char *build_id) {
  return debug_file_open_by_build_id(debug, object->region, build_id) ||
         open_by_debuglink(debug, object, path, build_id);
}

bool debug_file_open_split(struct elf_file *split, struct region *region, const char *path,
                           uid_t also) {
  return open_path(split, region, path, also);
}

void debug_file_path(const struct elf_file *file, char *path, size_t size) {
  char self[64]; /* thread-self: agent threads have a descriptor table of their own */
  path[0] = '\0';
  if (file->descriptor < 0) return;
  snprintf(self, sizeof self, "/proc/thread-self/fd/%d", file->descriptor);
  ssize_t got = readlink(self, path, size);
  path[got > 0 && (size_t)got < size ? got : 0] = '\0';
}

/* .gnu_debugaltlink: a file name, absolute or relative to the file it stands in, then the build-id
 * of the file that is meant. */
bool debug_file_open_alternate(struct elf_file *alternate, struct elf_file *file) {
  const Elf64_Shdr *section = elf_section_find(file, ".gnu_debugaltlink");
  struct elf_bytes link;
  if (section == NULL || section->sh_size > PATH_SIZE || !elf_section_read(file, section, &link))
    return false;
  const char *name = (const char *)link.data;
  size_t length = strnlen(name, link.size);
  if (length == 0 || length + 1 >= link.size || link.size - length - 1 > (BUILD_ID_HEX_MAX - 1) / 2)
    return false;
  char build_id[BUILD_ID_HEX_MAX];
  build_id_to_hex(link.data + length + 1, link.size - length - 1, build_id);

  char path[PATH_SIZE];
  size_t directory = 0;
  if (name[0] != '/') {
    debug_file_path(file, path, sizeof path);
    const char *slash = strrchr(path, '/');
    directory = slash == NULL ? 0 : (size_t)(slash + 1 - path);
  }
  if (directory + length < sizeof path && (name[0] == '/' || directory > 0)) {
    memcpy(path + directory, name, length + 1);
    if (open_path(alternate, file->region, path, file->owner)) {
      if (has_build_id(alternate, build_id)) return true;
      elf_file_close(alternate);
    }
  }
  return debug_file_open_by_build_id(alternate, file->region, build_id);
}

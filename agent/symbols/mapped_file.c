#include "mapped_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include "elf_file.h"
#include "agent/runtime/trusted_path.h"

static bool is_mapped(int descriptor, const struct mapping *map) {
  struct stat status;
  return map->inode != 0 && fstat(descriptor, &status) == 0 && status.st_ino == map->inode &&
         status.st_dev == map->device;
}

int mapped_file_open(const struct mapping *map) {
  int descriptor = elf_file_open_path(map->path);
  if (descriptor < 0 || is_mapped(descriptor, map)) return descriptor;
  close(descriptor);
  return trusted_path_open_contents(map->path, (uid_t)-1);
}

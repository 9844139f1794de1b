#include "loaded_code.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stddef.h>
#include <string.h>

#include "memory_image.h"

enum { PAGE = 4096 };

static bool read_segments(struct loaded_object *object) {
  enum { HEADERS_MAX = 512 };
  Elf64_Ehdr header;
  Elf64_Phdr segment;
  if (!memory_image_read(object->start, &header, sizeof header) ||
      memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_phentsize != sizeof segment ||
      header.e_phnum > HEADERS_MAX)
    return false;
  for (unsigned i = 0; i < header.e_phnum && object->segment_count < LOADED_SEGMENTS_MAX; i++) {
    if (!memory_image_read(object->start + header.e_phoff + i * sizeof segment, &segment,
                           sizeof segment))
      return false;
    if (segment.p_type != PT_LOAD) continue;
    uint64_t start = object->bias + segment.p_vaddr, limit = start + segment.p_memsz,
             before = start % PAGE;
    if (limit < start || start < object->start || limit > object->limit ||
        segment.p_offset < before)
      continue;
    object->segments[object->segment_count++] =
        (struct loaded_segment){start - before, (limit + PAGE - 1) & ~(uint64_t)(PAGE - 1),
                                segment.p_offset - before, (segment.p_flags & PF_X) != 0};
  }
  return true;
}

void loaded_object_name(const struct loaded_object *object, char *out, size_t size) {
  size_t used = 0;
  while (used + 1 < size) { /* page by page: what follows the text may not be mapped */
    size_t part = PAGE - (object->name + used) % PAGE, room = size - 1 - used;
    if (part > room) part = room;
    if (!memory_image_read(object->name + used, out + used, part)) break;
    size_t length = strnlen(out + used, part);
    used += length;
    if (length < part) break;
  }
  out[used] = '\0';
}

bool loaded_object_at(uint64_t address, struct loaded_object *out) {
  struct dl_find_object found;
  struct link_map map; /* a copy: another thread may unload the object */
  uint64_t bias;
  if (_dl_find_object((void *)(uintptr_t)address, &found) != 0) return false;
  if (!memory_image_read((uintptr_t)found.dlfo_link_map, &map, offsetof(struct link_map, l_ld)))
    return false;
  out->start = (uintptr_t)found.dlfo_map_start;
  out->limit = (uintptr_t)found.dlfo_map_end;
  out->bias = map.l_addr;
  out->segment_count = 0;
  if (!memory_image_identify(out->start, &bias, out->build_id) || bias != out->bias) return false;
  out->name = (uintptr_t)map.l_name;
  return read_segments(out);
}

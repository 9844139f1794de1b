/* Which object the loader has put at an address, whatever is mapped there now: programs move their
 * text to huge pages, by mapping a copy over it. Context: agent threads; locks: none
 * (_dl_find_object takes none, and what it points to is read as memory_image.h reads). */
#ifndef AGENT_LOADED_CODE_H
#define AGENT_LOADED_CODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "elf_file.h"

enum { LOADED_SEGMENTS_MAX = 16 };

struct loaded_segment { /* whole pages */
  uint64_t start, limit, offset;
  bool executable;
};

struct loaded_object {
  uint64_t start, limit, bias;
  struct loaded_segment segments[LOADED_SEGMENTS_MAX];
  unsigned segment_count;
  char build_id[BUILD_ID_HEX_MAX]; /* or "" */
  uint64_t name; /* where the loader's name for it is */
};

/* False: the loader knows of none there, or its headers cannot be read. */
bool loaded_object_at(uint64_t address, struct loaded_object *out);

/* "" for the main program; may be relative to what was the working directory. */
void loaded_object_name(const struct loaded_object *object, char *out, size_t size);

#endif

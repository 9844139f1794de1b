/* Where the unwind information for a pc is: the loader says which object it belongs to, that
 * object's .eh_frame_hdr which entry (FDE) of its .eh_frame. All of it is read as memory_reader.h
 * reads, so an object may go away meanwhile. Context: agent threads; locks: none
 * (_dl_find_object takes none). */
#ifndef AGENT_UNWIND_TABLES_H
#define AGENT_UNWIND_TABLES_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/runtime/memory_reader.h"

struct unwind_entry {
  uintptr_t fde; /* its address */
  uintptr_t header; /* of the object's .eh_frame_hdr */
  uintptr_t object_start, object_end; /* the object, as far as the loader knows */
};

/* False: there is none, or its table is not one that linkers write. Whether the entry covers pc is
 * the entry's to say. */
bool unwind_tables_find(struct memory_reader *memory, uintptr_t pc, struct unwind_entry *out);

#endif

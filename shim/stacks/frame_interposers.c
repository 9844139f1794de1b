/* Code that the program makes at run time, and tells the C++ runtime how to unwind: LLVM.
 * The calls are the runtime's as ever; what they say is copied (registered_frames.h). Not the
 * forms with _info or _table in their names: libgcc calls those itself, and otherwise only objects
 * do, for their own code, as they are loaded. */
#include <stdint.h>

#include "cfi_entry.h"
#include "shim/base/config.h"
#include "shim/next/interposed.h"
#include "shim/next/next_functions.h"
#include "registered_frames.h"
#include "shim/next/startup.h"

EXPORTED void __register_frame(void *table) {
  enum { TABLE_MAX = 64 << 20 };
  NEXT_AT_FIRST_CALL(__register_frame)(table);
  struct cfi_section section = {.start = (uintptr_t)table, .end = (uintptr_t)table + TABLE_MAX};
  /* valgrind would report how pages are asked for */
  if (table && startup_ensure() && !config.is_off && !next_allocator.valgrind)
    registered_frames_add(&section, section.start);
}

EXPORTED void __deregister_frame(void *table) {
  if (startup_ensure()) registered_frames_remove((uintptr_t)table);
  NEXT_AT_FIRST_CALL(__deregister_frame)(table);
}

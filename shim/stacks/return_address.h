/* What code says of an address that something returns to: whether a call can have pushed it, and
 * whether it ends a signal handler. Context: signal, malloc hook; locks: none; asks for each page
 * of code before reading it (readable_pages.h). */
#ifndef SHIM_RETURN_ADDRESS_H
#define SHIM_RETURN_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "cfi.h"

enum return_kind {
  RETURN_NONE,
  RETURN_OF_CALL, /* a call is before it (to what can be read, where it says so) */
  /* HotSpot's interpreter, which pushes such addresses itself, goes on there. Its frames keep a
   * frame pointer; below that is what the stack pointer was before the caller's arguments moved. */
  RETURN_TO_INTERPRETER
};

/* elsewhere: another thread's code, which may be unmapped meanwhile (agent only). */
enum return_kind return_kind_of(uintptr_t pc, bool elsewhere);

/* Whether the function is what the kernel lets a signal handler return to: tables may call anything
 * a signal frame. */
bool return_ends_handler(const struct cfi_rule *rule);

#endif

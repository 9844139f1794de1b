/* What code says of an address that something returns to: whether a call can have pushed it, and
 * whether it ends a signal handler. Context: signal, malloc hook; locks: none; asks for each page
 * of code before reading it (readable_pages.h). */
#ifndef SHIM_RETURN_ADDRESS_H
#define SHIM_RETURN_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "cfi.h"

/* A call is before it (to what can be read, where it says so), or an interpreter's code begins
 * there that pushes such addresses itself. elsewhere: another thread's code, which may be unmapped
 * meanwhile (agent only). */
bool return_follows_call(uintptr_t pc, bool elsewhere);

/* Whether the function is what the kernel lets a signal handler return to: tables may call anything
 * a signal frame. */
bool return_ends_handler(const struct cfi_rule *rule);

#endif

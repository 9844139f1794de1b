/* This library's own frames in a profile: what the program has asked for stands there (malloc,
 * pthread_mutex_lock, syscall), not how that is done. Context: agent threads; locks: none. */
#ifndef AGENT_OWN_FRAMES_H
#define AGENT_OWN_FRAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/symbols/symbolizer.h"

/* Where this library's code is. Before the first profile; until then no frame is its own. */
void own_frames_are(uintptr_t start, uintptr_t end);

/* Whether a frame is one of them. What the program's signal handlers return to is not. */
bool own_frame_is(uint64_t address, const struct symbol_location *symbol);

/* The name that the program knows an outermost own function by; NULL: the one it has. */
const char *own_frame_public_name(const char *function);

#endif

/* A profile that is to be small: the pages that take one have a limit (pprof.me: 2 MB). Where the
 * whole one is larger, its smallest parts end at what called them, in a frame "[folded]": a sample
 * goes up its stack to the first function that has a large enough part of the profile, and those
 * that meet there become one, without labels. Totals, and the sums of all functions that are still
 * there, stay what they were. Context: agent threads; locks: none. */
#ifndef AGENT_PROFILE_FOLD_H
#define AGENT_PROFILE_FOLD_H

#include <stdbool.h>
#include <stddef.h>

#include "profile.h"

#define PROFILE_FOLDED "[folded]"

/* So that profile_encode_proto gives at most so many bytes; a comment says what was folded. A
 * profile whose mappings alone are larger is folded as far as it goes. False: out of memory. */
bool profile_fold(struct profile *profile, size_t max_bytes);

#endif

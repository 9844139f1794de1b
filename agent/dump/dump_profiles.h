/* The profiles that can be written to files: the same bytes as their endpoints give. Context: the
 * agent's thread that dumps; locks: those of what is read. */
#ifndef AGENT_DUMP_PROFILES_H
#define AGENT_DUMP_PROFILES_H

#include "agent/runtime/growing_text.h"
#include "shim/base/dump_config.h"

/* A .pb.gz, to be released with growing_text_release. NULL, or why there is none. */
const char *dump_profile_make(enum dump_kind kind, struct growing_text *out);

#endif

/* The profiles that can be written to files: the same bytes as their endpoints give. Context: the
 * agent's thread that dumps; locks: those of what is read. */
#ifndef AGENT_DUMP_PROFILES_H
#define AGENT_DUMP_PROFILES_H

#include "agent/profiles/profile_builder.h"
#include "agent/runtime/growing_text.h"
#include "shim/base/dump_config.h"

/* A .pb.gz, to be released with growing_text_release. Where names are left out there are addresses
 * and mappings, from which pprof finds them, and a comment says so. NULL, or why there is none. */
const char *dump_profile_make(enum dump_kind kind, enum profile_names names,
                              struct growing_text *out);

#endif

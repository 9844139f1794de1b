/* Profiles of several processes, as they answer, made one: each sample has the labels pid and
 * process. What they name is theirs alone (the same library twice has two mappings); pprof adds up
 * by name. Context: agent threads; locks: none (one owner).
 */
#ifndef AGENT_PROFILE_MERGE_H
#define AGENT_PROFILE_MERGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/http/byte_sink.h"

struct profile_merge;

/* NULL: out of memory. */
struct profile_merge *profile_merge_open(struct byte_sink *sink);

struct profile_merge_source {
  int32_t pid;
  const char *name;
};
/* One more: gzip'ed profile.proto, as profile_proto.c writes it. NULL, or why it is left out: one
 * sentence. Nothing of it is in the sum then. */
const char *profile_merge_add(struct profile_merge *merge, const void *bytes, size_t size,
                              const struct profile_merge_source *source);
/* What a reader must know. */
void profile_merge_comment(struct profile_merge *merge, const char *text);
uint32_t profile_merge_count(const struct profile_merge *merge); /* of those that are in it */

/* Ends and frees it. False: out of memory, or the receiver is gone. */
bool profile_merge_close(struct profile_merge *merge, bool complete);

#endif

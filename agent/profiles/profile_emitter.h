/* profile.proto, gzip'ed, as a series of small messages whose fields are merged on reading: so
 * memory does not grow with the number of samples. The string table comes last. Context: agent
 * threads; locks: none (one owner). */
#ifndef AGENT_PROFILE_EMITTER_H
#define AGENT_PROFILE_EMITTER_H

#include <stdbool.h>

#include "agent/http/gzip_sink.h"
#include "agent/runtime/string_table.h"
#include "profile.pb-c.h"

struct profile_emitter {
  struct gzip_sink *gzip;
  struct string_table strings; /* what messages name by number */
  uint8_t *packed;
  size_t packed_capacity;
};

/* False: out of memory; close it in any case. */
bool profile_emitter_open(struct profile_emitter *emitter, struct byte_sink *sink);
/* False: out of memory, or the receiver is gone. */
bool profile_emit(struct profile_emitter *emitter, const Perftools__Profiles__Profile *message);
/* Ends the profile if it is complete. False: as profile_emit, or it was not complete. */
bool profile_emitter_close(struct profile_emitter *emitter, bool complete);

#endif

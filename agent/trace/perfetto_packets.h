/* Packets of a Perfetto trace, packed one at a time, each with the names and stacks that it is the
 * first to use. Context: agent threads; locks: none (one owner). */
#ifndef AGENT_PERFETTO_PACKETS_H
#define AGENT_PERFETTO_PACKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/http/text_sink.h"
#include "agent/runtime/string_table.h"
#include "perfetto_trace.pb-c.h"
#include "trace_log.h"

struct perfetto_stack_room; /* for one stack's new frames and strings */

struct perfetto_packets {
  const struct trace_log *log;
  struct text_sink output;
  struct string_table names, functions, paths, texts; /* texts: of annotations, not interned */
  uint32_t *stack_ids; /* by stack: the number under which it was sent, 0 not yet */
  uint32_t stacks_sent;
  uint64_t frames_sent;
  uint8_t *packed;
  size_t packed_capacity;
  bool some; /* a packet was sent */
  struct perfetto_stack_room *room;
  /* What the next packet must bring along. */
  Perfetto__Protos__InternedData interned;
  Perfetto__Protos__EventName name, *names_pointer;
  Perfetto__Protos__Callstack callstack, *callstack_pointer;
};

/* False: out of memory; release it in any case. */
bool perfetto_packets_start(struct perfetto_packets *packets, const struct trace_log *log,
                            struct byte_sink *sink);
void perfetto_packets_release(struct perfetto_packets *packets);

/* text as UTF-8, alive as long as packets. */
const char *perfetto_text(struct perfetto_packets *packets, const char *text);
/* At most one name and one stack a packet. */
void perfetto_use_name(struct perfetto_packets *packets, Perfetto__Protos__TrackEvent *event,
                       const char *name);
void perfetto_use_stack(struct perfetto_packets *packets, Perfetto__Protos__TrackEvent *event,
                        uint32_t stack);
/* False: the receiver is gone, or out of memory. */
bool perfetto_send(struct perfetto_packets *packets, Perfetto__Protos__TracePacket *packet);
bool perfetto_packets_end(struct perfetto_packets *packets);

#endif

/* Where bytes go that are made piece by piece: a response, gzip, text. Context: agent threads. */
#ifndef AGENT_BYTE_SINK_H
#define AGENT_BYTE_SINK_H

#include <stdbool.h>
#include <stddef.h>

struct byte_sink {
  bool (*write)(struct byte_sink *sink, const void *bytes, size_t size); /* false: gone, stop */
};

#endif

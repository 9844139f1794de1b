/* A byte_sink that gzips (best speed) into another. Context: agent threads. */
#ifndef AGENT_GZIP_SINK_H
#define AGENT_GZIP_SINK_H

#include <stdbool.h>
#include <stddef.h>

#include "byte_sink.h"

struct gzip_sink;

struct gzip_sink *gzip_sink_open(struct byte_sink *output); /* NULL when out of memory */
bool gzip_sink_write(struct gzip_sink *sink, const void *bytes, size_t size);
/* Writes what is left when complete is set, and frees the sink in any case. */
bool gzip_sink_close(struct gzip_sink *sink, bool complete);

#endif

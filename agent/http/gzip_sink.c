#include "gzip_sink.h"

#include <zlib.h>

#include "agent/runtime/agent_memory.h"

enum {
  GZIP_WINDOW = 15 + 16 /* zlib's way to ask for a gzip header */,
  MEMORY_LEVEL = 8,
  OUTPUT_BYTES = 32 * 1024
};

struct gzip_sink {
  struct byte_sink *output;
  z_stream stream;
  unsigned char buffer[OUTPUT_BYTES];
};

static void *zlib_alloc(void *opaque, unsigned items, unsigned size) {
  (void)opaque;
  return agent_calloc(items, size);
}

static void zlib_free(void *opaque, void *pointer) {
  (void)opaque;
  agent_free(pointer);
}

struct gzip_sink *gzip_sink_open(struct byte_sink *output) {
  struct gzip_sink *sink = agent_calloc(1, sizeof *sink);
  if (!sink) return NULL;
  sink->output = output;
  sink->stream.zalloc = zlib_alloc;
  sink->stream.zfree = zlib_free;
  if (deflateInit2(&sink->stream, Z_BEST_SPEED, Z_DEFLATED, GZIP_WINDOW, MEMORY_LEVEL,
                   Z_DEFAULT_STRATEGY) != Z_OK) {
    agent_free(sink);
    return NULL;
  }
  sink->stream.next_out = sink->buffer;
  sink->stream.avail_out = OUTPUT_BYTES;
  return sink;
}

static bool flush_output(struct gzip_sink *sink) {
  size_t ready = OUTPUT_BYTES - sink->stream.avail_out;
  sink->stream.next_out = sink->buffer;
  sink->stream.avail_out = OUTPUT_BYTES;
  return ready == 0 || sink->output->write(sink->output, sink->buffer, ready);
}

bool gzip_sink_write(struct gzip_sink *sink, const void *bytes, size_t size) {
  sink->stream.next_in = (unsigned char *)(uintptr_t)bytes;
  sink->stream.avail_in = (unsigned)size; /* callers write far less than 4 GiB at once */
  while (sink->stream.avail_in > 0) {
    if (sink->stream.avail_out == 0 && !flush_output(sink)) return false;
    if (deflate(&sink->stream, Z_NO_FLUSH) != Z_OK) return false;
  }
  return true;
}

bool gzip_sink_close(struct gzip_sink *sink, bool complete) {
  while (complete) {
    int result = deflate(&sink->stream, Z_FINISH);
    if (result != Z_STREAM_END && result != Z_OK && result != Z_BUF_ERROR) complete = false;
    else if (!flush_output(sink)) complete = false;
    else if (result == Z_STREAM_END) break;
  }
  deflateEnd(&sink->stream);
  agent_free(sink);
  return complete;
}

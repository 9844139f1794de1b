/* Formatted text through a buffer into a byte_sink. Context: agent threads. */
#ifndef AGENT_TEXT_SINK_H
#define AGENT_TEXT_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "byte_sink.h"

enum { TEXT_SINK_BYTES = 16 * 1024 };

struct text_sink {
  struct byte_sink *output;
  bool failed; /* the receiver is gone; everything since then was dropped */
  size_t used;
  char bytes[TEXT_SINK_BYTES];
};

void text_sink_start(struct text_sink *sink, struct byte_sink *output);
void text_sink_bytes(struct text_sink *sink, const void *bytes, size_t size);
void text_sink_text(struct text_sink *sink, const char *text);
/* At most 1 KiB a call; use text_sink_text for what may be longer. */
void text_sink_format(struct text_sink *sink, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
size_t text_sink_hex(struct text_sink *sink, uint64_t value); /* "0x1f"; returns its length */
/* On one line, as valid UTF-8: what is none, and control characters, become '?'. Returns the width
 * in characters, as Go's text/tabwriter counts it. */
size_t text_sink_one_line(struct text_sink *sink, const char *text);
/* With & < > " ' escaped and invalid UTF-8 and control characters as '?'. */
void text_sink_html(struct text_sink *sink, const char *text);
/* As a JSON string, quotes included. */
void text_sink_json(struct text_sink *sink, const char *text);
/* Writes out what is buffered; false when anything could not be written. */
bool text_sink_end(struct text_sink *sink);

#endif

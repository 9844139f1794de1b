#include "text_sink.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/runtime/foreign_text.h"

void text_sink_start(struct text_sink *sink, struct byte_sink *output) {
  sink->output = output;
  sink->failed = false;
  sink->used = 0;
}

static void flush(struct text_sink *sink) {
  if (sink->used > 0 && !sink->failed &&
      !sink->output->write(sink->output, sink->bytes, sink->used))
    sink->failed = true;
  sink->used = 0;
}

void text_sink_bytes(struct text_sink *sink, const void *bytes, size_t size) {
  const char *from = bytes;
  while (size > 0 && !sink->failed) {
    size_t room = TEXT_SINK_BYTES - sink->used, part = size < room ? size : room;
    memcpy(sink->bytes + sink->used, from, part);
    sink->used += part;
    from += part;
    size -= part;
    if (sink->used == TEXT_SINK_BYTES) flush(sink);
  }
}

void text_sink_text(struct text_sink *sink, const char *text) {
  text_sink_bytes(sink, text, strlen(text));
}

void text_sink_format(struct text_sink *sink, const char *format, ...) {
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  if (length > 0)
    text_sink_bytes(sink, text, (size_t)length < sizeof text ? (size_t)length : sizeof text - 1);
}

size_t text_sink_hex(struct text_sink *sink, uint64_t value) {
  char digits[18], *at = digits + sizeof digits;
  do *--at = "0123456789abcdef"[value & 15];
  while ((value >>= 4) != 0);
  *--at = 'x';
  *--at = '0';
  size_t length = (size_t)(digits + sizeof digits - at);
  text_sink_bytes(sink, at, length);
  return length;
}

size_t text_sink_one_line(struct text_sink *sink, const char *text) {
  size_t width = 0;
  for (size_t length; *text; text += length, width++) {
    if (foreign_character(text, &length, NULL) == FOREIGN_PLAIN)
      text_sink_bytes(sink, text, length);
    else text_sink_bytes(sink, "?", 1);
  }
  return width;
}

void text_sink_html(struct text_sink *sink, const char *text) {
  for (size_t length; *text; text += length) {
    if (foreign_character(text, &length, NULL) != FOREIGN_PLAIN) text_sink_text(sink, "?");
    else if (*text == '&') text_sink_text(sink, "&amp;");
    else if (*text == '<') text_sink_text(sink, "&lt;");
    else if (*text == '>') text_sink_text(sink, "&gt;");
    else if (*text == '"') text_sink_text(sink, "&#34;");
    else if (*text == '\'') text_sink_text(sink, "&#39;");
    else text_sink_bytes(sink, text, length);
  }
}

void text_sink_json(struct text_sink *sink, const char *text) {
  unsigned code;
  text_sink_text(sink, "\"");
  for (size_t length; *text; text += length) {
    switch (foreign_character(text, &length, &code)) {
      case FOREIGN_INVALID: text_sink_text(sink, "\\ufffd"); break;
      case FOREIGN_CONTROL: text_sink_format(sink, "\\u%04x", code); break;
      case FOREIGN_PLAIN:
        if (*text == '"' || *text == '\\') text_sink_text(sink, "\\");
        text_sink_bytes(sink, text, length);
    }
  }
  text_sink_text(sink, "\"");
}

bool text_sink_end(struct text_sink *sink) {
  flush(sink);
  return !sink->failed;
}

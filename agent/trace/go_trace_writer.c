#include "go_trace_writer.h"

#include <string.h>

enum { STRING_LONGEST = 4096, FRAMES_MOST = 1000 /* for its readers */ };

/* ---- bytes ---- */

static void flush(struct go_writer *writer) {
  if (writer->used > 0 && !writer->failed)
    writer->failed = !writer->sink->write(writer->sink, writer->bytes, writer->used);
  writer->used = 0;
}

static void put_bytes(struct go_writer *writer, const void *bytes, size_t size) {
  if (size > sizeof writer->bytes - writer->used) flush(writer);
  memcpy(writer->bytes + writer->used, bytes, size); /* all are shorter than the buffer */
  writer->used += size;
}

enum { NUMBER_LONGEST = 10 };

/* LEB128. */
static size_t number_bytes(uint64_t number, uint8_t *out) {
  size_t size = 0;
  for (; number >= 0x80; number >>= 7) out[size++] = (uint8_t)(number | 0x80);
  out[size++] = (uint8_t)number;
  return size;
}

static void put_number(struct go_writer *writer, uint64_t number) {
  uint8_t bytes[NUMBER_LONGEST];
  put_bytes(writer, bytes, number_bytes(number, bytes));
}

static void put_byte(struct go_writer *writer, uint8_t byte) { put_bytes(writer, &byte, 1); }

enum { INLINE_MOST = 3, HAS_LENGTH = 3 << 6 };

static void put_event(struct go_writer *writer, enum go_event event, const uint64_t *arguments,
                      size_t count) {
  uint8_t bytes[8 * NUMBER_LONGEST];
  size_t size = 0;
  for (size_t i = 0; i < count; i++) size += number_bytes(arguments[i], bytes + size);
  put_byte(writer, (uint8_t)(event | (count > INLINE_MOST ? HAS_LENGTH : (int)(count - 1) << 6)));
  if (count > INLINE_MOST) put_number(writer, size);
  put_bytes(writer, bytes, size);
}

/* ---- events ---- */

bool go_writer_start(struct go_writer *writer, const struct trace_log *log,
                     struct byte_sink *sink) {
  static const char header[16] = "go 1.11 trace";
  writer->sink = sink;
  writer->failed = false;
  writer->log = log;
  writer->p = UINT32_MAX;
  writer->now = writer->batch_now = 0;
  writer->used = 0;
  put_bytes(writer, header, sizeof header);
  return string_table_start(&writer->strings);
}

/* Readers merge the Ps' events by their times and do not promise an order among equal ones. */
void go_writer_set_time(struct go_writer *writer, int64_t at) {
  if (at > writer->now) writer->now = at - 1;
}

void go_writer_event(struct go_writer *writer, uint32_t p, enum go_event event,
                     const uint64_t *arguments, size_t count) {
  uint64_t all[8];
  writer->now++;
  if (p != writer->p) {
    put_event(writer, GO_BATCH, (uint64_t[]){p, (uint64_t)writer->now}, 2);
    writer->p = p;
    writer->batch_now = writer->now;
  }
  all[0] = (uint64_t)(writer->now - writer->batch_now);
  writer->batch_now = writer->now;
  for (size_t i = 0; i < count; i++) all[i + 1] = arguments[i];
  put_event(writer, event, all, count + 1);
}

static void put_text(struct go_writer *writer, const char *text) {
  size_t size = strnlen(text, STRING_LONGEST);
  put_number(writer, size);
  put_bytes(writer, text, size);
}

void go_writer_text(struct go_writer *writer, const char *text) { put_text(writer, text); }

uint64_t go_writer_string(struct go_writer *writer, const char *text) {
  return (uint64_t)string_table_number(&writer->strings, text);
}

uint64_t go_writer_named_stack(struct go_writer *writer, const char *name) {
  uint64_t string = go_writer_string(writer, name);
  return string ? writer->log->stack_count + string : 0;
}

/* ---- the end ---- */

static void put_frame(struct go_writer *writer, const struct trace_frame *frame) {
  put_number(writer, frame->pc);
  put_number(writer, go_writer_string(writer, frame->function));
  put_number(writer, go_writer_string(writer, frame->file));
  put_number(writer, frame->line);
}

static size_t frame_size(struct go_writer *writer, const struct trace_frame *frame) {
  uint8_t bytes[NUMBER_LONGEST];
  return number_bytes(frame->pc, bytes) +
         number_bytes(go_writer_string(writer, frame->function), bytes) +
         number_bytes(go_writer_string(writer, frame->file), bytes) +
         number_bytes(frame->line, bytes);
}

static void put_stack(struct go_writer *writer, uint64_t id, const struct trace_frame *frames,
                      uint32_t count) {
  uint8_t bytes[NUMBER_LONGEST];
  if (count > FRAMES_MOST) count = FRAMES_MOST;
  size_t size = number_bytes(id, bytes) + number_bytes(count, bytes);
  for (uint32_t i = 0; i < count; i++) size += frame_size(writer, &frames[i]);
  put_byte(writer, GO_STACK | HAS_LENGTH);
  put_number(writer, size);
  put_number(writer, id);
  put_number(writer, count);
  for (uint32_t i = 0; i < count; i++) put_frame(writer, &frames[i]);
}

static void put_stacks(struct go_writer *writer) {
  const struct trace_log *log = writer->log;
  uint32_t named = writer->strings.count; /* those that stand for stacks are among them */
  for (uint32_t i = 0; i < log->stack_count; i++)
    put_stack(writer, i + 1, log->stacks[i].frames, log->stacks[i].frame_count);
  for (uint32_t i = 1; i < named; i++) {
    struct trace_frame frame = {.pc = i, .function = writer->strings.items[i], .file = ""};
    put_stack(writer, log->stack_count + i, &frame, 1);
  }
}

bool go_writer_end(struct go_writer *writer) {
  enum { NANOSECONDS = 1000000000 };
  put_stacks(writer);
  for (uint32_t i = 1; i < writer->strings.count; i++) {
    put_byte(writer, GO_STRING);
    put_number(writer, i);
    put_text(writer, writer->strings.items[i]);
  }
  put_event(writer, GO_FREQUENCY, (uint64_t[]){NANOSECONDS}, 1);
  flush(writer);
  return !writer->failed && !writer->strings.failed;
}

void go_writer_release(struct go_writer *writer) { string_table_release(&writer->strings); }

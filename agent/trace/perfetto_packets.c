#include "perfetto_packets.h"

#include <string.h>

#include "agent/runtime/agent_memory.h"
#include "trace_words.h"

enum {
  SEQUENCE = 1,
  STATE_CLEARED = 1,
  NEEDS_STATE = 2,
  FRAMES_MAX = 1024, /* the innermost ones of a stack */
  PACKET_TAG = 0x0a /* field 1 of a trace, of a known length */
};

typedef Perfetto__Protos__InternedString interned_string;
typedef Perfetto__Protos__Frame interned_frame;

struct perfetto_stack_room {
  interned_frame frames[FRAMES_MAX], *frame_pointers[FRAMES_MAX];
  interned_string functions[FRAMES_MAX], *function_pointers[FRAMES_MAX];
  interned_string paths[FRAMES_MAX], *path_pointers[FRAMES_MAX];
  uint64_t ids[FRAMES_MAX];
};

static void forget_interned(struct perfetto_packets *packets) {
  perfetto__protos__interned_data__init(&packets->interned);
}

bool perfetto_packets_start(struct perfetto_packets *packets, const struct trace_log *log,
                            struct byte_sink *sink) {
  *packets = (struct perfetto_packets){.log = log};
  text_sink_start(&packets->output, sink);
  forget_interned(packets);
  packets->room = agent_malloc(sizeof *packets->room);
  packets->stack_ids = agent_calloc(log->stack_count + 1u, sizeof *packets->stack_ids);
  return string_table_start(&packets->names) && string_table_start(&packets->functions) &&
         string_table_start(&packets->paths) && string_table_start(&packets->texts) &&
         packets->room && packets->stack_ids;
}

void perfetto_packets_release(struct perfetto_packets *packets) {
  string_table_release(&packets->names);
  string_table_release(&packets->functions);
  string_table_release(&packets->paths);
  string_table_release(&packets->texts);
  agent_free(packets->stack_ids);
  agent_free(packets->room);
  agent_free(packets->packed);
}

/* The number of a text, from 1; whether it is new. */
static uint64_t intern(struct string_table *table, const char *text, bool *new) {
  uint32_t before = table->count;
  int64_t number = string_table_number(table, text);
  *new = table->count > before;
  return (uint64_t)number + 1;
}

const char *perfetto_text(struct perfetto_packets *packets, const char *text) {
  int64_t number = string_table_number(&packets->texts, text);
  return packets->texts.failed ? "" : packets->texts.items[number];
}

void perfetto_use_name(struct perfetto_packets *packets, Perfetto__Protos__TrackEvent *event,
                       const char *name) {
  bool new;
  event->has_name_iid = true;
  event->name_iid = intern(&packets->names, name, &new);
  if (!new) return;
  perfetto__protos__event_name__init(&packets->name);
  packets->name.has_iid = true;
  packets->name.iid = event->name_iid;
  packets->name.name = packets->names.items[event->name_iid - 1];
  packets->names_pointer = &packets->name;
  packets->interned.n_event_names = 1;
  packets->interned.event_names = &packets->names_pointer;
}

/* The number of a text; what is new of it comes with the packet. */
static uint64_t use_string(struct string_table *table, const char *text, interned_string *room,
                           interned_string **pointers, size_t *count) {
  bool new;
  uint64_t number = intern(table, text, &new);
  if (!new) return number;
  interned_string *out = &room[*count];
  perfetto__protos__interned_string__init(out);
  out->has_iid = out->has_str = true;
  out->iid = number;
  out->str.data = (uint8_t *)table->items[number - 1];
  out->str.len = strlen(table->items[number - 1]);
  pointers[(*count)++] = out;
  return number;
}

static void add_frame(struct perfetto_packets *packets, const struct trace_frame *frame) {
  struct perfetto_stack_room *room = packets->room;
  Perfetto__Protos__InternedData *interned = &packets->interned;
  interned_frame *out = &room->frames[interned->n_frames];
  perfetto__protos__frame__init(out);
  out->has_iid = out->has_function_name_id = true;
  out->iid = ++packets->frames_sent;
  out->function_name_id =
      use_string(&packets->functions, *frame->function ? frame->function : "?", room->functions,
                 room->function_pointers, &interned->n_function_names);
  if (frame->file && *frame->file) {
    out->has_source_path_iid = out->has_line_number = true;
    out->source_path_iid = use_string(&packets->paths, frame->file, room->paths,
                                      room->path_pointers, &interned->n_source_paths);
    out->line_number = frame->line;
  }
  room->ids[interned->n_frames] = out->iid;
  room->frame_pointers[interned->n_frames++] = out;
}

void perfetto_use_stack(struct perfetto_packets *packets, Perfetto__Protos__TrackEvent *event,
                        uint32_t stack) {
  if (stack == 0 || stack > packets->log->stack_count) return;
  const struct trace_stack *is = &packets->log->stacks[stack - 1];
  if (is->frame_count == 0) return;
  uint32_t *id = &packets->stack_ids[stack - 1];
  event->has_callstack_iid = true;
  if (*id != 0) {
    event->callstack_iid = *id;
    return;
  }
  uint32_t count = is->frame_count < FRAMES_MAX ? is->frame_count : FRAMES_MAX;
  if (count < is->frame_count) add_frame(packets, &trace_frame_cut);
  for (uint32_t i = count - (count < is->frame_count); i > 0; i--)
    add_frame(packets, &is->frames[i - 1]);
  event->callstack_iid = *id = ++packets->stacks_sent;
  perfetto__protos__callstack__init(&packets->callstack);
  packets->callstack.has_iid = true;
  packets->callstack.iid = *id;
  packets->callstack.n_frame_ids = count;
  packets->callstack.frame_ids = packets->room->ids;
  packets->callstack_pointer = &packets->callstack;
  packets->interned.n_callstacks = 1;
  packets->interned.callstacks = &packets->callstack_pointer;
  packets->interned.frames = packets->room->frame_pointers;
  packets->interned.function_names = packets->room->function_pointers;
  packets->interned.source_paths = packets->room->path_pointers;
}

static bool reserve(struct perfetto_packets *packets, size_t size) {
  if (size <= packets->packed_capacity) return true;
  size_t capacity = size < 4096 ? 4096 : size * 2;
  uint8_t *packed = agent_realloc(packets->packed, capacity);
  if (!packed) return false;
  packets->packed = packed;
  packets->packed_capacity = capacity;
  return true;
}

static bool any_failed(const struct perfetto_packets *packets) {
  return packets->names.failed || packets->functions.failed || packets->paths.failed ||
         packets->texts.failed || packets->output.failed;
}

bool perfetto_send(struct perfetto_packets *packets, Perfetto__Protos__TracePacket *packet) {
  packet->has_trusted_packet_sequence_id = packet->has_sequence_flags = true;
  packet->trusted_packet_sequence_id = SEQUENCE;
  packet->sequence_flags = packets->some ? NEEDS_STATE : STATE_CLEARED;
  packet->has_first_packet_on_sequence = packet->first_packet_on_sequence = !packets->some;
  packets->some = true;
  if (packets->interned.n_event_names || packets->interned.n_callstacks)
    packet->interned_data = &packets->interned;
  size_t size = perfetto__protos__trace_packet__get_packed_size(packet);
  if (!reserve(packets, size)) return false;
  perfetto__protos__trace_packet__pack(packet, packets->packed);
  forget_interned(packets);
  uint8_t head[1 + 10] = {PACKET_TAG};
  size_t used = 1, left = size;
  for (; left >= 0x80; left >>= 7) head[used++] = (uint8_t)(left | 0x80);
  head[used++] = (uint8_t)left;
  text_sink_bytes(&packets->output, head, used);
  text_sink_bytes(&packets->output, packets->packed, size);
  return !any_failed(packets);
}

bool perfetto_packets_end(struct perfetto_packets *packets) {
  return text_sink_end(&packets->output);
}

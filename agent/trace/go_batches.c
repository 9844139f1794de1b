#include "go_batches.h"

#include <string.h>

#include "agent/runtime/agent_memory.h"
#include "trace_words.h"

enum { GENERATION = 1, NUMBER_MAX = 10, HEADER_BYTES = 16, MARKER_LIMIT = 4096 };
static const uint64_t NO_THREAD = UINT64_MAX, NANOSECONDS = 1000000000;
static const char LOCK_PREFIX[] = "sync: ";

static size_t put_number(uint8_t *to, uint64_t value) {
  size_t used = 0;
  for (; value >= 0x80; value >>= 7) to[used++] = (uint8_t)(value | 0x80);
  to[used++] = (uint8_t)value;
  return used;
}

static void write_batch(struct go_batches *batches, uint64_t thread, int64_t at,
                        const uint8_t *bytes, size_t size) {
  uint8_t head[1 + 4 * NUMBER_MAX] = {GO_BATCH};
  size_t used = 1;
  used += put_number(head + used, GENERATION);
  used += put_number(head + used, thread);
  used += put_number(head + used, (uint64_t)at);
  used += put_number(head + used, size);
  text_sink_bytes(&batches->output, head, used);
  text_sink_bytes(&batches->output, bytes, size);
}

/* ---- events of threads ---- */

static void send_lane(struct go_batches *batches, struct go_lane *lane, int32_t tid) {
  if (lane->used > 0)
    write_batch(batches, (uint64_t)(uint32_t)tid, lane->first, lane->bytes, lane->used);
  lane->used = 0;
}

void go_event_put(struct go_batches *batches, struct go_lane *lane, int32_t tid, int64_t at,
                  enum go_event kind, unsigned count, const uint64_t *fields) {
  if (!lane->bytes && !(lane->bytes = agent_malloc(GO_LANE_BYTES))) batches->failed = true;
  if (!lane->bytes) return;
  if (at <= batches->now) at = batches->now + 1;
  batches->now = at;
  if (lane->used + 1 + (1 + GO_FIELDS_MAX) * NUMBER_MAX > GO_LANE_BYTES)
    send_lane(batches, lane, tid);
  if (lane->used == 0) lane->first = lane->last = at;
  lane->bytes[lane->used++] = (uint8_t)kind;
  lane->used += put_number(lane->bytes + lane->used, (uint64_t)(at - lane->last));
  for (unsigned i = 0; i < count; i++)
    lane->used += put_number(lane->bytes + lane->used, fields[i]);
  lane->last = at;
}

void go_lane_end(struct go_batches *batches, struct go_lane *lane, int32_t tid) {
  send_lane(batches, lane, tid);
  agent_free(lane->bytes);
  *lane = (struct go_lane){0};
}

/* ---- tables ---- */

static void send_table(struct go_batches *batches, struct go_table *table) {
  if (table->used > 1)
    write_batch(batches, NO_THREAD, batches->log->start, table->bytes, table->used);
  table->used = 0;
}

/* Makes room for an entry; what is put there is at most that large. */
static void open_entry(struct go_batches *batches, struct go_table *table, size_t size) {
  if (table->used + size > GO_TABLE_BYTES) send_table(batches, table);
  if (table->used == 0) table->bytes[table->used++] = table->kind;
}

static void put_field(struct go_table *table, uint64_t value) {
  table->used += put_number(table->bytes + table->used, value);
}

static void put_bytes(struct go_table *table, const char *bytes, size_t size) {
  memcpy(table->bytes + table->used, bytes, size);
  table->used += size;
}

/* As much of a text as there is room for, in whole characters. */
static size_t cut(const char *text, size_t most) {
  size_t size = strnlen(text, most + 1);
  if (size <= most) return size;
  for (size = most; size > 0 && ((uint8_t)text[size] & 0xc0) == 0x80; size--) continue;
  return size;
}

static void put_string(struct go_batches *batches, struct go_table *table, uint64_t number,
                       const char *prefix, const char *text) {
  size_t before = strlen(prefix), size = cut(text, GO_STRING_MAX - before);
  open_entry(batches, table, 1 + 2 * NUMBER_MAX + GO_STRING_MAX);
  table->bytes[table->used++] = GO_STRING;
  put_field(table, number);
  put_field(table, before + size);
  put_bytes(table, prefix, before);
  put_bytes(table, text, size);
}

/* Numbers: a text's own one times four, and one of the four for what it is; 0 is "". */
enum { NUMBER_TEXT = 0, NUMBER_LOCK_TEXT = 1, NUMBER_MADE = 2, NUMBERS = 4 };

static bool reserve_uses(struct go_batches *batches, uint32_t count) {
  if (count <= batches->string_capacity) return true;
  uint32_t capacity = count < 512 ? 1024 : count * 2;
  uint8_t *uses = agent_realloc(batches->string_uses, capacity);
  if (!uses) return false;
  memset(uses + batches->string_capacity, 0, capacity - batches->string_capacity);
  batches->string_uses = uses;
  batches->string_capacity = capacity;
  return true;
}

uint64_t go_string(struct go_batches *batches, const char *text, enum go_string form) {
  uint64_t number = (uint64_t)string_table_number(&batches->strings, text);
  if (!reserve_uses(batches, batches->strings.count)) {
    batches->failed = true;
    return 0;
  }
  if (batches->strings.failed || (number == 0 && form == GO_TEXT)) return 0;
  batches->string_uses[number] |= (uint8_t)form;
  return number * NUMBERS + (form == GO_TEXT ? NUMBER_TEXT : NUMBER_LOCK_TEXT);
}

uint64_t go_made_string(struct go_batches *batches, const char *text) {
  uint64_t number = ++batches->made * NUMBERS + NUMBER_MADE;
  put_string(batches, &batches->made_strings, number, "", text);
  return number;
}

uint64_t go_stack(struct go_batches *batches, uint32_t stack) {
  if (stack == 0 || stack > batches->log->stack_count) return 0;
  if (batches->log->stacks[stack - 1].frame_count == 0) return 0;
  batches->stack_uses[stack - 1] = 1;
  return stack;
}

void go_sample_put(struct go_batches *batches, int64_t at, uint64_t thread, uint64_t processor,
                   uint64_t stack) {
  const uint64_t fields[] = {(uint64_t)at, thread, processor, thread, stack};
  open_entry(batches, &batches->samples, 1 + sizeof fields / sizeof *fields * NUMBER_MAX);
  batches->samples.bytes[batches->samples.used++] = GO_CPU_SAMPLE;
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
    put_field(&batches->samples, fields[i]);
}

/* The reader knows one function and line a pc. Those inlined into one, and those that one was given
 * to in turn (code that is made at run time), get numbers of their own: the upper bits say how deep
 * inlined, and a part of the function's number. */
static uint64_t distinct_pc(uint64_t pc, uint64_t depth, uint64_t function) {
  const uint64_t pc_bits = (UINT64_C(1) << 47) - 1;
  if (pc < MARKER_LIMIT) return function / NUMBERS | (depth & 127) << 47; /* not in any code */
  return (pc & pc_bits) | (depth & 127) << 47 | (function / NUMBERS & 1023) << 54;
}

static void put_stack(struct go_batches *batches, uint32_t number) {
  const struct trace_stack *stack = &batches->log->stacks[number];
  struct go_table *table = &batches->table;
  uint32_t count = stack->frame_count < GO_FRAMES_MAX ? stack->frame_count : GO_FRAMES_MAX;
  open_entry(batches, table, 1 + (2 + 4 * (size_t)count) * NUMBER_MAX);
  table->bytes[table->used++] = GO_STACK;
  put_field(table, number + UINT64_C(1));
  put_field(table, count);
  for (uint32_t i = 0; i < count; i++) {
    bool is_cut = i + 1 == count && count < stack->frame_count;
    const struct trace_frame *frame = is_cut ? &trace_frame_cut : &stack->frames[i];
    uint32_t depth = 0; /* how many frames further out have its pc */
    while (i + depth + 1 < stack->frame_count && stack->frames[i + depth + 1].pc == frame->pc)
      depth++;
    uint64_t function = go_string(batches, frame->function, GO_TEXT);
    uint64_t file = go_string(batches, frame->file, GO_TEXT);
    put_field(table, distinct_pc(frame->pc, depth, function));
    put_field(table, function);
    put_field(table, file);
    put_field(table, frame->line);
  }
}

static void put_strings(struct go_batches *batches) {
  batches->table.kind = GO_STRINGS;
  for (uint32_t i = 0; i < batches->strings.count && go_batches_ok(batches); i++) {
    const char *text = batches->strings.items[i];
    if (batches->string_uses[i] & GO_TEXT)
      put_string(batches, &batches->table, (uint64_t)i * NUMBERS + NUMBER_TEXT, "", text);
    if (batches->string_uses[i] & GO_LOCK_TEXT)
      put_string(batches, &batches->table, (uint64_t)i * NUMBERS + NUMBER_LOCK_TEXT, LOCK_PREFIX,
                 text);
  }
  send_table(batches, &batches->table);
}

bool go_batches_start(struct go_batches *batches, const struct trace_log *log,
                      struct byte_sink *sink) {
  static const char header[HEADER_BYTES] = "go 1.22 trace\0\0";
  batches->log = log;
  batches->made_strings.kind = GO_STRINGS;
  batches->samples.kind = GO_CPU_SAMPLES;
  text_sink_start(&batches->output, sink);
  text_sink_bytes(&batches->output, header, sizeof header);
  batches->stack_uses = agent_calloc(log->stack_count + 1u, 1);
  return string_table_start(&batches->strings) && batches->stack_uses && reserve_uses(batches, 1);
}

bool go_batches_end(struct go_batches *batches) {
  uint8_t frequency[1 + NUMBER_MAX] = {GO_FREQUENCY};
  send_table(batches, &batches->made_strings);
  send_table(batches, &batches->samples);
  batches->table.kind = GO_STACKS;
  for (uint32_t i = 0; i < batches->log->stack_count && go_batches_ok(batches); i++)
    if (batches->stack_uses[i]) put_stack(batches, i);
  send_table(batches, &batches->table);
  put_strings(batches);
  write_batch(batches, NO_THREAD, batches->log->start, frequency,
              1 + put_number(frequency + 1, NANOSECONDS));
  return text_sink_end(&batches->output) && go_batches_ok(batches);
}

void go_batches_release(struct go_batches *batches) {
  string_table_release(&batches->strings);
  agent_free(batches->string_uses);
  agent_free(batches->stack_uses);
}

/* struct profile -> the debug=1 text of Go's runtime/pprof, letter for letter where pprof and
 * people look.
 *
 * Additions, all on lines that parsers skip or that they know from /proc/self/maps: a marker for a
 * cut stack, our loss counters, the memory map. An address that pprof finds in no line of the map
 * would make it warn, so two pseudo mappings follow the real ones when they are needed: [truncated]
 * holds the markers (marker m is printed as return address m + 1), [unmapped] everything else.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "shim/stacks/stack_table.h"
#include "agent/runtime/agent_memory.h"
#include "agent/runtime/growing_array.h"
#include "number_order.h"
#include "profile.h"
#include "agent/runtime/foreign_text.h"
#include "agent/http/text_sink.h"

enum { TAB_WIDTH = 8, PADDING = 1, HEAP_INUSE_BYTES = 3, CONTENTION_DELAY = 1 };

/* Go's text/tabwriter (minwidth 1, tabwidth 8, padding 1, padchar tab): a cell is as wide as the
 * widest of its column plus the padding, rounded up to a multiple of the tab width. */
static void pad(struct text_sink *text, size_t width, size_t widest) {
  size_t cell = (widest + PADDING + TAB_WIDTH - 1) / TAB_WIDTH * TAB_WIDTH;
  for (size_t column = width; column < cell; column = column / TAB_WIDTH * TAB_WIDTH + TAB_WIDTH)
    text_sink_text(text, "\t");
}

/* One line below a record. */
struct frame_line {
  const struct profile_location *location;
  const struct symbol_frame *frame; /* NULL: no name, or a marker */
  size_t address_width, name_width;
};

static bool sink_nothing(struct byte_sink *sink, const void *bytes, size_t size) {
  (void)sink, (void)bytes, (void)size;
  return true;
}

static size_t write_name(struct text_sink *text, const struct frame_line *line) {
  const struct profile_location *location = line->location;
  size_t width = text_sink_one_line(text, line->frame->function);
  if (location->symbol->symbol_start == 0 || location->symbol->symbol_start > location->address)
    return width;
  text_sink_text(text, "+");
  return width + 1 + text_sink_hex(text, location->address - location->symbol->symbol_start);
}

static void write_source(struct text_sink *text, const struct frame_line *line) {
  const char *filename = line->frame->filename;
  /* Where the source file is not known, the object file says at least where the function comes
   * from. */
  if (!filename && line->location->map) filename = line->location->map->path;
  text_sink_one_line(text, filename && *filename ? filename : "??");
  text_sink_format(text, ":%" PRIu32, line->frame->filename ? line->frame->line : 0);
}

/* Lines with a name that follow each other share their column widths; a line without one ends the
 * block, as in tabwriter. */
static void write_block(struct text_sink *text, const struct frame_line *lines, size_t count) {
  size_t widest_address = 0, widest_name = 0;
  for (size_t i = 0; i < count; i++) {
    if (lines[i].address_width > widest_address) widest_address = lines[i].address_width;
    if (lines[i].name_width > widest_name) widest_name = lines[i].name_width;
  }
  for (size_t i = 0; i < count; i++) {
    text_sink_text(text, "#\t");
    text_sink_hex(text, lines[i].location->address);
    pad(text, lines[i].address_width, widest_address);
    write_name(text, &lines[i]);
    pad(text, lines[i].name_width, widest_name);
    write_source(text, &lines[i]);
    text_sink_text(text, "\n");
  }
}

/* Collects the lines of a record and writes them block by block. */
struct frame_writer {
  struct text_sink *text;
  struct text_sink *measure; /* swallows what is written to it */
  size_t count;
  uint32_t capacity;
  struct frame_line *lines;
};

static void end_block(struct frame_writer *writer) {
  write_block(writer->text, writer->lines, writer->count);
  writer->count = 0;
}

static bool add_line(struct frame_writer *writer, const struct profile_location *location,
                     const struct symbol_frame *frame) {
  if (!growing_array_reserve(&writer->lines, writer->count, &writer->capacity,
                             sizeof *writer->lines))
    return false;
  struct frame_line *line = &writer->lines[writer->count++];
  *line = (struct frame_line){.location = location, .frame = frame};
  line->address_width = text_sink_hex(writer->measure, location->address);
  line->name_width = write_name(writer->measure, line);
  return true;
}

static bool write_frames(struct frame_writer *writer, const struct profile *profile,
                         const struct profile_sample *sample) {
  for (uint32_t i = 0; i < sample->location_count; i++) {
    const struct profile_location *location = &profile->locations[sample->locations[i]];
    uint32_t frames = location->symbol ? location->symbol->frame_count : 0, named = 0;
    for (uint32_t f = 0; f < frames; f++) {
      if (!location->symbol->frames[f].function) continue;
      if (!add_line(writer, location, &location->symbol->frames[f])) return false;
      named++;
    }
    if (named > 0) continue;
    end_block(writer);
    if (location->marker) text_sink_format(writer->text, "#\t%s\n", location->marker);
    else text_sink_format(writer->text, "#\t0x%" PRIx64 "\n", location->address);
  }
  end_block(writer);
  text_sink_text(writer->text, "\n");
  return true;
}

static void write_addresses(struct text_sink *text, const struct profile *profile,
                            const struct profile_sample *sample) {
  for (uint32_t i = 0; i < sample->location_count; i++) {
    text_sink_text(text, " ");
    text_sink_hex(text, profile->locations[sample->locations[i]].address + 1);
  }
  text_sink_text(text, "\n");
}

/* ---- records ---- */

enum {
  LABEL_TEXT = 400
}; /* all labels of a sample: some names of at most 16 characters, some numbers */

struct records {
  const struct profile *profile;
  char (*labels)[LABEL_TEXT]; /* as they are printed, "" for none; a part of the order too. NULL:
                                 the form has none */
};

/* What the forms differ in. */
struct text_form {
  void (*write_header)(struct text_sink *text, const struct profile *profile);
  void (*write_values)(struct text_sink *text, const int64_t *values); /* up to the addresses */
  number_order_swapped *swapped; /* of samples; things: struct records */
  const char *end; /* behind the last record and its empty line */
};

static void write_record(struct text_sink *text, const struct records *records,
                         const struct text_form *form, uint32_t number) {
  const struct profile_sample *sample = &records->profile->samples[number];
  form->write_values(text, sample->values);
  write_addresses(text, records->profile, sample);
  if (!records->labels || !*records->labels[number]) return;
  text_sink_text(text, "# labels: ");
  text_sink_text(text, records->labels[number]);
  text_sink_text(text, "\n");
}

/* False: out of memory. */
static bool write_records(struct frame_writer *writer, const struct records *records,
                          const struct text_form *form) {
  size_t count = records->profile->sample_count;
  uint32_t *order = agent_malloc((count + 1) * sizeof *order);
  if (!order) return false;
  for (size_t i = 0; i < count; i++) order[i] = (uint32_t)i;
  bool ok = number_order_sort(order, (uint32_t)count, form->swapped, records);
  if (ok) form->write_header(writer->text, records->profile);
  for (size_t i = 0; i < count && ok && !writer->text->failed; i++) {
    write_record(writer->text, records, form, order[i]);
    ok = write_frames(writer, records->profile, &records->profile->samples[order[i]]);
  }
  text_sink_text(writer->text, form->end);
  agent_free(order);
  return ok;
}

static int64_t value_sum(const struct profile *profile, int value) {
  int64_t sum = 0;
  for (size_t i = 0; i < profile->sample_count; i++)
    if (__builtin_add_overflow(sum, profile->samples[i].values[value], &sum)) sum = INT64_MAX;
  return sum;
}

/* ---- the memory map ---- */

static void write_mapping(struct text_sink *text, uint64_t start, uint64_t limit, uint64_t offset,
                          const char *path, bool deleted) {
  char head[128];
  int length = snprintf(head, sizeof head, "%08" PRIx64 "-%08" PRIx64 " r-xp %08" PRIx64 " 00:00 0",
                        start, limit, offset);
  enum { PATH_SHOWN_MAX = 4200 };
  text_sink_format(text, "%-72s ", length > 0 ? head : "");
  const char *slash = deleted ? strrchr(path, '/') : NULL;
  if (slash) { /* the file at that path is another one: a name in brackets keeps pprof from taking
                  names out of it */
    char shown[PATH_SHOWN_MAX];
    snprintf(shown, sizeof shown, "%.*s[deleted]%s", (int)(slash + 1 - path), path, slash + 1);
    text_sink_one_line(text, shown);
  } else {
    text_sink_one_line(text, path);
  }
  text_sink_text(text, "\n");
}

static void write_memory_map(struct text_sink *text, const struct profile *profile) {
  const struct mappings *mappings = profile->mappings;
  text_sink_text(text, "\n--- Memory map: ---\n");
  for (int unloaded = 0; unloaded <= 1;
       unloaded++) /* what is mapped now comes first: pprof takes the first match */
    for (size_t i = 0; i < mappings->count; i++) {
      const struct mapping *map = &mappings->items[i];
      if (map->unloaded != unloaded) continue;
      const char *path = map->kind == MAPPING_ANONYMOUS ? MAPPING_ANONYMOUS_NAME : map->path;
      write_mapping(text, map->start, map->limit, map->offset, path, map->deleted);
    }
  bool markers = false, unmapped = false;
  for (size_t i = 0; i < profile->location_count; i++) {
    markers = markers || profile->locations[i].marker;
    unmapped = unmapped || (!profile->locations[i].marker && !profile->locations[i].map);
  }
  if (markers) write_mapping(text, 0, STACK_MARKER_LIMIT, 0, "[truncated]", false);
  if (unmapped) write_mapping(text, 0, UINT64_MAX, 0, "[unmapped]", false);
}

/* ---- heap and allocs ---- */

static void write_heap_header(struct text_sink *text, const struct profile *profile) {
  int64_t totals[4];
  for (int v = 0; v < 4; v++) totals[v] = value_sum(profile, v);
  /* pprof takes equal totals for a profile without allocation columns. */
  if (totals[1] == totals[HEAP_INUSE_BYTES]) totals[1] += totals[1] == INT64_MAX ? -1 : 1;
  text_sink_format(text,
                   "heap profile: %" PRId64 ": %" PRId64 " [%" PRId64 ": %" PRId64
                   "] @ heap/%" PRIu64 "\n",
                   totals[2], totals[3], totals[0], totals[1], 2 * (uint64_t)profile->period);
}

static void write_heap_values(struct text_sink *text, const int64_t *values) {
  text_sink_format(text, "%" PRId64 ": %" PRId64 " [%" PRId64 ": %" PRId64 "] @", values[2],
                   values[3], values[0], values[1]);
}

static bool more_in_use(const void *things, uint32_t a, uint32_t b) {
  const struct records *records = things;
  const struct profile_sample *samples = records->profile->samples;
  return samples[b].values[HEAP_INUSE_BYTES] > samples[a].values[HEAP_INUSE_BYTES];
}

static const struct text_form heap_form = {write_heap_header, write_heap_values, more_in_use, "\n"};

/* ---- block and mutex ---- */

/* Both values are estimates of all events already, in nanoseconds: pprof, which multiplies by the
 * sampling period, finds 1. */
static void write_contention_header(struct text_sink *text, const struct profile *profile) {
  bool mutex = strcmp(profile->name, "mutex") == 0;
  text_sink_format(text, "--- %s:\ncycles/second=1000000000\n", mutex ? "mutex" : "contention");
  if (mutex) text_sink_text(text, "sampling period=1\n");
}

static void write_contention_values(struct text_sink *text, const int64_t *values) {
  text_sink_format(text, "%" PRId64 " %" PRId64 " @", values[CONTENTION_DELAY], values[0]);
}

static bool more_delay(const void *things, uint32_t a, uint32_t b) {
  const struct records *records = things;
  const struct profile_sample *samples = records->profile->samples;
  return samples[b].values[CONTENTION_DELAY] > samples[a].values[CONTENTION_DELAY];
}

static const struct text_form contention_form = {write_contention_header, write_contention_values,
                                                 more_delay, ""};

/* ---- goroutine and threadcreate: one value a sample, and labels ---- */

struct label_writer {
  char *at, *end; /* end: one byte for the NUL lies behind it */
};

static void put(struct label_writer *writer, const char *text) {
  while (*text && writer->at < writer->end) *writer->at++ = *text++;
  *writer->at = 0;
}

static void put_quoted(struct label_writer *writer,
                       const char *text) { /* Go's %q, for UTF-8 that is all printable */
  put(writer, "\"");
  for (const char *c = text; *c;) {
    size_t length;
    unsigned code = 0;
    enum foreign_kind kind = foreign_character(c, &length, &code);
    char piece[8] = {0};
    if (*c == '"' || *c == '\\') snprintf(piece, sizeof piece, "\\%c", *c);
    else if (*c >= '\a' && *c <= '\r') snprintf(piece, sizeof piece, "\\%c", "abtnvfr"[*c - '\a']);
    else if (kind == FOREIGN_CONTROL && code >= 0x80)
      snprintf(piece, sizeof piece, "\\u%04x", code & 0xffff);
    else if (kind != FOREIGN_PLAIN) snprintf(piece, sizeof piece, "\\x%02x", (unsigned char)*c);
    else memcpy(piece, c, length);
    put(writer, piece);
    c += length;
  }
  put(writer, "\"");
}

static void render_labels(char *out, const struct profile_sample *sample) {
  struct label_writer writer = {out, out + LABEL_TEXT - 1};
  const struct profile_label *sorted[PROFILE_MAX_LABELS];
  uint32_t count = 0;
  for (uint32_t i = 0; i < sample->label_count && count < PROFILE_MAX_LABELS; i++) {
    uint32_t at = count++;
    for (; at > 0 && strcmp(sample->labels[i].key, sorted[at - 1]->key) < 0; at--)
      sorted[at] = sorted[at - 1];
    sorted[at] = &sample->labels[i];
  }
  *out = 0;
  for (uint32_t i = 0; i < count; i++) {
    char number[24];
    snprintf(number, sizeof number, "%" PRId64, sorted[i]->number);
    put(&writer, i == 0 ? "{" : ", ");
    put_quoted(&writer, sorted[i]->key);
    put(&writer, ":");
    put_quoted(&writer, sorted[i]->text ? sorted[i]->text : number);
  }
  if (count > 0) put(&writer, "}");
}

/* By count, falling, then by the text of the addresses and labels, as Go. */
static bool count_swapped(const void *things, uint32_t a, uint32_t b) {
  const struct records *records = things;
  const struct profile_location *locations = records->profile->locations;
  const struct profile_sample *above = &records->profile->samples[a],
                              *below = &records->profile->samples[b];
  if (above->values[0] != below->values[0]) return below->values[0] > above->values[0];
  for (uint32_t i = 0; i < above->location_count && i < below->location_count; i++) {
    uint64_t x = locations[above->locations[i]].address + 1,
             y = locations[below->locations[i]].address + 1;
    if (x == y) continue;
    char x_text[24], y_text[24];
    snprintf(x_text, sizeof x_text, "%" PRIx64, x);
    snprintf(y_text, sizeof y_text, "%" PRIx64, y);
    return strcmp(x_text, y_text) > 0;
  }
  if (above->location_count != below->location_count)
    return above->location_count > below->location_count;
  return strcmp(records->labels[a], records->labels[b]) > 0;
}

static void write_count_header(struct text_sink *text, const struct profile *profile) {
  text_sink_format(text, "%s profile: total %" PRId64 "\n", profile->name, value_sum(profile, 0));
}

static void write_count(struct text_sink *text, const int64_t *values) {
  text_sink_format(text, "%" PRId64 " @", values[0]);
}

static const struct text_form count_form = {write_count_header, write_count, count_swapped, ""};

static bool write_labelled(struct frame_writer *writer, const struct profile *profile,
                           const struct text_form *form) {
  struct records records = {profile, agent_malloc((profile->sample_count + 1) * LABEL_TEXT)};
  for (size_t i = 0; records.labels && i < profile->sample_count; i++)
    render_labels(records.labels[i], &profile->samples[i]);
  bool ok = records.labels && write_records(writer, &records, form);
  agent_free(records.labels);
  return ok;
}

/* ---- all ---- */

static bool write_profile(struct frame_writer *writer, const struct profile *profile) {
  struct records records = {.profile = profile};
  if (profile->value_count == 1) return write_labelled(writer, profile, &count_form);
  if (profile->text_has_labels) return write_labelled(writer, profile, &heap_form);
  return write_records(writer, &records, profile->value_count == 2 ? &contention_form : &heap_form);
}

bool profile_encode_text(const struct profile *profile, struct byte_sink *sink) {
  struct byte_sink nothing = {sink_nothing};
  struct text_sink *text = agent_malloc(sizeof *text), *measure = agent_malloc(sizeof *measure);
  struct frame_writer writer = {.text = text, .measure = measure};
  bool ok = false;
  if (text && measure) {
    text_sink_start(text, sink);
    text_sink_start(measure, &nothing);
    ok = write_profile(&writer, profile);
    if (ok) {
      if (profile->text_trailer) text_sink_text(text, profile->text_trailer);
      write_memory_map(text, profile);
      ok = text_sink_end(text);
    }
  }
  agent_free(writer.lines);
  agent_free(measure);
  agent_free(text);
  return ok;
}

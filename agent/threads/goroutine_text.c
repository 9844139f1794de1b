/* A thread dump in the text form of Go's debug=2: a record a thread, which gostackparse and
 * panicparse read as goroutines.
 *
 *   # pid 123 comm nginx; 4240=main, 4242=worker-1
 *   # 4242 waits for fd 5 (socket:[1234])
 *
 *   goroutine 4242 [IO wait, 3 minutes]:
 *   epoll_wait(0x5, 0x7ffe0010, 0x10, 0xffffffff)
 *   <tab>??:0 +0x4e
 *   worker_main(...)
 *   <tab>/src/worker.c:57 +0x1a
 *   created by spawn_workers in goroutine 4240
 *   <tab>/src/main.c:12 +0x44
 *
 * The parsers take comments before the first goroutine only. The offset is that of the call (or of
 * a leaf's exact pc), as in the debug=1 text; inlined functions have none. Every location and every
 * creator is rendered once; a record is made of such pieces.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "shim/stacks/stack_table.h"
#include "agent/runtime/agent_memory.h"
#include "deadlocks.h"
#include "goroutine_names.h"
#include "agent/runtime/index_table.h"
#include "agent/runtime/process_info.h"
#include "agent/runtime/syscall_wrappers.h"
#include "agent/http/text_sink.h"
#include "thread_profile.h"

enum { PREAMBLE_LINE_BYTES = 4 * 1024 }; /* far below the 64 KiB that gostackparse takes */

struct rendered_frame { /* all lines of one location */
  uint64_t frame;
  uint32_t epoch;
  size_t start, name_size,
      size; /* in writer.text: the first function's name, then the rest, from "(...)" on */
  const char *function; /* its name as in the symbol table, or NULL */
};

struct rendered_creator {
  uint32_t stack;
  size_t start, name_size,
      size; /* "created by NAME", then the line of its place; size 0: the stack says nothing */
};

struct writer {
  const struct thread_dump *dump;
  struct text_sink *text;
  struct growing_text rendered;
  struct rendered_frame *frames;
  struct rendered_creator *creators;
  uint32_t frame_count, frame_capacity, creator_count, creator_capacity;
  struct index_table frame_index, creator_index;
};

static const char FIRST_ARGUMENTS[] = "(...)";

/* Makes room for one more item; false: out of memory. */
static bool make_room(void *items, uint32_t count, uint32_t *capacity, size_t item_size) {
  void **array = items;
  if (count < *capacity) return true;
  uint32_t grown = *capacity ? *capacity * 2 : 256;
  void *memory = agent_realloc(*array, grown * item_size);
  if (!memory) return false;
  *array = memory;
  *capacity = grown;
  return true;
}

/* ---- one location ---- */

static void render_place(struct growing_text *out, const struct symbol_location *symbol, uint32_t i,
                         uint64_t address) {
  char offset[32];
  const struct symbol_frame *frame = i < symbol->frame_count ? &symbol->frames[i] : NULL;
  growing_text_text(out, "\t");
  goroutine_source_write(out, frame ? frame->filename : NULL, frame ? frame->line : 0);
  bool inlined = i + 1 < symbol->frame_count;
  if (!inlined && symbol->symbol_start != 0 && symbol->symbol_start < address) {
    snprintf(offset, sizeof offset, " +0x%" PRIx64, address - symbol->symbol_start);
    growing_text_text(out, offset);
  }
  growing_text_text(out, "\n");
}

static void render_name(struct growing_text *out, const struct symbol_location *symbol, uint32_t i,
                        const struct mapping *map, uint64_t address,
                        enum goroutine_name_form form) {
  if (i < symbol->frame_count && symbol->frames[i].function)
    goroutine_name_write(out, &symbol->frames[i], form);
  else goroutine_unknown_name_write(out, map, address);
}

static const char *marker_name(uint64_t marker) {
  if (stack_marker_is_missing(marker)) return "[frames left out]";
  if (stack_marker_is_guess(marker)) return "[frames were guessed by frame pointer]";
  switch (marker) {
    case STACK_TRUNCATED_NO_UNWIND: return "[truncated: no unwind information]";
    case STACK_TRUNCATED_MEMORY: return "[truncated: stack memory cannot be read]";
    default: return "[truncated]";
  }
}

/* A function that is none: for what has to be said in the place of a frame. */
static void render_pseudo_frame(struct growing_text *out, const char *name) {
  goroutine_text_as_name_write(out, name);
  growing_text_text(out, FIRST_ARGUMENTS);
  growing_text_text(out, "\n\t??:0\n");
}

static void render_location(struct writer *writer, struct rendered_frame *entry) {
  struct growing_text *out = &writer->rendered;
  entry->start = out->used;
  if (entry->frame == STACK_TRUNCATED_DEPTH) { /* Go's own word for it */
    growing_text_text(out, "...additional frames elided...\n");
  } else if (entry->frame < STACK_MARKER_LIMIT) {
    render_pseudo_frame(out, marker_name(entry->frame));
  } else {
    uint64_t address = entry->frame - 1;
    const struct mapping *map = mappings_find(writer->dump->mappings, address, entry->epoch);
    const struct symbol_location *symbol = symbolizer_resolve(writer->dump->symbols, map, address);
    out->failed |= symbolizer_given_up(writer->dump->symbols);
    uint32_t count = symbol->frame_count ? symbol->frame_count : 1;
    if (symbol->frame_count) entry->function = symbol->frames[0].system_name;
    for (uint32_t i = 0; i < count; i++) {
      render_name(out, symbol, i, map, address, GOROUTINE_NAME_OF_CALL);
      if (i == 0) entry->name_size = out->used - entry->start;
      growing_text_text(out, FIRST_ARGUMENTS);
      growing_text_text(out, "\n");
      render_place(out, symbol, i, address);
    }
  }
  entry->size = out->used - entry->start;
}

/* What an address meant when it was a frame. As in profile_builder.c, one without unwind
 * information was in no module then. */
static uint32_t epoch_of_frame(const struct writer *writer, const uint64_t *frames, uint32_t count,
                               uint32_t epoch, uint32_t i) {
  if (!stack_marker_is_guess(frames[count - 1]) &&
      (i + 1 >= count || frames[i + 1] != STACK_TRUNCATED_NO_UNWIND))
    return epoch;
  const struct mapping *now = mappings_find(writer->dump->mappings, frames[i] - 1, UINT32_MAX);
  return now && now->kind == MAPPING_ANONYMOUS ? UINT32_MAX : epoch;
}

static bool frame_equal(const void *context, uint32_t position) {
  const struct writer *writer = context;
  const struct rendered_frame *wanted = &writer->frames[writer->frame_count],
                              *entry = &writer->frames[position];
  return entry->frame == wanted->frame && entry->epoch == wanted->epoch;
}

/* NULL: out of memory, or nobody wants it any more. */
static const struct rendered_frame *rendered_frame(struct writer *writer, uint64_t frame,
                                                   uint32_t epoch) {
  if (!make_room(&writer->frames, writer->frame_count, &writer->frame_capacity,
                 sizeof *writer->frames))
    return NULL;
  struct rendered_frame *entry =
      &writer->frames[writer->frame_count]; /* the next free one holds what is looked for */
  *entry = (struct rendered_frame){.frame = frame, .epoch = epoch};
  uint64_t hash = hash_mix(frame, epoch);
  uint32_t found = index_table_find(&writer->frame_index, hash, frame_equal, writer);
  if (found != INDEX_TABLE_NONE) return &writer->frames[found];
  render_location(writer, entry);
  if (writer->rendered.failed || !index_table_add(&writer->frame_index, hash, writer->frame_count))
    return NULL;
  writer->frame_count++;
  return entry;
}

/* ---- the creator ---- */

/* The first function that is the program's own; the caller of pthread_create where all are a
 * library's. */
static void render_creator(struct writer *writer, struct rendered_creator *entry) {
  struct stack_view view;
  struct growing_text *out = &writer->rendered;
  entry->start = out->used;
  if (!stack_table_read(entry->stack, &view) || view.frame_count == 0 ||
      view.frames[0] < STACK_MARKER_LIMIT)
    return;
  const struct symbol_location *chosen = NULL;
  const struct mapping *map = NULL;
  uint64_t address = 0;
  uint32_t inlined = 0;
  bool own = false;
  for (uint32_t f = 0; f < view.frame_count && view.frames[f] >= STACK_MARKER_LIMIT && !own; f++) {
    uint64_t here = view.frames[f] - 1;
    uint32_t epoch = epoch_of_frame(writer, view.frames, view.frame_count, view.epoch, f);
    const struct mapping *map_here = mappings_find(writer->dump->mappings, here, epoch);
    const struct symbol_location *symbol =
        symbolizer_resolve(writer->dump->symbols, map_here, here);
    uint32_t i = 0;
    while (i < symbol->frame_count && goroutine_is_thread_library(&symbol->frames[i])) i++;
    own = i < symbol->frame_count || symbol->frame_count == 0;
    if (!own && f > 0) continue;
    chosen = symbol;
    map = map_here;
    address = here;
    inlined = own ? i : 0;
  }
  growing_text_text(out, "created by ");
  render_name(out, chosen, inlined, map, address, GOROUTINE_NAME_OF_CREATOR);
  entry->name_size = out->used - entry->start;
  render_place(out, chosen, inlined, address);
  entry->size = out->used - entry->start;
}

static bool creator_equal(const void *context, uint32_t position) {
  const struct writer *writer = context;
  return writer->creators[position].stack == writer->creators[writer->creator_count].stack;
}

/* NULL: out of memory. */
static const struct rendered_creator *rendered_creator(struct writer *writer, uint32_t stack) {
  if (!make_room(&writer->creators, writer->creator_count, &writer->creator_capacity,
                 sizeof *writer->creators))
    return NULL;
  struct rendered_creator *entry = &writer->creators[writer->creator_count];
  *entry = (struct rendered_creator){.stack = stack};
  uint64_t hash = hash_mix(stack, 0);
  uint32_t found = index_table_find(&writer->creator_index, hash, creator_equal, writer);
  if (found != INDEX_TABLE_NONE) return &writer->creators[found];
  render_creator(writer, entry);
  if (writer->rendered.failed ||
      !index_table_add(&writer->creator_index, hash, writer->creator_count))
    return NULL;
  writer->creator_count++;
  return entry;
}

/* ---- a thread ---- */

/* The wrapper of a system call is the first frame, or below glibc's cancellation (three functions
 * in 2.41). */
enum { WRAPPER_DEPTH = 4 };

static bool write_frames(struct writer *writer, const struct dumped_thread *thread) {
  bool shown = false;
  for (uint32_t i = 0; i < thread->frame_count; i++) {
    uint32_t epoch = epoch_of_frame(writer, thread->frames, thread->frame_count, thread->epoch, i);
    const struct rendered_frame *frame = rendered_frame(writer, thread->frames[i], epoch);
    if (!frame) return false;
    const char *lines = writer->rendered.bytes + frame->start;
    size_t skip = 0;
    char arguments[SYSCALL_ARGUMENTS_MAX];
    if (!shown && i < WRAPPER_DEPTH && frame->function &&
        syscall_wrapper_arguments(thread->syscall, thread->arguments, frame->function, arguments)) {
      shown = true;
      text_sink_bytes(writer->text, lines, frame->name_size);
      text_sink_format(writer->text, "(%s)", arguments);
      skip = frame->name_size + sizeof FIRST_ARGUMENTS - 1;
    }
    text_sink_bytes(writer->text, lines + skip, frame->size - skip);
  }
  return true;
}

/* Both grammars want a function after the header. The function it was started with is known still.
 */
static bool write_not_read(struct writer *writer, const struct dumped_thread *thread) {
  struct growing_text lines = {0};
  growing_text_text(&lines, "[");
  goroutine_text_as_name_write(&lines, thread->not_read ? thread->not_read : "not read");
  growing_text_text(&lines, "]");
  growing_text_text(&lines, FIRST_ARGUMENTS);
  growing_text_text(&lines, "\n\t??:0\n");
  bool ok = !lines.failed;
  if (ok) text_sink_bytes(writer->text, lines.bytes, lines.used);
  growing_text_release(&lines);
  if (!ok || !thread->start_function) return ok;
  const struct rendered_frame *start =
      rendered_frame(writer, thread->start_function + 1, UINT32_MAX);
  if (start) text_sink_bytes(writer->text, writer->rendered.bytes + start->start, start->size);
  return start != NULL;
}

static bool write_creator(struct writer *writer, const struct dumped_thread *thread) {
  if (thread->is_main || thread->creation_stack == 0) return true;
  const struct rendered_creator *creator = rendered_creator(writer, thread->creation_stack);
  if (!creator) return false;
  if (creator->size == 0) return true;
  const char *lines = writer->rendered.bytes + creator->start;
  text_sink_bytes(writer->text, lines, creator->name_size);
  if (thread->creator > 0)
    text_sink_format(writer->text, " in goroutine %" PRId32, thread->creator);
  text_sink_text(writer->text, "\n");
  text_sink_bytes(writer->text, lines + creator->name_size, creator->size - creator->name_size);
  return true;
}

static bool write_thread(struct writer *writer, const struct dumped_thread *thread) {
  static const int64_t MINUTE = 60 * INT64_C(1000000000);
  text_sink_format(writer->text, "\ngoroutine %" PRId32 " [%s%s", thread->tid, thread->state,
                   thread->stuck == NOT_STUCK ? "" : " (leaked)"); /* Go's word */
  int64_t minutes = thread->blocked_nanoseconds / MINUTE;
  if (minutes >= 1) text_sink_format(writer->text, ", %" PRId64 " minutes", minutes);
  text_sink_text(writer->text, "]:\n");
  bool frames = thread->frame_count > 0 && thread->frames[0] >= STACK_MARKER_LIMIT;
  return (frames ? write_frames(writer, thread) : write_not_read(writer, thread)) &&
         write_creator(writer, thread);
}

/* Without what separates the entries of the list that it stands in. Returns its width. */
static size_t write_listed_name(struct text_sink *text, const char *name) {
  char copy[PROCESS_COMM_MAX];
  snprintf(copy, sizeof copy, "%s", name);
  for (char *c = copy; *c; c++)
    if (*c == ',' || *c == ';') *c = '?';
  return text_sink_one_line(text, copy);
}

static void write_preamble(struct writer *writer) {
  struct process_identity process;
  process_identity_read(&process);
  struct text_sink *text = writer->text;
  char number[32];
  size_t line = (size_t)snprintf(number, sizeof number, "# pid %d comm ", process.pid);
  text_sink_text(text, number);
  line += write_listed_name(text, process.comm);
  for (size_t i = 0; i < writer->dump->count; i++) {
    const struct dumped_thread *thread = &writer->dump->threads[i];
    bool full = line > PREAMBLE_LINE_BYTES;
    text_sink_text(text, full ? ",\n# " : i == 0 ? "; " : ", ");
    line = full ? 0 : line;
    line += (size_t)snprintf(number, sizeof number, "%" PRId32 "=", thread->tid);
    text_sink_text(text, number);
    line += write_listed_name(text, thread->name) + 2;
  }
  text_sink_text(text, "\n");
  const char *fault = writer->dump->fault;
  if (fault)
    text_sink_format(text,
                     "# %s: of threads, only the first and those made by the thread library "
                     "are known\n",
                     fault);
  for (size_t i = 0; i < writer->dump->count; i++) {
    const struct dumped_thread *thread = &writer->dump->threads[i];
    if (!thread->waits_for) continue;
    text_sink_format(text, "# %" PRId32 " waits for ", thread->tid);
    text_sink_one_line(text, thread->waits_for);
    text_sink_text(text, "\n");
  }
}

static void write_deadlocks(struct writer *writer) {
  enum { SHOWN_MAX = 100 };
  const struct thread_dump *dump = writer->dump;
  char line[DEADLOCK_LINE_MAX];
  for (uint32_t i = 1; i <= dump->deadlock_count && i <= SHOWN_MAX; i++) {
    deadlock_describe(dump, i, line);
    text_sink_format(writer->text, "# deadlock: ");
    text_sink_one_line(writer->text, line);
    text_sink_text(writer->text, "\n");
    if (!deadlock_describe_behind(dump, i, line)) continue;
    text_sink_format(writer->text, "# %s\n", line);
  }
}

bool goroutine_text_write(const struct thread_dump *dump, struct byte_sink *sink) {
  struct writer writer = {.dump = dump, .text = agent_malloc(sizeof *writer.text)};
  if (!writer.text) return false;
  text_sink_start(writer.text, sink);
  write_preamble(&writer);
  write_deadlocks(&writer);
  bool ok = true;
  for (size_t i = 0; i < dump->count && ok && !writer.text->failed; i++)
    ok = write_thread(&writer, &dump->threads[i]);
  if (ok) ok = text_sink_end(writer.text);
  index_table_release(&writer.frame_index);
  index_table_release(&writer.creator_index);
  growing_text_release(&writer.rendered);
  agent_free(writer.frames);
  agent_free(writer.creators);
  agent_free(writer.text);
  return ok;
}

/* Resident memory on the index page: a row and a sentence for each kind. */
#include "agent/profiles/heap_profile.h"
#include "agent/runtime/agent_memory.h"
#include "html_page.h"
#include "resident_memory.h"
#include "shim/allocation/heap_status.h"
#include "shim/allocation/heap_table.h"

static const struct {
  char title[32], sentence[200]; /* in place: the loader has nothing to relocate at each exec */
} kinds[RESIDENT_KIND_COUNT] = {
#define X(identifier, title, sentence) {title, sentence},
    RESIDENT_KINDS(X)
#undef X
};

static void write_row(struct text_sink *text, const char *title, uint64_t bytes,
                      const char *sentence) {
  text_sink_text(text, "<tr><td>");
  html_bytes(text, bytes);
  text_sink_text(text, "</td><td>");
  text_sink_html(text, title);
  text_sink_text(text, "<br><span class=dim>");
  text_sink_html(text, sentence);
  text_sink_text(text, "</span></td></tr>\n");
}

static void write_heap(struct text_sink *text) {
  struct heap_totals totals;
  heap_totals_read(&totals);
  write_row(text, "Heap in use, by the profile",
            totals.inuse_bytes > 0 ? (uint64_t)totals.inuse_bytes : 0,
            "An estimate, and of what was asked for: pages that the program has not touched yet "
            "are in it, and not resident. The rest of the allocator's areas is free, or the "
            "allocator's own; glibc would tell (mallinfo2), but holds up the program for it.");
}

void resident_memory_write_html(struct text_sink *text) {
  struct resident_memory memory;
  resident_memory_read(&memory);
  text_sink_text(text,
                 "<details><summary>Why is resident memory larger than the heap?"
                 "</summary>\n");
  if (memory.fault) {
    text_sink_text(text, "<p>Not known: ");
    text_sink_html(text, memory.fault);
    text_sink_text(text, "</p></details>\n");
    return;
  }
  text_sink_text(text, "<table>\n");
  for (int kind = 0; kind < RESIDENT_KIND_COUNT; kind++)
    if (memory.bytes[kind])
      write_row(text, kinds[kind].title, memory.bytes[kind], kinds[kind].sentence);
  write_row(text, "Together", memory.total,
            memory.coarse ? memory.coarse : "Resident memory, as the kernel counts it.");
  if (!heap_off_reason() || heap_bucket_count() > 0) write_heap(text);
  write_row(text, "The agent's", agent_memory_bytes() + heap_table_bytes(),
            "At most: its buffers and the heap profile's tables as they are mapped, within the "
            "anonymous memory; Agent, above, has all of it.");
  if (memory.lazily_freed)
    write_row(text, "Freed lazily", memory.lazily_freed,
              "Given back by the allocator (MADV_FREE), and taken by the kernel when it needs it.");
  if (memory.huge)
    write_row(text, "In huge pages", memory.huge,
              "Of 2 MB each: one touched byte makes all of it resident.");
  if (memory.swapped)
    write_row(text, "Swapped out", memory.swapped, "Not resident, and needed back when touched.");
  text_sink_text(text, "</table></details>\n");
}

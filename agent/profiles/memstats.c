#include "memstats.h"

#include <stdarg.h>
#include <stdio.h>

#include "shim/allocation/heap_table.h"
#include "shim/stacks/stack_table.h"
#include "agent/runtime/agent_memory.h"
#include "agent/runtime/process_info.h"

struct text {
  char *out;
  size_t size, used;
};

__attribute__((format(printf, 2, 3))) static void add(struct text *text, const char *format, ...) {
  if (text->used + 1 >= text->size) return;
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(text->out + text->used, text->size - text->used, format, arguments);
  va_end(arguments);
  if (length < 0) return;
  text->used += (size_t)length;
  if (text->used >= text->size) text->used = text->size - 1;
}

static void add_number(struct text *text, const char *name, unsigned long long value) {
  add(text, "# %s = %llu\n", name, value);
}

size_t memstats_render(const struct heap_totals *totals, bool mixed_rates, char *out, size_t size) {
  struct text text = {out, size, 0};
  struct process_memory memory;
  process_memory_read(&memory);
  unsigned long long inuse = (unsigned long long)totals->inuse_bytes;

  add(&text, "# runtime.MemStats\n");
  add_number(&text, "Alloc", inuse);
  add_number(&text, "TotalAlloc", (unsigned long long)totals->alloc_bytes);
  bool known = memory.data_bytes >= 0 && memory.max_rss_bytes >= 0;
  add_number(&text, "Sys", known ? (unsigned long long)memory.data_bytes : 0);
  add_number(&text, "Lookups", 0);
  add_number(&text, "Mallocs", (unsigned long long)totals->alloc_objects);
  add_number(&text, "Frees", (unsigned long long)(totals->alloc_objects - totals->inuse_objects));
  add_number(&text, "HeapAlloc", inuse);
  add_number(&text, "HeapSys", 0);
  add_number(&text, "HeapIdle", 0);
  add_number(&text, "HeapInuse", 0);
  add_number(&text, "HeapReleased", 0);
  add_number(&text, "HeapObjects", (unsigned long long)totals->inuse_objects);
  add(&text, "# Stack = 0 / 0\n# MSpan = 0 / 0\n# MCache = 0 / 0\n");
  add_number(&text, "BuckHashSys", heap_table_bytes() + stack_table_bytes());
  add_number(&text, "GCSys", 0);
  add_number(&text, "OtherSys", agent_memory_bytes());
  add_number(&text, "NextGC", 0);
  add_number(&text, "LastGC", 0);
  add(&text, "# PauseNs = []\n# PauseEnd = []\n");
  add_number(&text, "NumGC", 0);
  add_number(&text, "NumForcedGC", 0);
  add_number(&text, "GCCPUFraction", 0);
  add(&text, "# DebugGC = false\n");
  add_number(&text, "MaxRSS", known ? (unsigned long long)memory.max_rss_bytes : 0);

  add(&text,
      "#\n# Alloc, TotalAlloc, Mallocs, Frees, HeapAlloc and HeapObjects are estimates from the "
      "samples; Sys is the program's private\n"
      "# writable address space; BuckHashSys and OtherSys are this agent's memory; 0 where a "
      "native program has no such thing.\n");
  if (!known) add(&text, "# Sys and MaxRSS are not known: /proc cannot be read here.\n");
  if (mixed_rates)
    add(&text,
        "# Records were sampled at different rates: their values above are already scaled, hence "
        "heap/2.\n");
  return text.used;
}

/* /debug/pprof/: the page that a person sees, and that scripts written for Go's page can still read
 * (its rows, its list, its texts). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "shim/base/config.h"
#include "shim/base/counters.h"
#include "shim/base/dump_config.h"
#include "shim/allocation/heap_status.h"
#include "shim/allocation/heap_table.h"
#include "shim/locks/lock_status.h"
#include "shim/stacks/stack_table.h"
#include "shim/threads/thread_registry.h"
#include "agent/runtime/agent_status.h"
#include "agent/runtime/agent_memory.h"
#include "agent/runtime/agent_thread.h"
#include "agent/profiles/heap_profile.h"
#include "agent/dump/dump_status.h"
#include "html_page.h"
#include "agent/http/civetweb_alone.h"
#include "agent/http/localhost_twin.h"
#include "agent/runtime/log.h"
#include "page_assets.h"
#include "agent/runtime/process_info.h"
#include "agent/tree/process_tree.h"
#include "resident_memory.h"
#include "index_questions.h"
#include "agent_tables.h"
#include "index_sampling.h"
#include "agent/symbols/symbol_memory.h"
#include "routes.h"
#include "agent/threads/deadlocks.h"
#include "agent/tls/tls_front.h"
#include "agent/trace/trace_recording.h"

enum { COMMAND_LINE_SHOWN = 2000 };

/* Of the lines that assets/index.js draws. */
static const char style[] =
    ".vitals{display:grid;grid-template-columns:repeat(3,1fr);gap:.6rem;"
    "margin:.6rem 0 0}.vitals:empty{display:none}\n"
    ".vital{display:grid;grid-template-columns:1fr auto;color:inherit;background:var(--card);"
    "border:1px solid var(--line);border-radius:8px;padding:.55rem .8rem .4rem;min-width:0}\n"
    ".vital:hover,.vital:focus{text-decoration:none;border-color:var(--link)}\n"
    ".vital b{font-weight:600;font-variant-numeric:tabular-nums}\n"
    ".vital svg{grid-column:1/-1;width:100%;height:2.6rem;margin:.25rem 0 .1rem}"
    ".vital .line{fill:none;stroke:var(--link);stroke-width:1.5;vector-effect:non-scaling-stroke;"
    "stroke-linejoin:round;stroke-linecap:round}.vital .area{fill:var(--link);opacity:.14}\n"
    ".vital span:last-child{grid-column:1/-1;font-size:.85rem;text-align:right;"
    "font-variant-numeric:tabular-nums}\n"
    ".questions{display:grid;grid-template-columns:auto 1fr;gap:.25rem 1rem;padding:0;"
    "list-style:none;margin:.4rem 0}.questions li{display:contents}.questions b{font-weight:600}\n"
    "tr:has(+tr.uncounted)>td:first-child{visibility:hidden}\n"
    ".more .rates{grid-column:-2;white-space:normal}"
    ".rates summary{color:var(--link);cursor:pointer}"
    ".rates form{display:flex;flex-wrap:wrap;gap:.4rem .8rem;align-items:center;margin:.3rem 0}"
    ".rates input,.rates button{font:inherit;color:inherit;background:var(--card);"
    "border:1px solid var(--line);border-radius:6px;padding:.1rem .5rem}"
    ".rates input{width:6.5rem}.rates button{cursor:pointer}\n"
    "@media(max-width:36rem){.questions{display:block}.questions li,.questions b{display:block}"
    ".questions li{margin-bottom:.4rem}.vitals{grid-template-columns:1fr 1fr}.vital{display:block}"
    ".vital b{display:block}}\n";

/* ---- what is wrong ---- */

struct notices {
  struct text_sink *text;
  bool open;
};

static void begin_notice(struct notices *notices) {
  text_sink_text(notices->text, notices->open ? "<li>" : "<div class=warn><ul>\n<li>");
  notices->open = true;
}

static void notice(struct notices *notices, const char *before, const char *sentence) {
  if (!sentence || !*sentence) return;
  begin_notice(notices);
  text_sink_html(notices->text, before);
  text_sink_html(notices->text, sentence);
  text_sink_text(notices->text, "</li>\n");
}

static void loss_notice(struct notices *notices, const char *name, const char *meaning,
                        uint64_t count) {
  if (count == 0) return;
  begin_notice(notices);
  text_sink_text(notices->text, "<b>");
  html_count(notices->text, count);
  text_sink_text(notices->text, "</b> ");
  text_sink_html(notices->text, meaning);
  text_sink_format(notices->text, " <span class=\"dim mono\">%s</span></li>\n", name);
}

static void lock_notices(struct notices *notices) {
  const char *block = block_off_reason(), *mutex = mutex_off_reason();
  bool same = block && mutex && strcmp(block, mutex) == 0;
  notice(notices, same ? "Block and mutex are off: " : "Block is off: ", block);
  if (!same) notice(notices, "Mutex is off: ", mutex);
}

static void trace_notice(struct notices *notices) {
  notice(notices, "The last trace was sampled, its states are not exact: ",
         trace_recording_status().recorder.off_reason);
  notice(notices,
         "The last trace has no CPU samples: ", trace_recording_status().samples.off_reason);
}

static void flight_notice(struct notices *notices) {
  notice(notices, "The flight recorder (PPROFAGENT_FLIGHT) is off: ",
         trace_recording_status().flight.off_reason);
}

static void refusal_notice(struct notices *notices) {
  char last[PROCESS_REFUSAL_MAX], before[80];
  unsigned refused = process_tree_refusals(last);
  snprintf(before, sizeof before, "Not let in to share the port: %u; the last: ", refused);
  if (refused) notice(notices, before, last);
}

static void dump_notice(struct notices *notices) {
  char last[SHARED_TEXT_MAX], before[96];
  uint64_t failed = dump_status_failed();
  snprintf(before, sizeof before, "Profiles not written to files: %" PRIu64 "; the last: ", failed);
  if (failed) notice(notices, before, dump_status_last_error(last));
}

static void deadlock_notices(struct notices *notices) {
  enum { SHOWN_MAX = 10 };
  struct thread_dump *dump = deadlocks_look();
  char line[DEADLOCK_LINE_MAX];
  for (uint32_t i = 1; dump && i <= dump->deadlock_count && i <= SHOWN_MAX; i++) {
    begin_notice(notices);
    text_sink_text(notices->text, "<b><a href='goroutineleak?debug=2'>Deadlock</a></b>: ");
    deadlock_describe(dump, i, line);
    text_sink_html(notices->text, line);
    if (deadlock_describe_behind(dump, i, line)) {
      text_sink_text(notices->text, "; ");
      text_sink_html(notices->text, line);
    }
    text_sink_text(notices->text, "</li>\n");
  }
  thread_dump_release(dump);
}

static void write_notices(struct text_sink *text) {
  struct notices notices = {text, false};
  char reason[SHARED_TEXT_MAX];
  deadlock_notices(&notices);
  notice(&notices, "Heap and allocs are off: ", heap_off_reason());
  lock_notices(&notices);
  trace_notice(&notices);
  flight_notice(&notices);
  notice(&notices, "The agent does not serve: ", process_tree_off_reason(reason));
  notice(&notices, "", localhost_twin_fault());
  notice(&notices, "Remote admin is off: ", tls_front_off_reason(reason));
  notice(&notices, "Other processes cannot share this port: ", process_tree_fault());
  refusal_notice(&notices);
  dump_notice(&notices);
  notice(&notices, "", agent_status_descriptor_isolation());
  notice(&notices, "", log_fault(reason));
  notice(&notices, "", civetweb_is_alone() ? civetweb_alone_text : NULL);
  notice(&notices, "What only /proc tells is not known: ", proc_fault());
  for (uint32_t i = 0; i < config.fault_count && i < CONFIG_FAULTS_MAX; i++)
    notice(&notices, "", config.faults[i]);
#define X(identifier, meaning)                \
  loss_notice(&notices, #identifier, meaning, \
              atomic_load_explicit(&shim_counters.identifier, memory_order_relaxed));
  SHIM_LOSS_COUNTERS(X)
#undef X
  struct symbolizer_counters symbols;
  symbolizer_read_counters(&symbols);
#define X(identifier, meaning) loss_notice(&notices, #identifier, meaning, symbols.identifier);
  SYMBOLIZER_FILE_COUNTERS(X)
#undef X
  if (notices.open) text_sink_text(text, "</ul></div>\n");
}

/* ---- facts ---- */

static void write_memory_fact(struct text_sink *text, const char *label, int64_t bytes,
                              int64_t objects) {
  text_sink_format(text, "<div><span class=dim>%s</span><b>", label);
  html_bytes(text, bytes > 0 ? (uint64_t)bytes : 0);
  text_sink_text(text, "</b><span class=dim>about ");
  html_count(text, objects > 0 ? (uint64_t)objects : 0);
  text_sink_text(text, " objects</span></div>\n");
}

static void write_bytes_if_known(struct text_sink *text, int64_t bytes) {
  if (bytes < 0) text_sink_text(text, "?");
  else html_bytes(text, (uint64_t)bytes);
}

static void write_facts(struct text_sink *text, const struct process_identity *process) {
  struct process_memory memory;
  process_memory_read(&memory);
  text_sink_text(text, "<div class=facts>\n");
  if (!heap_off_reason() || heap_bucket_count() > 0) {
    struct heap_totals totals;
    heap_totals_read(&totals);
    write_memory_fact(text, "Heap in use", totals.inuse_bytes, totals.inuse_objects);
    write_memory_fact(
        text,
        agent_status_was_forked() ? "Allocated since its parent's start" : "Allocated since start",
        totals.alloc_bytes, totals.alloc_objects);
  }
  text_sink_text(text, "<div><span class=dim>Resident memory</span><b>");
  write_bytes_if_known(text, memory.rss_bytes);
  text_sink_text(text, "</b><span class=dim>at most ");
  write_bytes_if_known(text, memory.max_rss_bytes);
  text_sink_text(text, "</span></div>\n<div><span class=dim>Running for</span><b>");
  if (process->uptime_seconds < 0) text_sink_text(text, "?");
  else html_duration(text, (uint64_t)process->uptime_seconds);
  text_sink_format(text, "</b><span class=dim>pid %d</span></div>\n</div>\n", process->pid);
}

static void write_command_line(struct text_sink *text) {
  size_t size;
  char *line = process_command_line(&size);
  if (!line) return;
  bool cut = size > COMMAND_LINE_SHOWN;
  if (cut) line[size = COMMAND_LINE_SHOWN] = 0;
  for (size_t i = 0; i < size; i++)
    if (line[i] == 0 || line[i] == '\n' || line[i] == '\t') line[i] = ' ';
  text_sink_html(text, line);
  if (cut) text_sink_text(text, " &hellip;");
  agent_free(line);
}

static void write_unnamed(struct text_sink *text) {
  struct symbolizer_counters symbols;
  symbolizer_read_counters(&symbols);
  if (symbols.symbols_unnamed == 0) return;
  text_sink_text(text, "<dt>Names</dt><dd>");
  html_count(text, symbols.symbols_unnamed);
  text_sink_text(text,
                 " addresses have no function name: they are in stripped code, or in code made at "
                 "run time. Installing the program's "
                 "-dbgsym package, or leaving the symbols in when it is built, names them. "
                 "<span class=\"dim mono\">symbols_unnamed</span></dd>\n");
}

static void write_dumps(struct text_sink *text) {
  char last[SHARED_TEXT_MAX];
  if (!*dump_config.pattern) return;
  text_sink_text(text, "<dt>Files</dt><dd>profiles are written to <span class=mono>");
  text_sink_html(text, dump_config.pattern);
  text_sink_text(text, "</span> on ");
  text_sink_html(text, dump_config.on);
  text_sink_text(text, ": ");
  html_count(text, dump_status_written());
  text_sink_text(text, " so far");
  if (*dump_status_last_file(last)) {
    text_sink_text(text, ", the last is <span class=mono>");
    text_sink_html(text, last);
    text_sink_text(text, "</span>");
  }
  text_sink_text(text, "</dd>\n");
}

static void write_details(struct text_sink *text) {
  text_sink_text(text, "<dl class=more>\n<dt>Command line</dt><dd class=mono>");
  write_command_line(text);
  text_sink_text(text, "</dd>\n<dt>Allocator</dt><dd class=mono>");
  const char *allocator = heap_allocator_path();
  text_sink_html(text, allocator && *allocator ? allocator : "unknown");
  text_sink_text(text, "</dd>\n<dt>Sampling</dt><dd>");
  index_sampling_write(text);
  text_sink_text(text, "</dd>\n<dt>Kept</dt><dd>");
  html_count(text, heap_live_count());
  text_sink_text(text, " sampled allocations live, ");
  html_count(text, stack_table_count());
  text_sink_text(text, " distinct stacks</dd>\n<dt>Agent</dt><dd>");
  html_bytes(text, agent_memory_bytes() + agent_tables_bytes());
  text_sink_text(text, " of memory");
  if (symbol_memory_peak() > 0) {
    text_sink_text(text, " (names took ");
    html_bytes(text, symbol_memory_peak());
    text_sink_text(text, " at most)");
  }
  uint64_t cpu_milliseconds = agent_thread_cpu_nanoseconds() / 1000000;
  text_sink_format(text,
                   ", %" PRIu64 ".%03" PRIu64 " s of CPU time, listening on <span class=mono>",
                   cpu_milliseconds / 1000, cpu_milliseconds % 1000);
  char listens[SHARED_TEXT_MAX];
  text_sink_html(text, agent_status_address(listens));
  text_sink_text(text, "</span>");
  if (*tls_front_address()) {
    text_sink_text(text, ", for clients with a certificate on <span class=mono>");
    text_sink_html(text, tls_front_address());
    text_sink_text(text, "</span>");
  }
  text_sink_text(text, "</dd>\n");
  write_dumps(text);
  write_unnamed(text);
  text_sink_text(text, "</dl>\n");
}

/* ---- profiles ---- */

static void write_link_of(struct text_sink *text, const char *name, int seconds) {
  text_sink_format(text, " &middot; <a href='%s?seconds=%d' download>next %d s</a>", name, seconds,
                   seconds);
}

static void write_links(struct text_sink *text, const struct route *route) {
  const char *name = route->name;
  if (route->is_trace)
    text_sink_format(text,
                     " <span class=get><a href='%s?seconds=1' download>next 1 s</a> &middot; "
                     "<a href='%s?seconds=5' download>next 5 s</a>%s</span>",
                     name, name,
                     trace_recording_status().flight.runs
                         ? " &middot; <a href='trace?last=5s' download>last 5 s</a>"
                         : "");
  if (!route_has_view(route)) return;
  if (strcmp(name, "goroutine") == 0)
    text_sink_text(text,
                   " <span class=get><a href='view/goroutine#view=threads'>threads</a> "
                   "&middot;</span>");
  text_sink_format(text, " <span class=get><a href='view/%s'>view</a>", name);
  if (route->is_profile)
    text_sink_format(text,
                     " &middot; <a href='%s?debug=1'>text</a> &middot; "
                     "<a href='%s' download>download</a>",
                     name, name);
  if (!route->has_no_delta) write_link_of(text, name, 10);
  if (route->is_recorded) write_link_of(text, name, 30);
  text_sink_text(text, "</span>");
}

static void write_row(struct text_sink *text, const struct route *route) {
  const char *off = route_off_reason(route), *query = route->is_profile ? "?debug=1" : "";
  uint64_t count = route->count ? route->count() : 0;
  if (off && count == 0) {
    text_sink_format(
        text, "<tr class=off><td>0</td><td>%s</td></tr>\n<tr class=\"about off\"><td></td><td>",
        route->name);
    text_sink_html(text, route->meaning);
    text_sink_text(text, " &mdash; off: ");
    text_sink_html(text, off);
  } else {
    text_sink_format(
        text,
        "<tr><td>%" PRIu64
        "</td><td><a href='%s%s'>%s</a></td></tr>\n<tr class=\"about%s\"><td></td><td>",
        count, route->name, query, route->name, route->count ? "" : " uncounted");
    text_sink_html(text, route->meaning);
    if (off)
      text_sink_text(text, " &mdash; until it was switched off"); /* why: among the notices */
    write_links(text, route);
  }
  text_sink_text(text, "</td></tr>\n");
}

static void write_profiles(struct text_sink *text) {
  size_t count;
  const struct route *routes = routes_all(&count);
  text_sink_text(text,
                 "<h2>Types of profiles "
                 "available:</h2>\n<table>\n<thead><td>Count</td><td>Profile</td></thead>\n");
  for (size_t i = 0; i < count; i++)
    if (routes[i].meaning) write_row(text, &routes[i]);
  text_sink_text(text, "</table>\n");
  for (size_t i = 0; i < count; i++)
    if (strcmp(routes[i].name, "goroutine") == 0 && !route_off_reason(&routes[i]))
      text_sink_text(text, "<a href=\"goroutine?debug=2\">full goroutine stack dump</a>\n<br>\n");
}

static void write_descriptions(struct text_sink *text) {
  size_t count;
  const struct route *routes = routes_all(&count);
  text_sink_text(text, "<h2>Profile Descriptions:</h2>\n<ul class=about>\n");
  for (size_t i = 0; i < count; i++) {
    if (!routes[i].meaning) continue;
    text_sink_format(text, "<li><div class=profile-name>%s: </div> ", routes[i].name);
    text_sink_html(text, routes[i].description);
    text_sink_text(text, "</li>\n");
  }
  text_sink_text(text, "</ul>\n");
}

/* go tool pprof cannot speak to a unix socket. */
static void write_how_to_unix(struct text_sink *text, const char *path, const char *prefix) {
  static const char plain[] =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+,:@%";
  char quoted[400]; /* for the shell */
  size_t size = 0;
  for (const char *c = path; *c && size + 2 < sizeof quoted; c++) {
    if ((unsigned char)*c < 0x80 && !strchr(plain, *c)) quoted[size++] = '\\';
    quoted[size++] = *c;
  }
  quoted[size] = 0;
  text_sink_text(text, "<h2>In a terminal</h2>\n<pre>curl --unix-socket ");
  text_sink_html(text, quoted);
  text_sink_format(
      text,
      " http://localhost%s/debug/pprof/heap -o heap.pb.gz\ngo tool pprof -top heap.pb.gz</pre>\n",
      prefix);
}

static void write_how_to(struct text_sink *text, const char *host, const char *prefix) {
  static const struct {
    const char *command, *path;
  } lines[] = {{"<h2>In a terminal</h2>\n<pre>go tool pprof -http=: http://", "heap\n"},
               {"go tool pprof -top http://", "profile?seconds=10\n"},
               {"curl http://", "goroutine?debug=2</pre>\n"}};
  char listens[SHARED_TEXT_MAX];
  const char *own = agent_status_address(listens),
             *address = host && *host && strlen(host) < 200 ? host : own;
  if (strncmp(own, "unix:", 5) == 0) return write_how_to_unix(text, own + 5, prefix);
  if (!*address) return;
  for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
    text_sink_text(text, lines[i].command);
    text_sink_html(text, address);
    text_sink_format(text, "%s/debug/pprof/%s", prefix, lines[i].path);
  }
}

/* Which of several this one is. */
static void write_place_in_tree(struct text_sink *text, const char *prefix) {
  unsigned size = process_tree_size();
  if (size < 2) return;
  text_sink_format(text, "<p>Process %d ", (int)getpid());
  if (process_tree_role() == TREE_HOLDER) {
    text_sink_text(text, "holds the port that ");
    html_count(text, size);
    text_sink_text(text, " processes share");
  } else {
    text_sink_text(text, "shares its port with others");
  }
  text_sink_format(text, ": <a href=\"%s\">all processes</a></p>\n",
                   *prefix ? "../../../../" : "../../");
}

bool index_page_write(struct text_sink *text, const char *host_header, const char *prefix) {
  struct process_identity process;
  process_identity_read(&process);
  html_page_begin(text);
  text_sink_html(text, process.comm);
  text_sink_format(text, " (%d) /debug/pprof/", process.pid);
  html_page_body(text, style);
  text_sink_format(text, "<script type=module crossorigin src=\"assets/%s/index.js\"></script>\n",
                   page_assets_version());
  text_sink_text(text, "<h1>");
  text_sink_html(text, *process.comm ? process.comm : "?");
  text_sink_text(text, "</h1>\n<div class=dim>/debug/pprof/<br></div>\n");
  write_place_in_tree(text, prefix);
  write_notices(text);
  write_facts(text, &process);
  text_sink_text(text,
                 "<section id=vitals class=vitals aria-label=\"The last five minutes\">"
                 "</section>\n");
  write_details(text);
  index_questions_write(text);
  write_profiles(text);
  resident_memory_write_html(text);
  write_how_to(text, host_header, prefix);
  write_descriptions(text);
  html_page_end(text);
  return text_sink_end(text);
}

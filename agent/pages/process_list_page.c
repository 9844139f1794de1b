/* `/`: the processes that share the port, as HTML for people and as JSON for programs. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/runtime/agent_status.h"
#include "agent/runtime/agent_memory.h"
#include "html_page.h"
#include "agent/tree/process_tree.h"
#include "agent/http/query.h"
#include "agent/http/response.h"
#include "routes.h"

static const char style[] =
    "body{max-width:78rem}\n"
    ".processes{margin-top:1.2rem}.processes td,.processes "
    "td:first-child{width:auto;text-align:left;color:inherit;padding:.45rem .7rem .45rem 0;"
    "border-bottom:1px solid var(--line)}\n"
    ".processes thead td,.processes thead td:first-child{color:var(--dim);white-space:nowrap}\n"
    ".processes .number,.processes thead "
    ".number{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}\n"
    ".processes .command{overflow-wrap:anywhere;min-width:14rem;font-size:.82rem}\n"
    ".processes .name{font-weight:600;overflow-wrap:anywhere;min-width:9.5rem}.processes .links "
    "a{margin-right:.6rem;white-space:nowrap}\n"
    ".processes tr:target td{background:var(--card)}\n"
    ".holder{font-weight:400;color:var(--dim);font-size:.82rem;white-space:nowrap}\n"
    "@media(max-width:52rem){.processes thead{display:none}.processes,.processes "
    "tbody{display:block}"
    ".processes tr{display:grid;grid-template-columns:1fr 1fr;gap:.1rem "
    "1rem;background:var(--card);border:1px solid var(--line);"
    "border-radius:8px;padding:.6rem .8rem;margin:0 0 .7rem}"
    ".processes td,.processes td:first-child,.processes .number{border:0;padding:0;text-align:left}"
    ".processes td[data-label]::before{content:attr(data-label) ' "
    "';color:var(--dim);font-size:.82rem}"
    ".processes .name{grid-column:1/-1;grid-row:1;font-size:1.05rem}.processes .command,.processes "
    ".links{grid-column:1/-1;min-width:0}"
    ".processes .links a{display:inline-block;padding:.3rem .3rem .3rem 0}}\n";

/* ---- for people ---- */

static bool is_listed(const struct process_entry *entries, size_t count, int32_t pid) {
  for (size_t i = 0; i < count; i++)
    if (entries[i].pid == pid) return true;
  return false;
}

static void write_parent(struct text_sink *text, const struct process_entry *entries, size_t count,
                         int32_t parent) {
  if (parent == 0) return;
  if (is_listed(entries, count, parent))
    text_sink_format(text, "<a href=\"#p%d\">%d</a>", (int)parent, (int)parent);
  else text_sink_format(text, "%d", (int)parent);
}

static void write_links(struct text_sink *text, int pid) {
  static const struct {
    const char *path, *label;
  } links[] = {{"", "index"},           {"view/heap", "heap"},
               {"view/profile", "cpu"}, {"view/wall", "wall"},
               {"view/mutex", "locks"}, {"view/goroutine#view=threads", "threads"}};
  for (size_t i = 0; i < sizeof links / sizeof *links; i++)
    text_sink_format(text, "<a href=\"pid/%d/debug/pprof/%s\">%s</a>", pid, links[i].path,
                     links[i].label);
}

static void write_command(struct text_sink *text, const char *command) {
  char line[PROCESS_COMMAND_MAX];
  snprintf(line, sizeof line, "%s", command);
  for (char *c = line; *c; c++)
    if (*c == '\n' || *c == '\t') *c = ' ';
  text_sink_html(text, line);
}

static void write_row(struct text_sink *text, const struct process_entry *entries, size_t count,
                      const struct process_entry *entry) {
  int pid = (int)entry->pid;
  text_sink_format(text, "<tr id=p%d><td class=number data-label=pid>%d</td><td class=name>", pid,
                   pid);
  if (!entry->answered) {
    text_sink_format(text,
                     "?</td><td class=command colspan=5>did not answer in time: stopped, swapped "
                     "out or very busy (user %" PRIu32 ")",
                     entry->uid);
  } else {
    text_sink_format(text, "<a href=\"pid/%d/debug/pprof/\">", pid);
    text_sink_html(text, *entry->name ? entry->name : "?");
    text_sink_format(text, "</a>%s</td><td class=\"command mono\">",
                     entry->is_holder ? " <span class=holder>holds the port</span>" : "");
    write_command(text, entry->command);
    text_sink_text(text, "</td><td class=number data-label=parent>");
    write_parent(text, entries, count, entry->parent);
    text_sink_text(text, "</td><td class=number data-label=uptime>");
    if (entry->uptime_seconds >= 0) html_duration(text, (uint64_t)entry->uptime_seconds);
    else text_sink_text(text, "?");
    text_sink_text(text, "</td><td class=number data-label=heap>");
    if (entry->heap_bytes < 0) text_sink_text(text, "off");
    else html_bytes(text, (uint64_t)entry->heap_bytes);
    text_sink_text(text, "</td><td class=number data-label=threads>");
    if (entry->threads) html_count(text, entry->threads);
  }
  text_sink_text(text, "</td><td class=links>");
  write_links(text, pid);
  text_sink_text(text, "</td></tr>\n");
}

static void write_tree_links(struct text_sink *text) {
  static const char names[][12] = {"heap", "profile", "mutex", "wall", "goroutine"};
  text_sink_text(text, "<div class=dim>All of them as one:");
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    text_sink_format(text, " <a href=\"tree/debug/pprof/view/%s\">%s</a>", names[i],
                     strcmp(names[i], "profile") == 0 ? "cpu" : names[i]);
  text_sink_text(text,
                 "; for pprof: <a href=\"tree/debug/pprof/heap\">"
                 "/tree/debug/pprof/heap</a></div>\n");
}

static void write_refused(struct text_sink *text) {
  char last[PROCESS_REFUSAL_MAX];
  unsigned refused = process_tree_refusals(last);
  if (!refused) return;
  text_sink_text(text, "<div class=warn>Not let in to share the port: ");
  html_count(text, refused);
  text_sink_text(text, "; the last: ");
  text_sink_html(text, last);
  text_sink_text(text, "</div>\n");
}

static void write_html(struct text_sink *text, const struct process_entry *entries, size_t count) {
  char listens[SHARED_TEXT_MAX];
  html_page_begin(text);
  text_sink_text(text, "Processes on ");
  text_sink_html(text, agent_status_address(listens));
  html_page_body(text, style);
  text_sink_text(text, "<h1>");
  html_count(text, count);
  text_sink_format(text,
                   " process%s</h1>\n<div class=dim>under libpprofagent, on <span class=mono>",
                   count == 1 ? "" : "es");
  text_sink_html(text, agent_status_address(listens));
  text_sink_text(text, "</span>; as JSON: <a href=\"?format=json\">?format=json</a></div>\n");
  write_refused(text);
  if (count > 1) write_tree_links(text);
  text_sink_text(
      text,
      "<table class=processes>\n<thead><tr><td class=number>pid</td><td>name</td><td>command</td>"
      "<td class=number>parent</td><td class=number>uptime</td><td class=number>heap in "
      "use</td><td class=number>threads"
      "</td><td>views</td></tr></thead>\n<tbody>\n");
  for (size_t i = 0; i < count; i++) write_row(text, entries, count, &entries[i]);
  text_sink_text(text, "</tbody>\n</table>\n");
  html_page_end(text);
}

/* ---- for programs ---- */

static void write_json_entry(struct text_sink *text, const struct process_entry *entry) {
  bool age_is_known = entry->answered && entry->uptime_seconds >= 0;
  uint64_t milliseconds = age_is_known ? (uint64_t)(entry->uptime_seconds * 1000) : 0;
  text_sink_format(text, "{\"pid\":%d,\"parent\":", (int)entry->pid);
  if (entry->parent) text_sink_format(text, "%d", (int)entry->parent);
  else text_sink_text(text, "null");
  text_sink_format(text, ",\"uid\":%" PRIu32 ",\"name\":", entry->uid);
  text_sink_json(text, entry->name);
  text_sink_text(text, ",\"command\":");
  text_sink_json(text, entry->command);
  if (age_is_known)
    text_sink_format(text, ",\"uptime_seconds\":%" PRIu64 ".%03u", milliseconds / 1000,
                     (unsigned)(milliseconds % 1000));
  else text_sink_text(text, ",\"uptime_seconds\":null");
  if (entry->heap_bytes >= 0)
    text_sink_format(text, ",\"heap_inuse_bytes\":%" PRId64, entry->heap_bytes);
  else text_sink_text(text, ",\"heap_inuse_bytes\":null");
  if (entry->threads) text_sink_format(text, ",\"threads\":%" PRIu32, entry->threads);
  else text_sink_text(text, ",\"threads\":null");
  text_sink_format(text, ",\"holder\":%s,\"answered\":%s,\"url\":\"/pid/%d/debug/pprof/\"}",
                   entry->is_holder ? "true" : "false", entry->answered ? "true" : "false",
                   (int)entry->pid);
}

static void write_json(struct text_sink *text, const struct process_entry *entries, size_t count) {
  text_sink_text(text, "{\"processes\":[");
  for (size_t i = 0; i < count; i++) {
    if (i > 0) text_sink_text(text, ",\n");
    write_json_entry(text, &entries[i]);
  }
  char last[PROCESS_REFUSAL_MAX], listens[SHARED_TEXT_MAX];
  unsigned refused = process_tree_refusals(last);
  text_sink_text(text, "],\"listen_address\":");
  text_sink_json(text, agent_status_address(listens));
  text_sink_format(text, ",\"refused\":%u,\"last_refusal\":", refused);
  if (refused) text_sink_json(text, last);
  else text_sink_text(text, "null");
  text_sink_text(text, "}\n");
}

/* ---- which of the two ---- */

/* What stands first in Accept; a browser names text/html there. */
static bool accepts_json_first(const char *accept) {
  const char *json = accept ? strstr(accept, "application/json") : NULL,
             *html = accept ? strstr(accept, "text/html") : NULL;
  return json && (!html || json < html);
}

static bool wants_json(const struct http_request *request) {
  char format[8];
  if (query_value(request->query, "format", format, sizeof format) == QUERY_FOUND)
    return strcmp(format, "json") == 0;
  return accepts_json_first(http_request_header(request, "Accept"));
}

void process_list_respond(const struct http_request *request) {
  size_t count;
  struct process_entry *entries = process_tree_list(&count);
  struct text_sink *text = entries ? agent_malloc(sizeof *text) : NULL;
  if (text) {
    bool json = wants_json(request);
    struct response_sink sink = response_sink_to(request, json ? "application/json" : TEXT_HTML,
                                                 json ? NULL : HTML_PAGE_HEADERS);
    text_sink_start(text, &sink.base);
    if (json) write_json(text, entries, count);
    else write_html(text, entries, count);
    response_sink_end(&sink, text_sink_end(text));
  } else {
    http_respond_error(request->response, 500, "the processes cannot be listed: no memory");
  }
  agent_free(text);
  agent_free(entries);
}

#include "routes.h"

#include <stdio.h>
#include <string.h>

#include "shim/allocation/heap_status.h"
#include "shim/locks/lock_status.h"
#include "agent/runtime/agent_memory.h"
#include "agent/cpu/cpu_profile.h"
#include "agent/runtime/foreign_text.h"
#include "heap_routes.h"
#include "html_page.h"
#include "page_assets.h"
#include "agent/runtime/process_info.h"
#include "profile_routes.h"
#include "rates.h"
#include "agent/http/request_process.h"
#include "agent/http/response.h"
#include "symbol_lookup.h"
#include "trace_routes.h"
#include "tree_profile.h"

#define PREFIX "/debug/pprof/"

enum { REDIRECT_QUERY_MAX = 2048 };

/* To the index page, with the query. process: "", or "/pid/N". */
static void respond_redirect(const struct http_request *request, const char *process, int status,
                             const char *status_text) {
  char body[128], location[REDIRECT_QUERY_MAX + 96];
  const char *query = request->query;
  bool keep = *query && strlen(query) <= REDIRECT_QUERY_MAX;
  for (const char *c = query; *c; c++)
    keep = keep && *c > ' ' && *c < 0x7f; /* nothing that could end the header */
  snprintf(location, sizeof location, "Location: %s" PREFIX "%s%s\r\n", process, keep ? "?" : "",
           keep ? query : "");
  int size =
      snprintf(body, sizeof body, "<a href=\"%s" PREFIX "\">%s</a>.\n\n", process, status_text);
  respond_whole(request, status, TEXT_HTML, location, body, (size_t)size);
}

/* ---- what is no profile ---- */

static void handle_cmdline(const struct http_request *request, const struct route *route) {
  (void)route;
  size_t size;
  char *text = process_command_line(&size);
  if (text) size = foreign_bytes_clean(text, size); /* the rest is as the program was given it */
  if (text) respond_whole(request, 200, TEXT_PLAIN, NULL, text, size);
  else
    http_respond_error(request->response, 500,
                       "the command line cannot be read: no memory, descriptors or /proc");
  agent_free(text);
}

static void handle_symbol(const struct http_request *request, const struct route *route) {
  (void)route;
  bool post = strcmp(request->method, "POST") == 0;
  const char *addresses = post ? request->body : request->query;
  struct response_sink sink = response_sink_to(request, TEXT_PLAIN, NULL);
  response_sink_end(
      &sink, symbol_lookup(addresses, post ? request->body_size : strlen(addresses), &sink.base));
}

static void handle_health(const struct http_request *request, const struct route *route) {
  (void)route;
  struct text_sink *text = agent_malloc(sizeof *text);
  struct response_sink sink = response_sink_to(request, "application/json", NULL);
  if (text) text_sink_start(text, &sink.base);
  response_sink_end(&sink, text && health_page_write(text));
  agent_free(text);
}

static void handle_index(const struct http_request *request) {
  struct text_sink *text = agent_malloc(sizeof *text);
  struct response_sink sink = response_sink_to(request, TEXT_HTML, HTML_PAGE_HEADERS_WITH_SCRIPT);
  if (text) text_sink_start(text, &sink.base);
  response_sink_end(
      &sink, text && index_page_write(text, http_request_header(request, "Host"), request->prefix));
  agent_free(text);
}

/* ---- the table ---- */

#define THREADS \
  .sample_types = "goroutine", .count = count_threads, .handle = handle_threads, .is_profile = true
#define OF_HEAP "alloc_objects alloc_space inuse_objects inuse_space"
#define OF_WAITS "contentions delay"
#define PARAMETERS "debug=1 gives text; seconds=N gives what changed in the next N seconds"
#define STUCK                                                                       \
  .sample_types = "goroutineleak", .count = count_stuck, .handle = handle_deadlock, \
  .is_profile = true

static const struct route routes[] = {
    {.name = "allocs",
     .meaning = "Where memory was allocated since the program started, freed or not",
     .description = "A sampling of all past memory allocations. " PARAMETERS ".",
     .off_reason = heap_off_reason,
     .count = count_heap,
     .handle = handle_heap,
     .is_profile = true,
     .sample_types = OF_HEAP},
    {.name = "block",
     .meaning = "Where threads waited for locks, conditions and semaphores",
     .description =
         "Stack traces that led to blocking on synchronization primitives. " PARAMETERS ".",
     .off_reason = block_off_reason,
     .count = count_block,
     .handle = handle_block,
     .is_profile = true,
     .sample_types = OF_WAITS},
    {.name = "cmdline",
     .meaning = "The command line of this program",
     .description =
         "The command line invocation of the current program, arguments separated by NUL",
     .handle = handle_cmdline},
    {.name = "goroutine",
     .meaning = "Where every thread is now",
     .description =
         "Stack traces of all current threads, under the name that Go's clients know. debug=1 "
         "gives text, grouped; debug=2 one "
         "record a thread, as Go prints an unrecovered panic; tid=1 keeps threads apart.",
     THREADS},
    {.name = "goroutineleak",
     .meaning = "Threads that can never go on: deadlocks",
     .description = "Threads that wait for one another in a circle, or for what an ended thread "
                    "holds, under the name that Go's clients know; also at deadlock. debug=1 gives "
                    "text; debug=2 one record a thread.",
     .count = count_stuck,
     .handle = handle_deadlock,
     .is_profile = true},
    {.name = "health",
     .meaning = "The agent's own state: what is on, what was lost, what it costs",
     .description = "JSON: version, configuration, loss counters, table occupancy, the agent's "
                    "memory and CPU time",
     .handle = handle_health},
    {.name = "heap",
     .meaning = "Where the memory that is in use now was allocated",
     .description = "A sampling of memory allocations of live objects. " PARAMETERS
                    "; age=10m: only what was allocated that long ago or longer; "
                    "labels=age,thread; sample=gone with seconds=: what was allocated and freed "
                    "meanwhile; gc=1 is accepted, no collector runs.",
     .off_reason = heap_off_reason,
     .count = count_heap,
     .handle = handle_heap,
     .is_profile = true,
     .sample_types = OF_HEAP},
    {.name = "leaks",
     .meaning = "Which live memory has kept growing",
     .description = "Stacks whose live memory has grown steadily since the start, or in the last "
                    "window=10m, told by the ages of its blocks: how much an hour, and the least "
                    "with 95 % confidence. debug=1 gives text.",
     .off_reason = heap_off_reason,
     .handle = handle_leaks,
     .is_profile = true,
     .has_no_delta = true,
     .sample_types = "growth_objects growth_space inuse_objects inuse_space"},
    {.name = "mmap",
     .meaning = "Who made the large anonymous mappings, and how much of them is in memory",
     .description = "A sampling of the calls of mmap and mremap that made anonymous mappings of 64 "
                    "KB and more, outside malloc's own: what is mapped still, and what of it is "
                    "resident. " PARAMETERS ".",
     .off_reason = mmap_off_reason,
     .count = count_mmap,
     .handle = handle_mmap,
     .is_profile = true,
     .sample_types = OF_HEAP " resident_space"},
    {.name = "mutex",
     .meaning = "Who held the locks that others waited for",
     .description =
         "Stack traces of holders of contended mutexes, where they released them. " PARAMETERS ".",
     .off_reason = mutex_off_reason,
     .count = count_mutex,
     .handle = handle_mutex,
     .is_profile = true,
     .sample_types = OF_WAITS},
    {.name = "peak",
     .meaning = "What the memory in use consisted of when there was most of it",
     .description = "A sampling of memory allocations of objects that were live at the heap's "
                    "highest moment since the start, or since reset=1, which gives the peak up to "
                    "now and begins anew. debug=1 gives text.",
     .off_reason = heap_off_reason,
     .count = count_heap,
     .handle = handle_peak,
     .is_profile = true,
     .has_no_delta = true,
     .sample_types = OF_HEAP},
    {.name = "profile",
     .meaning = "Where CPU time goes",
     .description = "CPU profile. You can specify the duration in the seconds GET parameter, and "
                    "samples a second in hz (1 to 1000).",
     .off_reason = cpu_profile_off_reason,
     .handle = handle_profile,
     .is_recorded = true,
     .sample_types = "samples cpu"},
    {.name = "rates", .meaning = NULL, .handle = handle_rates, .accepts_post = true},
    {.name = "symbol",
     .meaning = "Names for program counters",
     .description =
         "Maps given program counters (0xA+0xB, in the query or in a POST body) to function names",
     .handle = handle_symbol,
     .accepts_post = true},
    {.name = "thread", .meaning = NULL, .description = "", THREADS},
    {.name = "threadcreate",
     .meaning = "Where threads were created",
     .description = "Stack traces that led to the creation of new OS threads",
     .count = count_threads_created,
     .handle = handle_threadcreate,
     .is_profile = true,
     .sample_types = "threadcreate"},
    {.name = "trace",
     .meaning = "What every thread did when: ran, waited, was woken",
     .description = "A trace of execution of the current program, for go tool trace. You can "
                    "specify the duration in the seconds GET parameter (1, fractions too), CPU "
                    "samples a second in hz (100; 0: none).",
     .handle = handle_trace,
     .is_trace = true},
    {.name = "wall",
     .meaning = "Where threads spend their time, waiting included",
     .description = "Wall-clock profile, also at /debug/fgprof. seconds (30) and looks a second in "
                    "hz (20); off=1 leaves out what runs, idle=0 threads that never moved.",
     .handle = handle_wall,
     .is_recorded = true,
     .sample_types = "samples wall"},
};

const struct route *routes_all(size_t *count) {
  *count = sizeof routes / sizeof *routes;
  return routes;
}

bool route_has_view(const struct route *route) { return route->is_profile || route->is_recorded; }

const char *route_off_reason(const struct route *route) {
  return route->off_reason ? route->off_reason() : NULL;
}

/* "/", "/pid/N" and "/pid/N/", and a process that is not here. */
static void handle_process(const struct http_request *request, int pid) {
  char text[64];
  snprintf(text, sizeof text, "no process %d under the agent on this port", pid);
  if (pid) http_respond_error(request->response, 404, text);
  else if (*request->prefix) respond_redirect(request, request->prefix, 302, "Found");
  else process_list_respond(request);
}

/* Pages for people below /debug/pprof/; false: it is none. */
static bool handle_view(const struct http_request *request, const char *name) {
  static const char views[] = "view/", assets[] = "assets/";
  if (strncmp(name, assets, sizeof assets - 1) == 0) {
    page_asset_respond(request, name + sizeof assets - 1);
    return true;
  }
  if (strncmp(name, views, sizeof views - 1) != 0) return false;
  for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
    if (!route_has_view(&routes[i]) || strcmp(name + sizeof views - 1, routes[i].name) != 0)
      continue;
    view_page_respond(request);
    return true;
  }
  return false;
}

/* Below /tree/debug/pprof/. */
static void handle_tree_path(const struct http_request *request, const char *name) {
  if (handle_view(request, name)) return;
  for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
    if (route_has_view(&routes[i]) && strcmp(name, routes[i].name) == 0)
      return handle_tree(request, &routes[i]);
  http_respond_error(request->response, 404, "Unknown profile");
}

void routes_handle(const struct http_request *request) {
  static const char tree[] = "/tree" PREFIX;
  const char *path = request->path, *rest;
  bool post = strcmp(request->method, "POST") == 0;
  int pid = *request->prefix ? 0 : http_path_process(path, &rest);
  if (pid || (strcmp(path, "/") == 0 && !post)) return handle_process(request, pid);
  if (strncmp(path, tree, sizeof tree - 1) == 0 && !post && !*request->prefix)
    return handle_tree_path(request, path + sizeof tree - 1);
  if (strcmp(path, "/debug/pprof") == 0)
    return respond_redirect(request, request->prefix, 301, "Moved Permanently");
  if (strcmp(path, "/debug/fgprof") == 0) path = PREFIX "wall";
  if (strncmp(path, PREFIX, strlen(PREFIX)) != 0)
    return http_respond_error(request->response, 404, "404 page not found");
  const char *name = path + strlen(PREFIX);
  if (strcmp(name, "deadlock") == 0) name = "goroutineleak";
  if (!*name && !post) return handle_index(request);
  if (!post && handle_view(request, name)) return;
  for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
    if (strcmp(name, routes[i].name) != 0) continue;
    if (post && !routes[i].accepts_post) break;
    return routes[i].handle(request, &routes[i]);
  }
  if (post) http_respond_error(request->response, 405, "only symbol and rates take a POST");
  else http_respond_error(request->response, 404, "Unknown profile");
}

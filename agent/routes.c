#include "routes.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "../shim/heap_status.h"
#include "../shim/heap_table.h"
#include "agent_memory.h"
#include "heap_profile.h"
#include "process_info.h"
#include "query.h"
#include "symbol_lookup.h"

#define PREFIX "/debug/pprof/"
#define TEXT_PLAIN "text/plain; charset=utf-8"
#define TEXT_HTML "text/html; charset=utf-8"

enum {
  MAX_DELTA_SECONDS = 3600,
  MAX_DELTAS = 4, /* at once: each holds a snapshot and one of the server's workers */
  PARAMETER_MAX = 64,
  REDIRECT_QUERY_MAX = 2048
};

/* ---- responses -------------------------------------------------------------------------------------------------------------- */

/* Begins the response with its first bytes, so that what fails before them can still become an error. */
struct response_sink {
  struct byte_sink base;
  struct http_response *response;
  const char *content_type, *headers;
  bool begun;
};

static bool response_sink_write(struct byte_sink *base, const void *bytes, size_t size) {
  struct response_sink *sink = (struct response_sink *)base;
  if (!sink->begun) {
    sink->begun = true;
    if (!http_respond_begin(sink->response, 200, sink->content_type, sink->headers, -1)) return false;
  }
  return http_respond_write(sink->response, bytes, size);
}

static struct response_sink response_sink_to(const struct http_request *request, const char *content_type, const char *headers) {
  return (struct response_sink){{response_sink_write}, request->response, content_type, headers, false};
}

/* A body that broke off half-way is not ended: the client must not take it for a whole one. */
static void response_sink_end(struct response_sink *sink, bool complete) {
  if (complete && sink->begun) http_respond_end(sink->response);
  else if (!sink->begun) http_respond_error(sink->response, 500, "failed to collect profile");
}

static void respond_whole(const struct http_request *request, int status, const char *content_type, const char *headers,
                          const void *body, size_t size) {
  if (http_respond_begin(request->response, status, content_type, headers, (long long)size) &&
      http_respond_write(request->response, body, size))
    http_respond_end(request->response);
}

static bool is_head(const struct http_request *request) { return strcmp(request->method, "HEAD") == 0; }

static void respond_redirect(const struct http_request *request, int status, const char *status_text) {
  char body[128], location[REDIRECT_QUERY_MAX + 64];
  const char *query = request->query;
  bool keep = *query && strlen(query) <= REDIRECT_QUERY_MAX;
  for (const char *c = query; *c; c++) keep = keep && *c > ' ' && *c < 0x7f; /* nothing that could end the header */
  snprintf(location, sizeof location, "Location: " PREFIX "%s%s\r\n", keep ? "?" : "", keep ? query : "");
  int size = snprintf(body, sizeof body, "<a href=\"" PREFIX "\">%s</a>.\n\n", status_text);
  respond_whole(request, status, TEXT_HTML, location, body, (size_t)size);
}

/* ---- parameters ------------------------------------------------------------------------------------------------------------- */

/* strconv.Atoi with its error ignored: 0 when it is no number, clamped when it is too large. */
static int64_t integer_parameter(const struct http_request *request, const char *key) {
  char text[PARAMETER_MAX];
  int64_t value = 0;
  if (query_value(request->query, key, text, sizeof text) == QUERY_FOUND) parse_int(text, &value);
  return value;
}

enum delta { DELTA_NO, DELTA_YES, DELTA_REFUSED };

/* wire.md's checks in their order; refused: the error has been sent. */
static enum delta delta_parameters(const struct http_request *request, int64_t *seconds) {
  char text[PARAMETER_MAX];
  enum query_result result = query_value(request->query, "seconds", text, sizeof text);
  if (result == QUERY_ABSENT || (result == QUERY_FOUND && !*text)) return DELTA_NO;
  if (result == QUERY_TOO_LONG || !parse_int(text, seconds) || *seconds <= 0) {
    http_respond_error(request->response, 400, "invalid value for \"seconds\" - must be a positive integer");
    return DELTA_REFUSED;
  }
  if (integer_parameter(request, "debug") > 0) {
    http_respond_error(request->response, 400, "seconds and debug params are incompatible");
    return DELTA_REFUSED;
  }
  if (*seconds > MAX_DELTA_SECONDS) {
    http_respond_error(request->response, 400, "invalid value for \"seconds\" - must not exceed 3600");
    return DELTA_REFUSED;
  }
  return DELTA_YES;
}

/* ---- heap and allocs --------------------------------------------------------------------------------------------------------- */

static void send_heap(const struct http_request *request, const struct route *route, const struct heap_snapshot *before, bool text) {
  char headers[96];
  snprintf(headers, sizeof headers, "Content-Disposition: attachment; filename=\"%s%s\"\r\n", route->name, before ? "-delta" : "");
  struct response_sink sink = text ? response_sink_to(request, TEXT_PLAIN, NULL)
                                   : response_sink_to(request, "application/octet-stream", headers);
  if (is_head(request)) { /* the same headers, without the work (and without the wait) */
    sink.begun = http_respond_begin(sink.response, 200, sink.content_type, sink.headers, -1);
    if (sink.begun) http_respond_end(sink.response);
    return;
  }
  struct heap_snapshot *now = heap_snapshot_take();
  struct profile *profile =
      now ? heap_profile_build(route->name, before, now, text ? HEAP_PROFILE_AS_SAMPLED : HEAP_PROFILE_SCALED) : NULL;
  heap_snapshot_release(now);
  bool ok = profile && (text ? profile_encode_text(profile, &sink.base) : profile_encode_proto(profile, &sink.base));
  profile_release(profile);
  response_sink_end(&sink, ok);
}

static int64_t monotonic_nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void send_heap_delta(const struct http_request *request, const struct route *route, int64_t seconds) {
  static _Atomic int running;
  if (atomic_fetch_add_explicit(&running, 1, memory_order_relaxed) >= MAX_DELTAS) {
    http_respond_error(request->response, 503, "too many profiles with a seconds parameter are running: at most 4 at once");
  } else {
    int64_t deadline = monotonic_nanoseconds() + seconds * INT64_C(1000000000);
    struct heap_snapshot *before = heap_snapshot_take();
    if (!before) http_respond_error(request->response, 500, "failed to collect profile");
    else if (!is_head(request) && !http_wait(request->response, deadline)) http_respond_error(request->response, 500, "context canceled");
    else send_heap(request, route, before, false);
    heap_snapshot_release(before);
  }
  atomic_fetch_sub_explicit(&running, 1, memory_order_relaxed);
}

static void handle_heap(const struct http_request *request, const struct route *route) {
  int64_t seconds;
  enum delta delta = delta_parameters(request, &seconds);
  if (delta == DELTA_REFUSED) return;
  const char *off = route_off_reason(route);
  if (off && heap_bucket_count() == 0) { /* an empty profile would look like a program without memory */
    char text[512];
    snprintf(text, sizeof text, "%s profiling is off: %s", route->name, off);
    http_respond_error(request->response, 503, text);
    return;
  }
  /* gc= needs nothing here: the tables hold nothing back, and the host's allocator is not ours to call. */
  if (delta == DELTA_YES) send_heap_delta(request, route, seconds);
  else send_heap(request, route, NULL, integer_parameter(request, "debug") > 0);
}

static uint64_t count_heap(void) { return heap_bucket_count(); }

/* ---- the others -------------------------------------------------------------------------------------------------------------- */

static void handle_cmdline(const struct http_request *request, const struct route *route) {
  (void)route;
  size_t size;
  char *text = process_command_line(&size);
  if (text) respond_whole(request, 200, TEXT_PLAIN, NULL, text, size);
  else http_respond_error(request->response, 500, "the command line cannot be read: no memory, descriptors or /proc");
  agent_free(text);
}

static void handle_symbol(const struct http_request *request, const struct route *route) {
  (void)route;
  bool post = strcmp(request->method, "POST") == 0;
  const char *addresses = post ? request->body : request->query;
  struct response_sink sink = response_sink_to(request, TEXT_PLAIN, NULL);
  response_sink_end(&sink, symbol_lookup(addresses, post ? request->body_size : strlen(addresses), &sink.base));
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
  struct response_sink sink = response_sink_to(
      request, TEXT_HTML,
      "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
      "frame-ancestors 'none'\r\n");
  if (text) text_sink_start(text, &sink.base);
  response_sink_end(&sink, text && index_page_write(text, http_request_header(request, "Host")));
  agent_free(text);
}

static const char *not_built(void) { return "not in this version of the agent"; }

static void handle_not_built(const struct http_request *request, const struct route *route) {
  char text[256];
  snprintf(text, sizeof text, "%s is not available: %s", route->name, not_built());
  http_respond_error(request->response, 501, text);
}

/* ---- the table --------------------------------------------------------------------------------------------------------------- */

#define HEAP_PARAMETERS "debug=1 gives text; seconds=N gives what changed in the next N seconds"
#define NOT_BUILT .off_reason = not_built, .handle = handle_not_built

static const struct route routes[] = {
    {.name = "allocs", .meaning = "Where memory was allocated since the program started, freed or not",
     .description = "A sampling of all past memory allocations. " HEAP_PARAMETERS ".", .off_reason = heap_off_reason,
     .count = count_heap, .handle = handle_heap, .is_profile = true},
    {.name = "block", .meaning = "Where threads waited for locks, conditions and semaphores",
     .description = "Stack traces that led to blocking on synchronization primitives", .is_profile = true, NOT_BUILT},
    {.name = "cmdline", .meaning = "The command line of this program",
     .description = "The command line invocation of the current program, arguments separated by NUL", .handle = handle_cmdline},
    {.name = "goroutine", .meaning = "Where every thread is now",
     .description = "Stack traces of all current threads, under the name that Go's clients know", .is_profile = true, NOT_BUILT},
    {.name = "health", .meaning = "The agent's own state: what is on, what was lost, what it costs",
     .description = "JSON: version, configuration, loss counters, table occupancy, the agent's memory and CPU time",
     .handle = handle_health},
    {.name = "heap", .meaning = "Where the memory that is in use now was allocated",
     .description = "A sampling of memory allocations of live objects. " HEAP_PARAMETERS "; gc=1 is accepted, no collector runs.",
     .off_reason = heap_off_reason, .count = count_heap, .handle = handle_heap, .is_profile = true},
    {.name = "mutex", .meaning = "Who held the locks that others waited for",
     .description = "Stack traces of holders of contended mutexes", .is_profile = true, NOT_BUILT},
    {.name = "profile", .meaning = "Where CPU time goes",
     .description = "CPU profile. You can specify the duration in the seconds GET parameter.", NOT_BUILT},
    {.name = "symbol", .meaning = "Names for program counters",
     .description = "Maps given program counters (0xA+0xB, in the query or in a POST body) to function names",
     .handle = handle_symbol, .accepts_post = true},
    {.name = "thread", .meaning = NULL, .description = "", .is_profile = true, NOT_BUILT},
    {.name = "threadcreate", .meaning = "Where threads were created",
     .description = "Stack traces that led to the creation of new OS threads", .is_profile = true, NOT_BUILT},
    {.name = "trace", .meaning = "What happened when", .description = "A trace of execution of the current program", NOT_BUILT},
};

const struct route *routes_all(size_t *count) {
  *count = sizeof routes / sizeof *routes;
  return routes;
}

const char *route_off_reason(const struct route *route) { return route->off_reason ? route->off_reason() : NULL; }

void routes_handle(const struct http_request *request) {
  const char *path = request->path;
  if (strcmp(path, "/") == 0) return respond_redirect(request, 302, "Found");
  if (strcmp(path, "/debug/pprof") == 0) return respond_redirect(request, 301, "Moved Permanently");
  if (strncmp(path, PREFIX, strlen(PREFIX)) != 0) return http_respond_error(request->response, 404, "404 page not found");
  const char *name = path + strlen(PREFIX);
  bool post = strcmp(request->method, "POST") == 0;
  if (!*name && !post) return handle_index(request);
  for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
    if (strcmp(name, routes[i].name) != 0) continue;
    if (post && !routes[i].accepts_post) break;
    return routes[i].handle(request, &routes[i]);
  }
  if (post) http_respond_error(request->response, 405, "only symbol takes a POST");
  else http_respond_error(request->response, 404, "Unknown profile");
}

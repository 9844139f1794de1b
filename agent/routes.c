#include "routes.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "../shim/config.h"
#include "../shim/cpu_sampling.h"
#include "../shim/heap_status.h"
#include "../shim/heap_table.h"
#include "../shim/threadcreate_table.h"
#include "agent_memory.h"
#include "cpu_profile.h"
#include "heap_profile.h"
#include "process_info.h"
#include "profile_delta.h"
#include "query.h"
#include "symbol_lookup.h"
#include "thread_dump.h"
#include "thread_list.h"
#include "thread_profile.h"

#define PREFIX "/debug/pprof/"
#define TEXT_PLAIN "text/plain; charset=utf-8"
#define TEXT_HTML "text/html; charset=utf-8"

enum {
  MAX_DELTA_SECONDS = 3600,
  MAX_DELTAS = 4, /* at once: each holds a snapshot and one of the server's workers */
  PARAMETER_MAX = 64,
  HEADERS_MAX = 96,
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

/* ---- profiles ---------------------------------------------------------------------------------------------------------------- */

static struct response_sink profile_sink(const struct http_request *request, const struct route *route, bool delta, bool text,
                                         char *headers, size_t size) {
  snprintf(headers, size, "Content-Disposition: attachment; filename=\"%s%s\"\r\n", route->name, delta ? "-delta" : "");
  return text ? response_sink_to(request, TEXT_PLAIN, NULL) : response_sink_to(request, "application/octet-stream", headers);
}

/* The headers alone, without the work and without the wait. */
static void send_profile_head(const struct http_request *request, const struct route *route, bool delta, bool text) {
  char headers[HEADERS_MAX];
  struct response_sink sink = profile_sink(request, route, delta, text, headers, sizeof headers);
  if (http_respond_begin(sink.response, 200, sink.content_type, sink.headers, -1)) http_respond_end(sink.response);
}

/* Releases the profile; NULL: it could not be collected. */
static void send_profile(const struct http_request *request, const struct route *route, struct profile *profile, bool delta, bool text) {
  char headers[HEADERS_MAX];
  struct response_sink sink = profile_sink(request, route, delta, text, headers, sizeof headers);
  bool ok = profile && (text ? profile_encode_text(profile, &sink.base) : profile_encode_proto(profile, &sink.base));
  profile_release(profile);
  response_sink_end(&sink, ok);
}

static int64_t monotonic_nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static _Atomic int running_deltas;

/* False: too many are running, which has been said. */
static bool begin_delta(const struct http_request *request) {
  if (atomic_fetch_add_explicit(&running_deltas, 1, memory_order_relaxed) < MAX_DELTAS) return true;
  atomic_fetch_sub_explicit(&running_deltas, 1, memory_order_relaxed);
  http_respond_error(request->response, 503, "too many profiles with a seconds parameter are running: at most 4 at once");
  return false;
}

static void end_delta(void) { atomic_fetch_sub_explicit(&running_deltas, 1, memory_order_relaxed); }

/* Waits for the second moment of a delta that started at `start`; false: the client is gone, or there is no first one; said. */
static bool wait_for_delta(const struct http_request *request, bool have_first, int64_t start, int64_t seconds) {
  bool waited = have_first && http_wait(request->response, start + seconds * INT64_C(1000000000));
  if (!waited) http_respond_error(request->response, 500, have_first ? "context canceled" : "failed to collect profile");
  return waited;
}

/* ---- heap and allocs --------------------------------------------------------------------------------------------------------- */

static struct profile *collect_heap(const struct route *route, const struct heap_snapshot *before, bool text) {
  struct heap_snapshot *now = heap_snapshot_take();
  if (!now) return NULL;
  struct profile *profile = heap_profile_build(route->name, before, now, text ? HEAP_PROFILE_AS_SAMPLED : HEAP_PROFILE_SCALED);
  heap_snapshot_release(now);
  return profile;
}

static void send_heap_delta(const struct http_request *request, const struct route *route, int64_t seconds) {
  if (!begin_delta(request)) return;
  int64_t start = monotonic_nanoseconds();
  struct heap_snapshot *before = heap_snapshot_take();
  if (wait_for_delta(request, before, start, seconds)) send_profile(request, route, collect_heap(route, before, false), true, false);
  heap_snapshot_release(before);
  end_delta();
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
  bool text = integer_parameter(request, "debug") > 0;
  if (is_head(request)) send_profile_head(request, route, delta == DELTA_YES, text);
  else if (delta == DELTA_YES) send_heap_delta(request, route, seconds);
  else send_profile(request, route, collect_heap(route, NULL, text), false, text);
}

static uint64_t count_heap(void) { return heap_bucket_count(); }

/* ---- goroutine, its native name thread, and threadcreate --------------------------------------------------------------------- */

static struct profile *collect_threads(const struct http_request *request) {
  struct thread_dump *dump = thread_dump_take();
  struct profile *profile = dump ? thread_profile_build(dump, integer_parameter(request, "tid") > 0) : NULL;
  thread_dump_release(dump);
  return profile;
}

static struct profile *collect_threadcreate(const struct http_request *request) {
  (void)request;
  return threadcreate_profile_build();
}

static void send_thread_texts(const struct http_request *request) {
  struct thread_dump *dump = thread_dump_take();
  struct response_sink sink = response_sink_to(request, TEXT_PLAIN, NULL);
  response_sink_end(&sink, dump && goroutine_text_write(dump, &sink.base));
  thread_dump_release(dump);
}

static void send_count_delta(const struct http_request *request, const struct route *route, int64_t seconds,
                             struct profile *(*collect)(const struct http_request *)) {
  if (!begin_delta(request)) return;
  int64_t start = monotonic_nanoseconds();
  struct profile *before = collect(request);
  if (wait_for_delta(request, before, start, seconds)) {
    struct profile *now = collect(request);
    if (now && !profile_subtract(now, before)) { /* which owns before, too */
      profile_release(now);
      now = NULL;
    } else if (!now) {
      profile_release(before);
    }
    send_profile(request, route, now, true, false);
  } else {
    profile_release(before);
  }
  end_delta();
}

static void handle_counts(const struct http_request *request, const struct route *route,
                          struct profile *(*collect)(const struct http_request *), bool has_texts) {
  int64_t seconds, debug = integer_parameter(request, "debug");
  enum delta delta = delta_parameters(request, &seconds);
  if (delta == DELTA_REFUSED) return;
  if (is_head(request)) send_profile_head(request, route, delta == DELTA_YES, debug > 0);
  else if (delta == DELTA_YES) send_count_delta(request, route, seconds, collect);
  else if (has_texts && debug >= 2) send_thread_texts(request);
  else send_profile(request, route, collect(request), false, debug > 0);
}

static void handle_threads(const struct http_request *request, const struct route *route) {
  handle_counts(request, route, collect_threads, true);
}

static void handle_threadcreate(const struct http_request *request, const struct route *route) {
  handle_counts(request, route, collect_threadcreate, false);
}

static uint64_t count_threads(void) {
  struct thread_ids ids;
  if (!thread_list_read(&ids)) return 0;
  uint64_t count = ids.count;
  thread_list_release(&ids);
  return count;
}

static uint64_t count_threads_created(void) {
  uint64_t created, ended;
  threadcreate_totals(&created, &ended);
  return created;
}

/* ---- CPU --------------------------------------------------------------------------------------------------------------------- */

/* False: an error has been sent. */
static bool rate_parameter(const struct http_request *request, uint32_t *hz) {
  char text[PARAMETER_MAX];
  int64_t value = (int64_t)config.cpuprofile_rate;
  enum query_result result = query_value(request->query, "hz", text, sizeof text);
  bool given = result == QUERY_TOO_LONG || (result == QUERY_FOUND && *text);
  if (given && (result == QUERY_TOO_LONG || !parse_int(text, &value) || value < 1 || value > CPU_SAMPLING_MAX_HZ)) {
    http_respond_error(request->response, 400, "invalid value for \"hz\" - must be an integer from 1 to 1000");
    return false;
  }
  *hz = (uint32_t)value;
  return true;
}

static void send_cpu_profile(const struct http_request *request, const struct route *route, int64_t seconds, uint32_t hz) {
  struct profile *profile;
  const char *reason;
  char text[512];
  switch (cpu_profile_collect(request->response, seconds, hz, &profile, &reason)) {
    case CPU_PROFILE_DONE: return send_profile(request, route, profile, false, false);
    case CPU_PROFILE_CANCELED: return http_respond_error(request->response, 500, "context canceled");
    case CPU_PROFILE_TOO_MANY:
      return http_respond_error(request->response, 503, "too many CPU profiles are running: at most 4 at once");
    case CPU_PROFILE_REFUSED:
      snprintf(text, sizeof text, "Could not enable CPU profiling: %s", reason);
      return http_respond_error(request->response, 500, text);
    case CPU_PROFILE_NO_MEMORY: break;
  }
  http_respond_error(request->response, 500, "failed to collect profile");
}

static void handle_profile(const struct http_request *request, const struct route *route) {
  int64_t seconds = integer_parameter(request, "seconds");
  uint32_t hz;
  if (!rate_parameter(request, &hz)) return;
  if (seconds <= 0 || seconds == INT64_MAX) seconds = CPU_PROFILE_DEFAULT_SECONDS; /* as Go, also for what is no number */
  if (seconds > CPU_PROFILE_MAX_SECONDS)
    http_respond_error(request->response, 503, "a CPU profile takes at most 3600 seconds: ask for fewer");
  else if (is_head(request)) send_profile_head(request, route, false, false);
  else send_cpu_profile(request, route, seconds, hz);
}
_Static_assert(CPU_PROFILE_MAX_SECONDS == 3600 && CPU_PROFILE_MAX_CLIENTS == 4 && MAX_DELTA_SECONDS == 3600 && MAX_DELTAS == 4,
               "the texts above");

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

#define THREADS .count = count_threads, .handle = handle_threads, .is_profile = true
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
     .description = "Stack traces of all current threads, under the name that Go's clients know. debug=1 gives text, grouped; debug=2 one "
                    "record a thread, as Go prints an unrecovered panic; tid=1 keeps threads apart.", THREADS},
    {.name = "health", .meaning = "The agent's own state: what is on, what was lost, what it costs",
     .description = "JSON: version, configuration, loss counters, table occupancy, the agent's memory and CPU time",
     .handle = handle_health},
    {.name = "heap", .meaning = "Where the memory that is in use now was allocated",
     .description = "A sampling of memory allocations of live objects. " HEAP_PARAMETERS "; gc=1 is accepted, no collector runs.",
     .off_reason = heap_off_reason, .count = count_heap, .handle = handle_heap, .is_profile = true},
    {.name = "mutex", .meaning = "Who held the locks that others waited for",
     .description = "Stack traces of holders of contended mutexes", .is_profile = true, NOT_BUILT},
    {.name = "profile", .meaning = "Where CPU time goes",
     .description = "CPU profile. You can specify the duration in the seconds GET parameter, and samples a second in hz (1 to 1000).",
     .off_reason = cpu_profile_off_reason, .handle = handle_profile},
    {.name = "symbol", .meaning = "Names for program counters",
     .description = "Maps given program counters (0xA+0xB, in the query or in a POST body) to function names",
     .handle = handle_symbol, .accepts_post = true},
    {.name = "thread", .meaning = NULL, .description = "", THREADS},
    {.name = "threadcreate", .meaning = "Where threads were created",
     .description = "Stack traces that led to the creation of new OS threads", .count = count_threads_created,
     .handle = handle_threadcreate, .is_profile = true},
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

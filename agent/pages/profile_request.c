#include "profile_request.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "shim/base/duration.h"
#include "shim/cpu/cpu_sampling.h"
#include "agent/runtime/agent_thread.h"
#include "agent/runtime/process_info.h"
#include "agent/profiles/call_tree_forms.h"
#include "agent/profiles/profile_delta.h"
#include "agent/profiles/profile_fold.h"
#include "agent/http/response.h"

enum { HEADERS_MAX = 96, OFF_TEXT_MAX = 512, LEAST_MAX_BYTES = 10000 };

/* ---- parameters ---- */

int64_t integer_parameter(const struct http_request *request, const char *key) {
  char text[PARAMETER_MAX];
  int64_t value = 0;
  if (query_value(request->query, key, text, sizeof text) == QUERY_FOUND) parse_int(text, &value);
  return value;
}

enum query_result given_parameter(const struct http_request *request, const char *key,
                                  char text[PARAMETER_MAX]) {
  enum query_result result = query_value(request->query, key, text, PARAMETER_MAX);
  return result == QUERY_FOUND && !*text ? QUERY_ABSENT : result;
}

bool duration_parameter(const struct http_request *request, const char *key, double *seconds,
                        bool *given) {
  char text[PARAMETER_MAX], error[128];
  enum query_result result = given_parameter(request, key, text);
  *given = result != QUERY_ABSENT;
  if (!*given || (result == QUERY_FOUND && parse_duration(text, seconds))) return true;
  snprintf(error, sizeof error,
           "invalid value for \"%s\" - must be a duration such as 90s, 10m or 2h", key);
  http_respond_error(request->response, 400, error);
  return false;
}

bool rate_parameter(const struct http_request *request, uint32_t least, uint32_t usual,
                    uint32_t *hz) {
  char text[PARAMETER_MAX], error[128];
  int64_t value = usual;
  enum query_result result = given_parameter(request, "hz", text);
  bool is_given = result != QUERY_ABSENT;
  if (is_given && (result == QUERY_TOO_LONG || !parse_int(text, &value) || value < least ||
                   value > CPU_SAMPLING_MAX_HZ)) {
    snprintf(error, sizeof error,
             "invalid value for \"hz\" - must be an integer from %" PRIu32 " to %d", least,
             CPU_SAMPLING_MAX_HZ);
    http_respond_error(request->response, 400, error);
    return false;
  }
  *hz = (uint32_t)value;
  return true;
}

enum delta delta_parameters(const struct http_request *request, int64_t *seconds) {
  char text[PARAMETER_MAX];
  enum query_result result = given_parameter(request, "seconds", text);
  if (result == QUERY_ABSENT) return DELTA_NO;
  if (result == QUERY_TOO_LONG || !parse_int(text, seconds) || *seconds <= 0) {
    http_respond_error(request->response, 400,
                       "invalid value for \"seconds\" - must be a positive integer");
    return DELTA_REFUSED;
  }
  if (integer_parameter(request, "debug") > 0) {
    http_respond_error(request->response, 400, "seconds and debug params are incompatible");
    return DELTA_REFUSED;
  }
  if (*seconds > MAX_DELTA_SECONDS) {
    http_respond_error(request->response, 400,
                       "invalid value for \"seconds\" - must not exceed 3600");
    return DELTA_REFUSED;
  }
  return DELTA_YES;
}

/* Whether the name is one of those in `types`, by a space apart. */
static bool is_among(const char *types, const char *name) {
  size_t size = strlen(name);
  for (const char *type = types; type; type = strchr(type, ' ')) {
    if (*type == ' ') type++;
    if (strncmp(type, name, size) == 0 && (type[size] == ' ' || !type[size])) return true;
  }
  return false;
}

/* False: sample_index= names no sample type of the route's profiles, which has been said. */
static bool names_sample_type(const struct http_request *request, const struct route *route) {
  char name[PARAMETER_MAX], text[3 * PARAMETER_MAX];
  enum query_result result = given_parameter(request, "sample_index", name);
  if (result == QUERY_ABSENT) return true;
  if (result == QUERY_FOUND && !strchr(name, ' ') && is_among(route->sample_types, name))
    return true;
  snprintf(text, sizeof text, "invalid value for \"sample_index\" - the profile has %s",
           route->sample_types);
  http_respond_error(request->response, 400, text);
  return false;
}

/* max_bytes=: how large the profile may be; 0: as it is. False: no number that can be. */
static bool most_bytes(const struct http_request *request, size_t *most) {
  char text[PARAMETER_MAX];
  int64_t value = 0;
  *most = 0;
  enum query_result result = given_parameter(request, "max_bytes", text);
  if (result == QUERY_ABSENT) return true;
  if (result != QUERY_FOUND || !parse_int(text, &value) || value < LEAST_MAX_BYTES) return false;
  *most = (size_t)value;
  return true;
}

_Static_assert(LEAST_MAX_BYTES == 10000, "the text below");
enum profile_form form_parameter(const struct http_request *request, const struct route *route) {
  static const char names[][10] = {
      [FORM_JSON] = "json", [FORM_TOP] = "top", [FORM_COLLAPSED] = "collapsed"};
  char text[PARAMETER_MAX];
  enum query_result result = given_parameter(request, "format", text);
  bool debug = integer_parameter(request, "debug") > 0;
  size_t most;
  if (!most_bytes(request, &most)) {
    http_respond_error(request->response, 400,
                       "invalid value for \"max_bytes\" - must be an integer from 10000");
    return FORM_REFUSED;
  }
  if (result == QUERY_ABSENT) return debug ? FORM_TEXT : FORM_PROTO;
  if (debug) {
    http_respond_error(request->response, 400, "format and debug params are incompatible");
    return FORM_REFUSED;
  }
  for (int form = FORM_JSON; result == QUERY_FOUND && form < FORM_REFUSED; form++)
    if (strcmp(names[form], text) == 0)
      return names_sample_type(request, route) ? (enum profile_form)form : FORM_REFUSED;
  http_respond_error(request->response, 400,
                     "invalid value for \"format\" - must be json, top or collapsed");
  return FORM_REFUSED;
}

bool refuse_while_off(const struct http_request *request, const struct route *route) {
  const char *off = route_off_reason(route);
  if (!off || (route->count && route->count() > 0)) return false;
  char text[OFF_TEXT_MAX];
  snprintf(text, sizeof text, "%s profiling is off: %s", route->name, off);
  http_respond_error(request->response, 503, text);
  return true;
}

/* ---- answers ---- */

static struct response_sink profile_sink(const struct http_request *request,
                                         const struct route *route, bool delta,
                                         enum profile_form form, char *headers, size_t size) {
  snprintf(headers, size, "Content-Disposition: attachment; filename=\"%s%s\"\r\n", route->name,
           delta ? "-delta" : "");
  if (form == FORM_PROTO) return response_sink_to(request, "application/octet-stream", headers);
  return response_sink_to(request, form == FORM_JSON ? "application/json" : TEXT_PLAIN, NULL);
}

void send_profile_head(const struct http_request *request, const struct route *route, bool delta,
                       enum profile_form form) {
  char headers[HEADERS_MAX];
  struct response_sink sink = profile_sink(request, route, delta, form, headers, sizeof headers);
  if (http_respond_begin(sink.response, 200, sink.content_type, sink.headers, -1))
    http_respond_end(sink.response);
}

static struct call_tree_options tree_options(const struct http_request *request,
                                             const struct profile *profile,
                                             enum profile_form form) {
  struct call_tree_options options = {.value = profile_default_value(profile),
                                      .node_count = form == FORM_JSON ? CALL_TREE_NODES : 0};
  char name[PARAMETER_MAX];
  if (query_value(request->query, "sample_index", name, sizeof name) == QUERY_FOUND && *name)
    for (uint32_t v = 0; v < profile->value_count; v++)
      if (strcmp(profile->value_types[v].type, name) == 0) options.value = v;
  if (query_value(request->query, "nodecount", name, sizeof name) != QUERY_ABSENT) {
    int64_t count = integer_parameter(request, "nodecount");
    options.node_count = count > 0 ? (uint64_t)count : 0;
  }
  return options;
}

static bool encode(const struct profile *profile, enum profile_form form,
                   const struct call_tree_options *options, struct byte_sink *sink) {
  switch (form) {
    case FORM_TEXT: return profile_encode_text(profile, sink);
    case FORM_JSON: return call_tree_write_json(profile, options, sink);
    case FORM_TOP: return call_tree_write_top(profile, options, sink);
    case FORM_COLLAPSED: return call_tree_write_collapsed(profile, options, sink);
    case FORM_PROTO:
    case FORM_REFUSED: break;
  }
  return profile_encode_proto(profile, sink);
}

void send_profile(const struct http_request *request, const struct route *route,
                  struct profile *profile, bool delta, enum profile_form form) {
  char headers[HEADERS_MAX];
  struct response_sink sink = profile_sink(request, route, delta, form, headers, sizeof headers);
  struct process_identity process = {0};
  struct call_tree_options options = {0};
  if (profile && form >= FORM_JSON) {
    process_identity_read(&process);
    options = tree_options(request, profile, form);
    options.process = process.comm;
    options.pid = process.pid;
  }
  size_t most;
  bool ok = profile != NULL;
  if (ok && form == FORM_PROTO && most_bytes(request, &most) && most > 0)
    ok = profile_fold(profile, most);
  ok = ok && encode(profile, form, &options, &sink.base);
  profile_release(profile);
  response_sink_end(&sink, ok);
}

/* ---- deltas ---- */

static _Atomic int running_deltas;

bool begin_delta(const struct http_request *request) {
  if (atomic_fetch_add_explicit(&running_deltas, 1, memory_order_relaxed) < MAX_DELTAS) return true;
  atomic_fetch_sub_explicit(&running_deltas, 1, memory_order_relaxed);
  http_respond_error(request->response, 503,
                     "too many profiles with a seconds parameter are running: at most 4 at once");
  return false;
}
_Static_assert(MAX_DELTA_SECONDS == 3600 && MAX_DELTAS == 4, "the texts above");

void end_delta(void) { atomic_fetch_sub_explicit(&running_deltas, 1, memory_order_relaxed); }

bool wait_for_delta(const struct http_request *request, bool have_first, int64_t start,
                    int64_t seconds) {
  bool waited = have_first && http_wait(request->response, start + seconds * INT64_C(1000000000));
  if (!waited)
    http_respond_error(request->response, 500,
                       have_first ? "context canceled" : "failed to collect profile");
  return waited;
}

/* What changed since `before`, which is released in the end whatever happens. */
static struct profile *collect_change(const struct http_request *request, struct profile *before,
                                      profile_collector collect) {
  struct profile *now = collect(request);
  if (!now) {
    profile_release(before);
  } else if (!profile_subtract(now, before)) { /* which owns before, too */
    profile_release(now);
    now = NULL;
  }
  return now;
}

static void send_delta(const struct http_request *request, const struct route *route,
                       int64_t seconds, enum profile_form form, profile_collector collect) {
  if (!begin_delta(request)) return;
  int64_t start = agent_monotonic_nanoseconds();
  struct profile *before = collect(request);
  if (wait_for_delta(request, before, start, seconds))
    send_profile(request, route, collect_change(request, before, collect), true, form);
  else profile_release(before);
  end_delta();
}

void serve_profile(const struct http_request *request, const struct route *route,
                   profile_collector collect,
                   void (*send_records)(const struct http_request *request)) {
  int64_t seconds, debug = integer_parameter(request, "debug");
  enum profile_form form = form_parameter(request, route);
  if (form == FORM_REFUSED) return;
  enum delta delta = delta_parameters(request, &seconds);
  if (delta == DELTA_REFUSED || refuse_while_off(request, route)) return;
  if (request_is_head(request)) send_profile_head(request, route, delta == DELTA_YES, form);
  else if (delta == DELTA_YES) send_delta(request, route, seconds, form, collect);
  else if (debug >= 2 && send_records) send_records(request);
  else send_profile(request, route, collect(request), false, form);
}

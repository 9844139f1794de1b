#include "trace_routes.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "shim/base/config.h"
#include "agent/http/query.h"
#include "agent/http/response.h"
#include "agent/trace/chrome_trace.h"
#include "agent/trace/go_trace.h"
#include "agent/trace/go_trace_v2.h"
#include "agent/trace/perfetto_trace.h"
#include "agent/trace/trace_recording.h"
#include "profile_request.h"

/* ---- forms of the answer ---- */

static const struct trace_format {
  const char *name; /* format=; the first one is what a request without it gets */
  const char *content_type, *filename;
  bool (*encode)(const struct trace_log *log, struct byte_sink *sink);
} formats[] = {
    {"go", "application/octet-stream", "trace", go_trace_encode},
    {"go22", "application/octet-stream", "trace", go_trace_v2_write},
    {"perfetto", "application/octet-stream", "trace.pftrace", perfetto_trace_write},
    {"json", "application/json", "trace.json", chrome_trace_write},
};
enum { FORMATS = sizeof formats / sizeof *formats };

/* NULL: refused, which has been said. */
static const struct trace_format *format_parameter(const struct http_request *request) {
  char text[PARAMETER_MAX], error[256];
  enum query_result result = given_parameter(request, "format", text);
  if (result == QUERY_ABSENT) return &formats[0];
  for (int i = 0; i < FORMATS && result == QUERY_FOUND; i++)
    if (strcmp(formats[i].name, text) == 0) return &formats[i];
  size_t used = (size_t)snprintf(error, sizeof error, "invalid value for \"format\" - must be ");
  for (int i = 0; i < FORMATS; i++) {
    const char *before = i == 0 ? "" : i + 1 < FORMATS ? ", " : " or ";
    used += (size_t)snprintf(error + used, sizeof error - used, "%s%s", before, formats[i].name);
  }
  http_respond_error(request->response, 400, error);
  return NULL;
}

static struct response_sink sink_of(const struct http_request *request,
                                    const struct trace_format *format, char *headers, size_t size) {
  snprintf(headers, size, "Content-Disposition: attachment; filename=\"%s\"\r\n", format->filename);
  return response_sink_to(request, format->content_type, headers);
}

enum { HEADERS_MAX = 96 };

static void send_head(const struct http_request *request, const struct trace_format *format) {
  char headers[HEADERS_MAX];
  struct response_sink sink = sink_of(request, format, headers, sizeof headers);
  if (http_respond_begin(sink.response, 200, sink.content_type, sink.headers, -1))
    http_respond_end(sink.response);
}

static void refuse_last(const struct http_request *request) {
  char text[160];
  const char *reason = trace_recording_status().flight.off_reason;
  snprintf(text, sizeof text, "the flight recorder is off: %s",
           reason ? reason : "start the program with PPROFAGENT_FLIGHT=10s");
  http_respond_error(request->response, 500, text);
}

/* What is to be in the trace. */
struct wanted_trace {
  const struct trace_format *format;
  double seconds;
  bool last; /* that have just passed */
  struct trace_sampling sampling;
};

static void send_trace(const struct http_request *request, const struct wanted_trace *wanted) {
  struct trace_recording *recording;
  const struct trace_format *format = wanted->format;
  char headers[HEADERS_MAX];
  int64_t nanoseconds = (int64_t)(wanted->seconds * 1e9);
  switch (wanted->last ? trace_recording_take_last(nanoseconds, &recording)
                       : trace_recording_take(request->response, nanoseconds, wanted->sampling,
                                              &recording)) {
    case TRACE_DONE: {
      struct response_sink sink = sink_of(request, format, headers, sizeof headers);
      response_sink_end(&sink, format->encode(trace_recording_log(recording), &sink.base));
      return trace_recording_release(recording);
    }
    case TRACE_CANCELED: return http_respond_error(request->response, 500, "context canceled");
    case TRACE_TOO_MANY:
      return http_respond_error(request->response, 503,
                                "too many traces are running: at most 4 at once");
    case TRACE_NO_FLIGHT: return refuse_last(request);
    case TRACE_NO_MEMORY: break;
  }
  http_respond_error(request->response, 500, "failed to collect trace");
}
_Static_assert(TRACE_MAX_CLIENTS == 4 && TRACE_MAX_SECONDS == 3600, "the texts");

/* False: an error has been sent. */
static bool window_parameters(const struct http_request *request, struct wanted_trace *out) {
  char text[PARAMETER_MAX];
  if (!duration_parameter(request, "last", &out->seconds, &out->last)) return false;
  if (out->last) {
    bool has_seconds = given_parameter(request, "seconds", text) != QUERY_ABSENT;
    bool has_rate = given_parameter(request, "hz", text) != QUERY_ABSENT;
    if (has_seconds)
      http_respond_error(request->response, 400, "seconds and last params are incompatible");
    else if (has_rate)
      http_respond_error(request->response, 400, "hz and last params are incompatible");
    if (out->seconds > TRACE_MAX_SECONDS) out->seconds = TRACE_MAX_SECONDS; /* all there is */
    return !has_seconds && !has_rate;
  }
  bool is_number = query_value(request->query, "seconds", text, sizeof text) == QUERY_FOUND &&
                   parse_float(text, &out->seconds);
  if (!is_number || isnan(out->seconds) || out->seconds <= 0) out->seconds = 1; /* as Go */
  if (out->seconds <= TRACE_MAX_SECONDS) return true;
  http_respond_error(request->response, 503, "a trace takes at most 3600 seconds: ask for fewer");
  return false;
}

void handle_trace(const struct http_request *request, const struct route *route) {
  char text[PARAMETER_MAX];
  struct wanted_trace wanted = {.format = format_parameter(request)};
  (void)route;
  if (!wanted.format ||
      !rate_parameter(request, 0, (uint32_t)config.cpuprofile_rate, &wanted.sampling.hz) ||
      !window_parameters(request, &wanted))
    return;
  wanted.sampling.may_signal = given_parameter(request, "hz", text) != QUERY_ABSENT;
  if (wanted.last && !trace_recording_status().flight.runs) refuse_last(request);
  else if (request_is_head(request)) send_head(request, wanted.format);
  else send_trace(request, &wanted);
}

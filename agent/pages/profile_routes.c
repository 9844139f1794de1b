#include "profile_routes.h"

#include <stdio.h>

#include "shim/base/config.h"
#include "shim/cpu/cpu_sampling.h"
#include "shim/threads/threadcreate_table.h"
#include "agent/runtime/agent_thread.h"
#include "agent/profiles/contention_profile.h"
#include "agent/cpu/cpu_profile.h"
#include "profile_request.h"
#include "agent/http/query.h"
#include "agent/http/response.h"
#include "agent/threads/deadlocks.h"
#include "agent/threads/thread_dump.h"
#include "agent/threads/thread_list.h"
#include "agent/threads/thread_profile.h"
#include "agent/threads/wall_profile.h"

/* ---- goroutine, its native name thread, and threadcreate ---- */

static struct profile *collect_threads(const struct http_request *request) {
  struct thread_dump *dump = thread_dump_take();
  struct profile *profile =
      dump ? thread_profile_build(dump, integer_parameter(request, "tid") > 0) : NULL;
  thread_dump_release(dump);
  return profile;
}

static struct profile *collect_threadcreate(const struct http_request *request) {
  (void)request;
  return threadcreate_profile_build();
}

static void send_thread_records(const struct http_request *request) {
  struct thread_dump *dump = thread_dump_take();
  struct response_sink sink = response_sink_to(request, TEXT_PLAIN, NULL);
  response_sink_end(&sink, dump && goroutine_text_write(dump, &sink.base));
  thread_dump_release(dump);
}

void handle_threads(const struct http_request *request, const struct route *route) {
  serve_profile(request, route, collect_threads, send_thread_records);
}

static struct profile *collect_stuck(const struct http_request *request) {
  (void)request;
  struct thread_dump *dump = thread_dump_take();
  struct profile *profile = dump ? deadlock_profile_build(dump) : NULL;
  thread_dump_release(dump);
  return profile;
}

static void send_stuck_records(const struct http_request *request) {
  struct thread_dump *dump = thread_dump_take();
  struct response_sink sink = response_sink_to(request, TEXT_PLAIN, NULL);
  if (dump) thread_dump_keep_stuck(dump);
  response_sink_end(&sink, dump && goroutine_text_write(dump, &sink.base));
  thread_dump_release(dump);
}

void handle_deadlock(const struct http_request *request, const struct route *route) {
  serve_profile(request, route, collect_stuck, send_stuck_records);
}

uint64_t count_stuck(void) { return deadlocks_stuck_threads(); }

void handle_threadcreate(const struct http_request *request, const struct route *route) {
  serve_profile(request, route, collect_threadcreate, NULL);
}

uint64_t count_threads(void) {
  struct thread_ids ids;
  if (!thread_list_read(&ids)) return 0;
  uint64_t count = ids.count;
  thread_list_release(&ids);
  return count;
}

uint64_t count_threads_created(void) {
  uint64_t created, ended;
  threadcreate_totals(&created, &ended);
  return created;
}

/* ---- block and mutex ---- */

static struct profile *collect_block(const struct http_request *request) {
  (void)request;
  return contention_profile_build(CONTENTION_BLOCK);
}

static struct profile *collect_mutex(const struct http_request *request) {
  (void)request;
  return contention_profile_build(CONTENTION_MUTEX);
}

void handle_block(const struct http_request *request, const struct route *route) {
  serve_profile(request, route, collect_block, NULL);
}

void handle_mutex(const struct http_request *request, const struct route *route) {
  serve_profile(request, route, collect_mutex, NULL);
}

uint64_t count_block(void) { return contention_table_count_of(CONTENTION_BLOCK); }
uint64_t count_mutex(void) { return contention_table_count_of(CONTENTION_MUTEX); }

/* ---- CPU and wall clock ---- */

struct recording {
  int64_t seconds;
  uint32_t hz;
  enum profile_form form;
};

/* False: an error has been sent. */
static bool recording_parameters(const struct http_request *request, const struct route *route,
                                 int64_t usual_seconds, uint32_t usual_hz, const char *too_long,
                                 struct recording *out) {
  enum { LONGEST_SECONDS = 3600 };
  _Static_assert((int)LONGEST_SECONDS == (int)CPU_PROFILE_MAX_SECONDS &&
                     (int)LONGEST_SECONDS == (int)WALL_PROFILE_MAX_SECONDS,
                 "as too_long says");
  out->seconds = integer_parameter(request, "seconds");
  out->form = form_parameter(request, route);
  if (out->form == FORM_TEXT) out->form = FORM_PROTO; /* as Go: debug= says nothing here */
  if (out->form == FORM_REFUSED || !rate_parameter(request, 1, usual_hz, &out->hz)) return false;
  /* as Go, also for what is no number */
  if (out->seconds <= 0 || out->seconds == INT64_MAX) out->seconds = usual_seconds;
  if (out->seconds <= LONGEST_SECONDS) return true;
  http_respond_error(request->response, 503, too_long);
  return false;
}

static void send_cpu_profile(const struct http_request *request, const struct route *route,
                             const struct recording *recording) {
  struct profile *profile;
  const char *reason;
  char text[512];
  switch (cpu_profile_collect(request->response, recording->seconds, recording->hz, &profile,
                              &reason)) {
    case CPU_PROFILE_DONE: return send_profile(request, route, profile, false, recording->form);
    case CPU_PROFILE_CANCELED:
      return http_respond_error(request->response, 500, "context canceled");
    case CPU_PROFILE_TOO_MANY:
      return http_respond_error(request->response, 503,
                                "too many CPU profiles are running: at most 4 at once");
    case CPU_PROFILE_REFUSED:
      snprintf(text, sizeof text, "Could not enable CPU profiling: %s", reason);
      return http_respond_error(request->response, 500, text);
    case CPU_PROFILE_NO_MEMORY: break;
  }
  http_respond_error(request->response, 500, "failed to collect profile");
}

void handle_profile(const struct http_request *request, const struct route *route) {
  struct recording recording;
  if (!recording_parameters(request, route, CPU_PROFILE_DEFAULT_SECONDS,
                            (uint32_t)config.cpuprofile_rate,
                            "a CPU profile takes at most 3600 seconds: ask for fewer", &recording))
    return;
  if (request_is_head(request)) send_profile_head(request, route, false, recording.form);
  else send_cpu_profile(request, route, &recording);
}
_Static_assert(CPU_PROFILE_MAX_CLIENTS == 4, "the text above");

/* Whether key=0 stands there, as in idle=0. */
static bool is_zero(const struct http_request *request, const char *key) {
  char text[PARAMETER_MAX];
  int64_t value;
  return query_value(request->query, key, text, sizeof text) == QUERY_FOUND &&
         parse_int(text, &value) && value == 0;
}

static void send_wall(const struct http_request *request, const struct route *route,
                      const struct recording *recording) {
  struct wall_options options = {.off = integer_parameter(request, "off") > 0,
                                 .no_idle = is_zero(request, "idle")};
  struct profile *profile;
  switch (wall_profile_collect(request->response, recording->seconds, recording->hz, options,
                               &profile)) {
    case WALL_PROFILE_DONE: return send_profile(request, route, profile, false, recording->form);
    case WALL_PROFILE_CANCELED:
      return http_respond_error(request->response, 500, "context canceled");
    case WALL_PROFILE_TOO_MANY:
      return http_respond_error(request->response, 503,
                                "too many wall-clock profiles are running: at most 4 at once");
    case WALL_PROFILE_NO_MEMORY: break;
  }
  http_respond_error(request->response, 500, "failed to collect profile");
}

void handle_wall(const struct http_request *request, const struct route *route) {
  struct recording recording;
  if (!recording_parameters(request, route, WALL_PROFILE_DEFAULT_SECONDS, WALL_PROFILE_DEFAULT_HZ,
                            "a wall-clock profile takes at most 3600 seconds: ask for fewer",
                            &recording))
    return;
  if (request_is_head(request)) send_profile_head(request, route, false, recording.form);
  else send_wall(request, route, &recording);
}
_Static_assert(WALL_PROFILE_MAX_CLIENTS == 4 &&
                   (int)WALL_PROFILE_MAX_HZ == (int)CPU_SAMPLING_MAX_HZ,
               "the texts above");

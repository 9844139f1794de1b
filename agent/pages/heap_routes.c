#include "heap_routes.h"

#include <string.h>

#include "shim/allocation/heap_peak.h"
#include "shim/allocation/heap_table.h"
#include "shim/allocation/mmap_table.h"
#include "agent/runtime/agent_thread.h"
#include "agent/profiles/heap_profile.h"
#include "agent/profiles/leak_profile.h"
#include "agent/profiles/mmap_profile.h"
#include "agent/http/query.h"
#include "agent/http/response.h"
#include "profile_request.h"

uint64_t count_heap(void) { return heap_bucket_count(); }

static enum heap_profile_form heap_form(enum profile_form form) {
  return form == FORM_TEXT ? HEAP_PROFILE_AS_SAMPLED : HEAP_PROFILE_SCALED;
}

/* ---- parameters ---- */

/* Which blocks, and what is told of them. */
struct heap_question {
  enum profile_form form;
  enum delta delta;
  int64_t seconds; /* of a delta */
  bool has_age, by_age, by_thread, gone;
  double age;
};

static bool labels_parameter(const struct http_request *request, struct heap_question *question) {
  char text[PARAMETER_MAX], *rest = text;
  enum query_result result = given_parameter(request, "labels", text);
  if (result == QUERY_ABSENT) return true;
  for (const char *word; result == QUERY_FOUND && (word = strsep(&rest, ","));) {
    if (strcmp(word, "age") == 0) question->by_age = true;
    else if (strcmp(word, "thread") == 0) question->by_thread = true;
    else result = QUERY_TOO_LONG;
  }
  if (result == QUERY_FOUND) return true;
  http_respond_error(request->response, 400,
                     "invalid value for \"labels\" - must be age, thread, or age,thread");
  return false;
}

static bool sample_parameter(const struct http_request *request, struct heap_question *question) {
  char text[PARAMETER_MAX];
  enum query_result result = given_parameter(request, "sample", text);
  if (result == QUERY_ABSENT) return true;
  question->gone = result == QUERY_FOUND && strcmp(text, "gone") == 0;
  if (!question->gone)
    http_respond_error(request->response, 400, "invalid value for \"sample\" - must be gone");
  return question->gone;
}

/* What does not go together; NULL: all does. */
static const char *contradiction(const struct heap_question *question) {
  bool labels = question->by_age || question->by_thread;
  if (question->gone && question->delta != DELTA_YES) return "sample=gone needs \"seconds\"";
  if (question->delta == DELTA_YES && question->has_age)
    return "seconds and age params are incompatible";
  if (question->delta == DELTA_YES && labels) return "seconds and labels params are incompatible";
  if (question->form == FORM_TEXT && labels) return "labels and debug params are incompatible";
  return NULL;
}

/* False: an error has been sent. */
static bool heap_question(const struct http_request *request, const struct route *route,
                          struct heap_question *out) {
  *out = (struct heap_question){.form = form_parameter(request, route)};
  if (out->form == FORM_REFUSED) return false;
  out->delta = delta_parameters(request, &out->seconds);
  if (out->delta == DELTA_REFUSED ||
      !duration_parameter(request, "age", &out->age, &out->has_age) ||
      !labels_parameter(request, out) || !sample_parameter(request, out))
    return false;
  const char *fault = contradiction(out);
  if (fault) http_respond_error(request->response, 400, fault);
  return !fault && !refuse_while_off(request, route);
}

/* ---- heap and allocs ---- */

static struct profile *collect_heap(const char *name, const struct heap_selection *selection,
                                    enum profile_form form) {
  struct heap_snapshot *now = heap_snapshot_take();
  struct profile *profile = now ? heap_profile_build(name, now, selection, heap_form(form)) : NULL;
  heap_snapshot_release(now);
  return profile;
}

/* Of blocks that are told apart. */
static struct profile *collect_live(const char *name, const struct heap_question *question) {
  int64_t now = agent_monotonic_nanoseconds();
  const struct live_selection blocks = {.born_until = now - (int64_t)(question->age * 1e9) + 1,
                                        .aged_at = now,
                                        .by_age = question->by_age,
                                        .by_thread = question->by_thread};
  struct live_groups *live = live_groups_take(&blocks);
  if (!live) return NULL;
  bool labels = question->by_age || question->by_thread;
  const struct heap_selection selection = {
      .live = live,
      .labels = labels,
      .use = question->has_age ? HEAP_LIVE_ONLY : HEAP_LIVE_AND_FREED};
  struct profile *profile = collect_heap(name, &selection, question->form);
  live_groups_release(live);
  return profile;
}

/* What was allocated since `before` and is not there any more. */
static struct profile *collect_gone(const char *name, const struct heap_snapshot *before,
                                    enum profile_form form) {
  struct heap_snapshot *now = heap_snapshot_take();
  const struct live_selection blocks = {.born_from = heap_snapshot_moment(before),
                                        .born_until = agent_monotonic_nanoseconds()};
  struct live_groups *live = now ? live_groups_take(&blocks) : NULL;
  const struct heap_selection selection = {
      .before = before, .live = live, .use = HEAP_LIVE_LEFT_OUT};
  struct profile *profile =
      live ? heap_profile_build(name, now, &selection, heap_form(form)) : NULL;
  live_groups_release(live);
  heap_snapshot_release(now);
  return profile;
}

static void send_heap_delta(const struct http_request *request, const struct route *route,
                            const struct heap_question *question) {
  if (!begin_delta(request)) return;
  int64_t start = agent_monotonic_nanoseconds();
  struct heap_snapshot *before = heap_snapshot_take();
  const struct heap_selection selection = {.before = before};
  if (wait_for_delta(request, before, start, question->seconds))
    send_profile(request, route,
                 question->gone ? collect_gone(route->name, before, question->form)
                                : collect_heap(route->name, &selection, question->form),
                 true, question->form);
  heap_snapshot_release(before);
  end_delta();
}

void handle_heap(const struct http_request *request, const struct route *route) {
  struct heap_question question;
  /* gc= needs nothing here: the tables hold nothing back, and the host's allocator is not ours to
   * call. */
  if (!heap_question(request, route, &question)) return;
  const struct heap_selection all = {0};
  bool told_apart = question.has_age || question.by_age || question.by_thread;
  if (request_is_head(request))
    send_profile_head(request, route, question.delta == DELTA_YES, question.form);
  else if (question.delta == DELTA_YES) send_heap_delta(request, route, &question);
  else
    send_profile(request, route,
                 told_apart ? collect_live(route->name, &question)
                            : collect_heap(route->name, &all, question.form),
                 false, question.form);
}

/* ---- peak ---- */

/* False: an error has been sent. */
static bool without_seconds(const struct http_request *request) {
  int64_t seconds;
  enum delta delta = delta_parameters(request, &seconds);
  if (delta == DELTA_YES)
    http_respond_error(request->response, 400,
                       "\"seconds\" parameter is not supported for this profile type");
  return delta == DELTA_NO;
}

/* Whoever asks with reset=1 has the peak up to now; it is looked for anew from then on. */
void handle_peak(const struct http_request *request, const struct route *route) {
  enum profile_form form = form_parameter(request, route);
  if (form == FORM_REFUSED || !without_seconds(request) || refuse_while_off(request, route)) return;
  if (request_is_head(request)) return send_profile_head(request, route, false, form);
  const struct heap_selection all = {0};
  struct profile *profile = collect_heap(route->name, &all, form);
  if (profile && integer_parameter(request, "reset") > 0) heap_peak_begin_anew();
  send_profile(request, route, profile, false, form);
}

/* ---- mmap ---- */

uint64_t count_mmap(void) { return mmap_table_count(); }

static struct profile *collect_mmap(const struct http_request *request) {
  (void)request;
  return mmap_profile_build();
}

void handle_mmap(const struct http_request *request, const struct route *route) {
  if (!refuse_while_off(request, route)) serve_profile(request, route, collect_mmap, NULL);
}

/* ---- leaks ---- */

void handle_leaks(const struct http_request *request, const struct route *route) {
  enum profile_form form = form_parameter(request, route);
  double window = 0;
  bool given;
  if (form == FORM_REFUSED || !duration_parameter(request, "window", &window, &given) ||
      !without_seconds(request) || refuse_while_off(request, route))
    return;
  if (request_is_head(request)) return send_profile_head(request, route, false, form);
  send_profile(request, route, leak_profile_build(window), false, form);
}

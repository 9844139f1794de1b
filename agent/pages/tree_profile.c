#include "tree_profile.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/runtime/agent_memory.h"
#include "agent/runtime/agent_thread.h"
#include "agent/runtime/foreign_text.h"
#include "agent/http/process_question.h"
#include "agent/http/query.h"
#include "agent/http/response.h"
#include "agent/profiles/profile_merge.h"
#include "agent/tree/process_tree.h"
#include "profile_request.h"

enum {
  REQUESTS_MAX = 2, /* at once: each has a worker, and asks this process for another */
  ANSWERS_MAX = 64 << 20, /* bytes of all answers */
  READ_SIZE = 64 * 1024,
  PATIENCE_SECONDS = 30, /* beyond seconds= */
  LOOK_MILLISECONDS = 100,
  TARGET_MAX = 1024
};

/* One process and what it says. */
struct answer {
  int descriptor; /* -1: asked no more */
  const char *fault; /* NULL: none yet */
  int status; /* of an error, 0: none came */
  char *bytes;
  size_t size, capacity;
};

struct question {
  const struct http_request *request;
  struct process_entry *processes;
  struct answer *answers;
  struct pollfd *polls;
  size_t count, open, bytes;
  int64_t deadline; /* monotonic, ns */
};

static void close_answer(struct question *question, struct answer *answer, const char *fault) {
  if (answer->descriptor >= 0) close(answer->descriptor), question->open--;
  answer->descriptor = -1;
  if (fault) answer->fault = fault;
}

/* ---- asking ---- */

static void ask_all(struct question *question, const char *target) {
  const struct http_request *request = question->request;
  const char *host = http_request_header(request, "Host");
  for (size_t i = 0; i < question->count; i++) {
    struct answer *answer = &question->answers[i];
    answer->descriptor = -1;
    if (!question->processes[i].answered && !question->processes[i].is_holder)
      answer->fault = "it does not answer: it is stopped, or very busy";
    else
      answer->descriptor = process_question_ask(request->response, question->processes[i].pid,
                                                target, host ? host : "", &answer->fault);
    question->open += answer->descriptor >= 0;
  }
}

static void read_answer(struct question *question, struct answer *answer) {
  if (answer->capacity - answer->size < READ_SIZE) {
    size_t more = answer->capacity ? answer->capacity : READ_SIZE;
    char *larger = question->bytes + more > ANSWERS_MAX
                       ? NULL
                       : agent_realloc(answer->bytes, answer->capacity + more);
    if (!larger) return close_answer(question, answer, "no memory for its profile");
    answer->bytes = larger;
    answer->capacity += more;
    question->bytes += more;
  }
  ssize_t got =
      read(answer->descriptor, answer->bytes + answer->size, answer->capacity - answer->size);
  if (got > 0) answer->size += (size_t)got;
  else if (got == 0) close_answer(question, answer, NULL);
  else if (errno != EAGAIN && errno != EINTR)
    close_answer(question, answer, "it ended while it was asked");
}

/* Until all have answered, or are given up. False: the client is gone. */
static bool hear_all(struct question *question) {
  while (question->open > 0) {
    for (size_t i = 0; i < question->count; i++)
      question->polls[i] = (struct pollfd){.fd = question->answers[i].descriptor, .events = POLLIN};
    if (poll(question->polls, question->count, LOOK_MILLISECONDS) > 0)
      for (size_t i = 0; i < question->count; i++)
        if (question->polls[i].revents) read_answer(question, &question->answers[i]);
    int64_t now = agent_monotonic_nanoseconds();
    if (!http_wait(question->request->response, now)) return false;
    for (size_t i = 0; now > question->deadline && i < question->count; i++)
      if (question->answers[i].descriptor >= 0)
        close_answer(question, &question->answers[i], "it has not answered in time");
  }
  return true;
}

/* ---- answering ---- */

/* The body; NULL, and the fault is set: it is none of a profile. */
static const char *body_of(struct answer *answer, size_t *size) {
  static const char good[] = "HTTP/1.1 200 ";
  if (answer->fault) return NULL;
  char *body = answer->size ? memmem(answer->bytes, answer->size, "\r\n\r\n", 4) : NULL;
  if (!body) {
    answer->fault = "it ended while it was asked";
    return NULL;
  }
  body += 4;
  *size = (size_t)(answer->bytes + answer->size - body);
  if (strncmp(answer->bytes, good, sizeof good - 1) == 0) return body;
  answer->status = atoi(answer->bytes + strlen("HTTP/1.1 "));
  size_t line = 0;
  while (line < *size && body[line] != '\n' && body[line]) line++;
  if (line == *size) line = line ? line - 1 : 0;
  body[line] = 0; /* in its own words */
  foreign_text_clean(body);
  answer->fault = *body ? body : "it answers with an error";
  return NULL;
}

static void add_all(struct question *question, struct profile_merge *merge) {
  char text[512];
  for (size_t i = 0; i < question->count; i++) {
    struct answer *answer = &question->answers[i];
    const struct process_entry *process = &question->processes[i];
    char name[PROCESS_NAME_MAX];
    snprintf(name, sizeof name, "%s", process->name[0] ? process->name : "?");
    foreign_text_clean(name);
    size_t size;
    const char *body = body_of(answer, &size);
    if (body) {
      const struct profile_merge_source source = {.pid = process->pid, .name = name};
      answer->fault = profile_merge_add(merge, body, size, &source);
    }
    if (!answer->fault) continue;
    snprintf(text, sizeof text, "%s %d is left out: %.300s", name, (int)process->pid,
             answer->fault);
    profile_merge_comment(merge, text);
  }
}

static void send_merged(struct question *question, const struct route *route, bool delta) {
  char headers[128], text[512];
  snprintf(headers, sizeof headers, "Content-Disposition: attachment; filename=\"tree-%s%s\"\r\n",
           route->name, delta ? "-delta" : "");
  struct response_sink sink =
      response_sink_to(question->request, "application/octet-stream", headers);
  struct profile_merge *merge = profile_merge_open(&sink.base);
  if (merge) add_all(question, merge);
  if (merge && profile_merge_count(merge) == 0) {
    profile_merge_close(merge, false);
    int status = question->answers[0].status;
    snprintf(text, sizeof text, "no process of the tree gives it: %.400s",
             question->answers[0].fault);
    http_respond_error(question->request->response, status >= 400 ? status : 503, text);
    return;
  }
  if (merge) {
    snprintf(text, sizeof text, "%" PRIu32 " of %zu processes", profile_merge_count(merge),
             question->count);
    profile_merge_comment(merge, text);
  }
  response_sink_end(&sink, merge && profile_merge_close(merge, true));
}

/* ---- a request ---- */

static void answer_for_tree(const struct http_request *request, const struct route *route,
                            int64_t seconds) {
  char target[TARGET_MAX];
  struct question question = {.request = request};
  int length = snprintf(target, sizeof target, "/debug/pprof/%s%s%s", route->name,
                        *request->query ? "?" : "", request->query);
  question.processes = process_tree_list(&question.count);
  question.answers = agent_calloc(question.count + 1, sizeof *question.answers);
  question.polls = agent_calloc(question.count + 1, sizeof *question.polls);
  question.deadline =
      agent_monotonic_nanoseconds() + (seconds + PATIENCE_SECONDS) * INT64_C(1000000000);
  if (length < 0 || length >= TARGET_MAX) {
    http_respond_error(request->response, 414, "the URL is too long");
  } else if (!question.processes || !question.answers || !question.polls) {
    http_respond_error(request->response, 500, "failed to collect profile");
  } else {
    ask_all(&question, target);
    if (hear_all(&question)) send_merged(&question, route, route->is_profile && seconds > 0);
  }
  for (size_t i = 0; question.answers && i < question.count; i++) {
    close_answer(&question, &question.answers[i], NULL);
    agent_free(question.answers[i].bytes);
  }
  agent_free(question.polls);
  agent_free(question.answers);
  agent_free(question.processes);
}

static bool is_given(const struct http_request *request, const char *key) {
  char text[PARAMETER_MAX];
  return query_value(request->query, key, text, sizeof text) != QUERY_ABSENT;
}

static _Atomic int running; /* changed by the workers that answer for a tree */

void handle_tree(const struct http_request *request, const struct route *route) {
  enum { LONGEST = 3600, USUAL = 30 };
  if (is_given(request, "debug") || is_given(request, "format"))
    return http_respond_error(request->response, 400,
                              "a tree's profile has no debug and format params");
  int64_t seconds = integer_parameter(request, "seconds");
  if (route->is_recorded && seconds <= 0) seconds = USUAL;
  if (seconds < 0 || seconds > LONGEST) seconds = LONGEST; /* each process refuses it */
  if (request_is_head(request))
    return send_profile_head(request, route, route->is_profile && seconds > 0, FORM_PROTO);
  if (atomic_fetch_add_explicit(&running, 1, memory_order_relaxed) < REQUESTS_MAX)
    answer_for_tree(request, route, seconds);
  else
    http_respond_error(request->response, 503,
                       "too many profiles of the tree are being taken: at most 2 at once");
  atomic_fetch_sub_explicit(&running, 1, memory_order_relaxed);
}
_Static_assert(REQUESTS_MAX == 2, "the text above");

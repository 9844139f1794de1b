#include "stub_http_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/http/client_access.h"
#include "agent/http/process_owner.h"
#include "agent/pages/routes.h"

void stub_http_handle(struct http_response *response, const char *method, const char *path,
                      const char *query, const char *body, size_t body_size) {
  const struct http_request request = {.method = method,
                                       .path = path,
                                       .prefix = response->prefix ? response->prefix : "",
                                       .query = query,
                                       .body = body,
                                       .body_size = body_size,
                                       .response = response};
  memory_sink_start(&response->body);
  response->body.refuse_after = response->refuse_after;
  response->head_only = strcmp(method, "HEAD") == 0;
  routes_handle(&request);
}

void stub_http_release(struct http_response *response) { memory_sink_release(&response->body); }

const char *http_request_header(const struct http_request *request, const char *name) {
  if (strcmp(name, "Accept") == 0) return request->response->accept;
  return strcmp(name, "Host") == 0 ? "localhost:6060\"><script>" : NULL;
}

bool http_request_is_foreign(const struct http_request *request) {
  return request->response->is_foreign;
}

bool http_client_find(const struct http_response *response, struct client *client,
                      bool *certified) {
  *certified = false;
  client->uid = response->client;
  return true;
}

/* agent/http/process_owner.h */
bool process_owner_may_look(uid_t uid) { return uid == 1000; }

bool http_respond_begin(struct http_response *response, int status, const char *content_type,
                        const char *extra_headers, long long content_length) {
  if (response->begun) abort(); /* two responses to one request */
  response->begun = true;
  response->status = status;
  response->content_length = content_length;
  snprintf(response->content_type, sizeof response->content_type, "%s",
           content_type ? content_type : "");
  snprintf(response->headers, sizeof response->headers, "%s", extra_headers ? extra_headers : "");
  return true;
}

bool http_respond_write(struct http_response *response, const void *bytes, size_t size) {
  if (!response->begun || response->ended) abort();
  return response->head_only || response->body.base.write(&response->body.base, bytes, size);
}

bool http_respond_end(struct http_response *response) {
  if (!response->begun || response->ended) abort();
  response->ended = true;
  return true;
}

void http_respond_error(struct http_response *response, int status, const char *text) {
  if (!http_respond_begin(response, status, "text/plain; charset=utf-8", "X-Go-Pprof: 1\r\n",
                          (long long)strlen(text) + 1))
    return;
  if (http_respond_write(response, text, strlen(text)) && http_respond_write(response, "\n", 1))
    http_respond_end(response);
}

/* agent/http/process_question.h */
int process_question_ask(struct http_response *response, int pid, const char *target,
                         const char *host, const char **why) {
  (void)response, (void)pid, (void)target, (void)host;
  *why = "nobody is asked in unit tests";
  return -1;
}

bool http_wait(struct http_response *response, int64_t deadline_ns) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  response->waited_ns = deadline_ns - (now.tv_sec * 1000000000LL + now.tv_nsec);
  if (response->during_wait) response->during_wait();
  return response->wait_result;
}

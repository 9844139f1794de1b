#include "http_server.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/runtime/agent_memory.h"
#include "agent/runtime/agent_thread.h"
#include "civetweb.h"
#include "civetweb_alone.h"
#include "civetweb_system.h"
#include "civetweb_workers.h"
#include "client_access.h"
#include "connection_inbox.h"
#include "host_check.h"
#include "http_exchange.h"
#include "agent/runtime/log.h"
#include "other_processes.h"
#include "request_process.h"
#include "request_watch.h"

enum {
  HEAD_SIZE_MAX = 8 * 1024, /* request line and headers */
  /* go tool pprof posts all addresses of a profile at once: a million */
  BODY_SIZE_MAX = 16 * 1024 * 1024,
  /* what is larger shares one allowance, BODY_SIZE_MAX, with all others that are */
  BODY_SIZE_FREE = 1024 * 1024
};

static struct mg_context *context; /* admin thread only, as the next */
static bool failed; /* the last start, whose reason is in the log */
static struct host_check_rules rules;
static void (*handle)(const struct http_request *request);

/* ---- requests ---- */

/* A request of a process that shares the port goes there as it is. */
static enum civetweb_route route_request(int descriptor, bool authenticated, const char *prefix,
                                         size_t size) {
  char ignored[CLIENT_ACCESS_TEXT_MAX];
  struct client client;
  int pid;
  if (!other_processes || !other_processes->can_be_asked()) return CIVETWEB_HERE;
  if (!request_process_find(prefix, size, &pid)) return CIVETWEB_UNDECIDED;
  if (!pid || pid == getpid()) return CIVETWEB_HERE;
  if (!authenticated && client_access_find(descriptor, &client, ignored) != CLIENT_FOUND)
    return CIVETWEB_HERE; /* and is told so here */
  switch (other_processes->hand_over(pid, descriptor, authenticated ? NULL : &client, prefix, size,
                                     civetweb_system_interrupted)) {
    case TREE_HANDED_OVER: return CIVETWEB_ELSEWHERE;
    case TREE_BUSY: return CIVETWEB_NOBODY;
    case TREE_SILENT: return CIVETWEB_SILENT;
    case TREE_REFUSES: return CIVETWEB_REFUSED;
    default: return CIVETWEB_HERE; /* routes.c says that there is none */
  }
}

/* What that process would say itself. */
static void respond_for(struct http_response *response, const char *path) {
  char text[CLIENT_ACCESS_TEXT_MAX];
  const char *rest;
  struct client client;
  if (client_access_find(response->descriptor, &client, text) == CLIENT_FOUND &&
      other_processes->would_answer(http_path_process(path, &rest), &client, text) !=
          TREE_WOULD_NOT)
    snprintf(text, sizeof text, "that process does not answer this user");
  http_respond_error(response, 403, text);
}

static bool may_post(const char *path) {
  static const char *const ends[] = {"/debug/pprof/symbol", "/debug/pprof/rates"};
  size_t length = strlen(path);
  for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++)
    if (length >= strlen(ends[i]) && strcmp(path + length - strlen(ends[i]), ends[i]) == 0)
      return true;
  return false;
}

enum {
  CAPACITY_MAX = BODY_SIZE_MAX + 2
}; /* one byte more, which tells that it is too large, and the NUL */

static _Atomic size_t large_bodies; /* bytes; changed by the workers that read them */

struct body {
  char *bytes;
  size_t capacity, used;
  size_t allowance; /* of large_bodies */
};

static void body_release(struct body *body) {
  agent_free(body->bytes);
  atomic_fetch_sub_explicit(&large_bodies, body->allowance, memory_order_relaxed);
}

/* The reason why it cannot, or NULL. */
static const char *body_reserve(struct body *body, size_t capacity) {
  if (capacity > CAPACITY_MAX) return "request body too large";
  if (capacity > BODY_SIZE_FREE + 1) {
    size_t more = capacity - 1 - body->allowance;
    size_t before = atomic_fetch_add_explicit(&large_bodies, more, memory_order_relaxed);
    body->allowance += more;
    if (before + more > CAPACITY_MAX) return "too many large request bodies at once";
  }
  char *larger = agent_realloc(body->bytes, capacity);
  if (!larger) return "no memory for the request body";
  body->bytes = larger;
  body->capacity = capacity;
  return NULL;
}

/* The body, NUL-terminated. False: a response with the reason has been sent. */
static bool read_body(struct http_response *response, const struct mg_request_info *info,
                      struct body *body) {
  enum { FIRST_CAPACITY = 4096 };
  bool known = info->content_length >= 0;
  const char *fault =
      known && info->content_length > BODY_SIZE_MAX ? "request body too large" : NULL;
  if (!fault) fault = body_reserve(body, known ? (size_t)info->content_length + 1 : FIRST_CAPACITY);
  if (!fault) {
    civetweb_connection_reads_body(response->descriptor);
    const char *expect = mg_get_header(response->connection, "Expect");
    if (expect && *expect == '1')
      mg_write(response->connection, "HTTP/1.1 100 Continue\r\n\r\n", 25);
  }
  while (!fault) {
    if (body->used + 1 == body->capacity) {
      if (known) break;
      bool last = body->capacity < CAPACITY_MAX && body->capacity * 2 > CAPACITY_MAX;
      fault = body_reserve(body, last ? CAPACITY_MAX : body->capacity * 2);
      if (fault) break;
    }
    int received =
        mg_read(response->connection, body->bytes + body->used, body->capacity - body->used - 1);
    if (received < 0 || (received == 0 && info->content_length > (long long)body->used)) {
      http_respond_error(response, civetweb_connection_late(response->descriptor) ? 408 : 400,
                         "incomplete request body");
      return false;
    }
    if (received == 0) break;
    body->used += (size_t)received;
  }
  if (fault) http_respond_error(response, 413, fault);
  else body->bytes[body->used] = 0;
  return !fault;
}

static void dispatch(struct http_response *response, const struct mg_request_info *info) {
  char path[HOST_CHECK_URL_MAX + 1];
  snprintf(path, sizeof(path), "%s", info->local_uri);
  if (!host_check_decode_path(path)) {
    http_respond_error(response, 400, "malformed URL");
    return;
  }
  const char *method = info->request_method;
  bool post = strcmp(method, "POST") == 0, get = strcmp(method, "GET") == 0 || response->head_only;
  if (response->origin && strcmp(method, "OPTIONS") == 0) {
    http_respond_begin(
        response, 204, NULL,
        "Access-Control-Allow-Methods: GET, HEAD, POST\r\nAccess-Control-Allow-Headers: *\r\n"
        "Access-Control-Allow-Private-Network: true\r\n",
        -1);
    response->chunked = false;
    http_respond_end(response);
    return;
  }
  if (!get && !(post && may_post(path))) {
    http_respond_fault(response, 405, "method not allowed",
                       may_post(path) ? "Allow: GET, HEAD, POST\r\n" : "Allow: GET, HEAD\r\n");
    return;
  }
  char prefix[24] = "";
  const char *rest = path;
  if (http_path_process(path, &rest) == getpid())
    snprintf(prefix, sizeof(prefix), "/pid/%d", (int)getpid());
  else rest = path;
  struct http_request request = {.method = method,
                                 .path = rest,
                                 .prefix = prefix,
                                 .query = info->query_string ? info->query_string : "",
                                 .body = "",
                                 .response = response};
  struct body body = {0};
  bool may_go_on = true;
  if (post) {
    may_go_on = read_body(response, info, &body);
    request.body = body.bytes;
    request.body_size = body.used;
  } else if (info->content_length > 0 || mg_get_header(response->connection, "Transfer-Encoding")) {
    http_respond_error(response, 400, "request body not allowed");
    may_go_on = false;
  }
  if (may_go_on) handle(&request);
  body_release(&body);
}

/* The space that may follow a header's value is no part of it. The text is in civetweb's buffer for
 * this request. */
static void trim_end(char *value) {
  size_t length = strlen(value);
  while (length && (value[length - 1] == ' ' || value[length - 1] == '\t')) value[--length] = 0;
}

/* Called by civetweb for every request whose head could be parsed; it does nothing further with
 * those. */
static int begin_request(struct mg_connection *connection) {
  const struct mg_request_info *info = mg_get_request_info(connection);
  struct http_response response;
  http_response_init(&response, connection, info);
  struct host_check_header headers[HOST_CHECK_HEADERS_MAX];
  size_t header_count = (size_t)info->num_headers < HOST_CHECK_HEADERS_MAX
                            ? (size_t)info->num_headers
                            : HOST_CHECK_HEADERS_MAX;
  for (size_t i = 0; i < header_count; i++) {
    trim_end((char *)info->http_headers[i].value);
    headers[i] =
        (struct host_check_header){info->http_headers[i].name, info->http_headers[i].value};
  }
  const struct host_check_request head = {.method = info->request_method,
                                          .target = info->request_uri,
                                          .headers = headers,
                                          .header_count = header_count};
  char refusal[CLIENT_ACCESS_TEXT_MAX];
  bool authenticated = civetweb_connection_authenticated(response.descriptor);
  enum civetweb_route route = civetweb_connection_route(response.descriptor);
  bool is_ours = route == CIVETWEB_HERE; /* else: another process lets it in, or not */
  if (is_ours && !authenticated && !client_access_check(response.descriptor, refusal)) {
    http_respond_error(&response, 403, refusal);
    return 1;
  }
  struct host_check_verdict verdict;
  struct host_check_rules own_rules = rules;
  own_rules.authenticated = authenticated;
  host_check(&own_rules, &head, &verdict);
  response.origin = verdict.origin;
  /* civetweb has cut the URI in two at '?'. */
  if (!verdict.status && info->query_string &&
      strlen(info->request_uri) + 1 + strlen(info->query_string) > HOST_CHECK_URL_MAX) {
    http_respond_error(&response, 414, "the URL is too long");
  } else if (verdict.status) {
    http_respond_error(&response, verdict.status, verdict.text);
  } else if (route == CIVETWEB_NOBODY) {
    http_respond_error(&response, 503, "that process takes no request now");
  } else if (route == CIVETWEB_REFUSED) {
    respond_for(&response, info->local_uri);
  } else if (route == CIVETWEB_SILENT) {
    http_respond_error(&response, 503, "that process does not answer: it is stopped, or very busy");
  } else {
    struct request_watch watch;
    request_watch_begin(&watch, response.descriptor);
    dispatch(&response, info);
    request_watch_end();
  }
  if (!response.begun && !response.failed && !civetweb_system_interrupted())
    http_respond_error(&response, 500, "no response");
  if (!response.ended) civetweb_connection_done(response.descriptor);
  return 1;
}

/* Called by civetweb instead of its own error pages, for what it could not parse. */
static int http_error(struct mg_connection *connection, int status, const char *text) {
  const struct mg_request_info *info = mg_get_request_info(connection);
  struct http_response response;
  if (!info || civetweb_system_interrupted()) return 0;
  http_response_init(&response, connection, info);
  const char *extra = NULL;
  if (civetweb_connection_late(response.descriptor)) {
    status = 408;
    text = "request timeout";
  } else if (civetweb_connection_received(response.descriptor) >= HEAD_SIZE_MAX) {
    status = 431;
    text = "request header fields too large";
  } else if (status == 400 && info->request_method && info->http_version &&
             info->num_headers == 0 && *info->request_method >= 'A' &&
             *info->request_method <= 'Z') {
    status = 405; /* a method that civetweb does not know, or no headers at all */
    text = "method not allowed";
    extra = "Allow: GET, HEAD\r\n";
  } else if (status == 400) {
    text = "malformed request";
  }
  civetweb_connection_cut_short(response.descriptor);
  http_respond_fault(&response, status, text, extra);
  return 0;
}

/* civetweb closes without a word when a request's target is not a path. */
static void connection_close(const struct mg_connection *connection) {
  const struct mg_request_info *info = mg_get_request_info(connection);
  if (!info || civetweb_system_interrupted() || civetweb_connection_responded(info->remote_port) ||
      civetweb_connection_received(info->remote_port) == 0 || !info->request_uri) {
    return;
  }
  struct http_response response;
  http_response_init(&response, (struct mg_connection *)connection, info);
  http_respond_error(&response, 400, "malformed request target");
}

static bool start_civetweb(const struct http_server_address *address,
                           struct civetweb_start *start) {
  char workers[8], head_size[16];
  snprintf(workers, sizeof(workers), "%u", start->workers);
  snprintf(head_size, sizeof(head_size), "%d", HEAD_SIZE_MAX);
  const char *options[] = {"listening_ports",
                           "127.0.0.1:1",
                           "num_threads",
                           workers,
                           "max_request_size",
                           head_size,
                           "connection_queue",
                           "32",
                           "enable_keep_alive",
                           "no",
                           "decode_url",
                           "no",
                           "enable_auth_domain_check",
                           "no", /* host_check.c does it */
                           "request_timeout_ms",
                           "3600000", /* the deadlines are civetweb_system.c's */
                           NULL};
  struct mg_callbacks callbacks = {.begin_request = begin_request,
                                   .http_error = http_error,
                                   .connection_close = connection_close};
  handle = address->handle;
  rules = (struct host_check_rules){
      .address = address->address, .port = address->port, .origins = address->origins};
  start->listener = address->listener;
  start->port = address->port;
  start->route = route_request;
  if (!civetweb_system_prepare(start)) return false;
  mg_init_library(0);
  context = mg_start(&callbacks, NULL, options);
  if (!context) civetweb_system_abandon();
  return context != NULL;
}

bool http_server_start(const struct http_server_address *address) {
  struct civetweb_start start = {.workers = HTTP_WORKERS, .quiet = failed};
  failed = !start_civetweb(address, &start);
  return !failed;
}

static void stop_civetweb(void) {
  civetweb_system_interrupt();
  mg_stop(context);
  context = NULL;
  civetweb_system_finish();
  mg_exit_library();
}

bool http_server_answer_alone(const struct http_server_address *address, bool (*stopped)(void),
                              void (*meanwhile)(void)) {
  struct civetweb_start start = {
      .workers = 1, .quiet = failed, .stopped = stopped, .meanwhile = meanwhile};
  if (!civetweb_alone_begin()) return false;
  bool works = start_civetweb(address, &start);
  if (works) {
    civetweb_alone_accept(); /* it begins */
    do civetweb_alone_accept();
    while (civetweb_connection_count() > 0 && (works = civetweb_alone_work()) && !stopped());
    stop_civetweb();
  }
  civetweb_alone_end();
  return works;
}

void http_server_listen(int listener) { civetweb_system_listen(listener); }

bool http_server_idle_since(int64_t monotonic_ns) {
  return !civetweb_has_workers() ||
         (civetweb_connection_count() == 0 && civetweb_last_activity() < monotonic_ns);
}

bool http_server_closes_if_idle_since(int64_t monotonic_ns) {
  return !civetweb_has_workers() || civetweb_close_if_idle_since(monotonic_ns);
}

void http_server_stop(void) {
  if (!context) return;
  failed = !civetweb_has_workers();
  stop_civetweb();
}

/* HTTP/1.1 on the admin address: civetweb below, the access rules of host_check.h before every
 * request; who answers is handed to it.
 *
 * Every response carries X-Content-Type-Options: nosniff and, where it says nothing of its own,
 * Cache-Control: no-store, and closes its connection.
 * Context: agent threads (handle runs on one of the server's workers); locks: civetweb's own.
 */
#ifndef AGENT_HTTP_SERVER_H
#define AGENT_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_response;

struct http_request {
  const char *method; /* "GET", "HEAD" or "POST"; everything else was answered already */
  const char *path; /* decoded, without the query and without "/pid/N"; starts with '/' */
  const char *prefix; /* "/pid/N" when the request named this process so, else "" */
  const char *query; /* raw, "" when there is none */
  const char *body; /* of a POST to symbol or rates, NUL-terminated; else "" */
  size_t body_size;
  struct http_response *response;
};

/* A page of another origin asks, which PPROFAGENT_ORIGINS lets read. */
bool http_request_is_foreign(const struct http_request *request);

/* The header's value, or NULL. Names compare without case. */
const char *http_request_header(const struct http_request *request, const char *name);

/* Response: status line and headers once, then body chunks, then end. The body of a HEAD response
 * is swallowed. extra_headers: "Name: value\r\n..." or NULL. content_length: -1 when not known (the
 * body is then sent in chunks). False: the client is gone or too slow; stop. */
bool http_respond_begin(struct http_response *response, int status, const char *content_type,
                        const char *extra_headers, long long content_length);
bool http_respond_write(struct http_response *response, const void *bytes, size_t size);
bool http_respond_end(struct http_response *response);

/* The error form of the Go endpoints: text/plain, X-Go-Pprof: 1, body = text and a newline. A whole
 * response. */
void http_respond_error(struct http_response *response, int status, const char *text);

/* Who asks: false, he is not known; *certified: by a client certificate, and *client says nothing.
 */
struct client;
bool http_client_find(const struct http_response *response, struct client *client, bool *certified);

/* Sleeps until deadline_ns (CLOCK_MONOTONIC); false at once when the client goes away or the server
 * stops. */
bool http_wait(struct http_response *response, int64_t deadline_ns);

/* The server proper has threads (civetweb's acceptor and HTTP_WORKERS workers) only while somebody
 * asks: the admin thread starts it when a first connection waits on the listener, and stops it when
 * nobody has come for a while. It takes connections from the listener and from connection_inbox.h.
 * Context: the admin thread. */
enum { HTTP_WORKERS = 12 }; /* 4 CPU profiles and 4 deltas may each keep one busy */
struct http_server_address {
  /* Returns after a whole response, or after a respond call returned false. Context: a worker. */
  void (*handle)(const struct http_request *request);
  int listener; /* -1: only the inbox */
  const char *address; /* the shared port's, as in an URL; "" for a unix socket. Both strings must
                          stay valid */
  unsigned port; /* 0 for a unix socket */
  const char *origins; /* config.origins */
};
bool http_server_start(const struct http_server_address *address);
/* Where no thread can be created: answers what waits on this thread, one connection after the
 * other, as long as others wait. stopped: whether to leave; meanwhile: called while a request
 * waits, every 250 ms at least. False: no memory or descriptors. */
bool http_server_answer_alone(const struct http_server_address *address, bool (*stopped)(void),
                              void (*meanwhile)(void));
/* While it runs: this process holds the port from now on. */
void http_server_listen(int listener);
bool http_server_idle_since(int64_t monotonic_ns); /* no connection is open, and none has been since
                                                      then; or it cannot serve */
/* The same; if so, it accepts no connection any more, and is to be stopped. */
bool http_server_closes_if_idle_since(int64_t monotonic_ns);
/* Tells every request to end and joins the threads. May take as long as a request that is not
 * waiting takes. */
void http_server_stop(void);

#endif

/* Whole responses to a request, and bodies of unknown length through a byte_sink.
 * Context: the HTTP workers; locks: none. */
#ifndef AGENT_RESPONSE_H
#define AGENT_RESPONSE_H

#include <stdbool.h>
#include <stddef.h>

#include "byte_sink.h"
#include "http_server.h"

#define TEXT_PLAIN "text/plain; charset=utf-8"
#define TEXT_HTML "text/html; charset=utf-8"

/* Begins the response with its first bytes, so that what fails before them can still become an
 * error. */
struct response_sink {
  struct byte_sink base;
  struct http_response *response;
  const char *content_type, *headers;
  bool begun;
};

/* headers: "Name: value\r\n..." or NULL; must stay valid as long as the sink. */
struct response_sink response_sink_to(const struct http_request *request, const char *content_type,
                                      const char *headers);
/* A body that broke off half-way (not complete) is not ended: the client must not take it for a
 * whole one. One that never began becomes the error "failed to collect profile". */
void response_sink_end(struct response_sink *sink, bool complete);

void respond_whole(const struct http_request *request, int status, const char *content_type,
                   const char *headers, const void *body, size_t size);

bool request_is_head(const struct http_request *request);

#endif

/* What http_server.c and http_response.c share: one request on one connection of civetweb's.
 * Context: HTTP workers. */
#ifndef AGENT_HTTP_EXCHANGE_H
#define AGENT_HTTP_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>

#include "civetweb.h"
#include "http_server.h"

enum { RESPONSE_BUFFER_SIZE = 8 * 1024 };

struct http_response {
  struct mg_connection *connection;
  int descriptor;
  bool head_only, chunked, begun, ended, failed;
  const char *origin; /* CORS */
  size_t buffered;
  char buffer[RESPONSE_BUFFER_SIZE];
};

void http_response_init(struct http_response *response, struct mg_connection *connection,
                        const struct mg_request_info *info);
/* http_respond_error with headers more: "Name: value\r\n..." or NULL. */
void http_respond_fault(struct http_response *response, int status, const char *reason,
                        const char *extra);

#endif

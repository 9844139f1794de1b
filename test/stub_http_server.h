/* http_server.h without a network: a request goes to routes_handle, the response is kept. */
#ifndef TEST_STUB_HTTP_SERVER_H
#define TEST_STUB_HTTP_SERVER_H

#include <stdbool.h>
#include <sys/types.h>

#include "agent/http/http_server.h"
#include "stub_tables.h"

struct http_response {
  bool begun, ended, head_only;
  int status;
  char content_type[128], headers[1024];
  long long content_length;
  struct memory_sink body;
  bool wait_result; /* what http_wait gives */
  void (*during_wait)(void); /* called by it, or NULL */
  long long waited_ns; /* how far away its deadline was */
  size_t refuse_after; /* the client goes away after so many bytes; 0: never */
  bool is_foreign;
  uid_t client; /* who asks; of the process: 1000 */
  const char *prefix, *accept; /* of the request; NULL: "" and no such header */
};

/* Handles a request; to be released by stub_http_release. response: zeroed, or with the fields
 * above preset. */
void stub_http_handle(struct http_response *response, const char *method, const char *path,
                      const char *query, const char *body, size_t body_size);
void stub_http_release(struct http_response *response);

#endif

#include "response.h"

#include <string.h>

static bool response_sink_write(struct byte_sink *base, const void *bytes, size_t size) {
  struct response_sink *sink = (struct response_sink *)base;
  if (!sink->begun) {
    sink->begun = true;
    if (!http_respond_begin(sink->response, 200, sink->content_type, sink->headers, -1))
      return false;
  }
  return http_respond_write(sink->response, bytes, size);
}

struct response_sink response_sink_to(const struct http_request *request, const char *content_type,
                                      const char *headers) {
  return (struct response_sink){
      {response_sink_write}, request->response, content_type, headers, false};
}

void response_sink_end(struct response_sink *sink, bool complete) {
  if (complete && sink->begun) http_respond_end(sink->response);
  else if (!sink->begun) http_respond_error(sink->response, 500, "failed to collect profile");
}

void respond_whole(const struct http_request *request, int status, const char *content_type,
                   const char *headers, const void *body, size_t size) {
  if (http_respond_begin(request->response, status, content_type, headers, (long long)size) &&
      http_respond_write(request->response, body, size))
    http_respond_end(request->response);
}

bool request_is_head(const struct http_request *request) {
  return strcmp(request->method, "HEAD") == 0;
}

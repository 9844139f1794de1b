/* Responses (http_server.h): headers once, a buffer, chunks where the length is not known. */
#include <stdio.h>
#include <string.h>

#include "agent/runtime/foreign_text.h"
#include "civetweb_system.h"
#include "client_access.h"
#include "http_exchange.h"

enum { ERROR_TEXT_MAX = 1024 };

void http_response_init(struct http_response *response, struct mg_connection *connection,
                        const struct mg_request_info *info) {
  memset(response, 0, offsetof(struct http_response, buffer));
  response->connection = connection;
  response->descriptor = info->remote_port; /* civetweb_system.h */
  response->head_only = info->request_method && strcmp(info->request_method, "HEAD") == 0;
}

bool http_request_is_foreign(const struct http_request *request) {
  return request->response->origin != NULL;
}

const char *http_request_header(const struct http_request *request, const char *name) {
  return mg_get_header(request->response->connection, name);
}

static bool send_bytes(struct http_response *response, const void *bytes, size_t size) {
  const char *at = bytes;
  while (size && !response->failed) {
    size_t piece = size < 1 << 20 ? size : 1 << 20;
    int sent = mg_write(response->connection, at, piece);
    if (sent <= 0 || (size_t)sent != piece) response->failed = true;
    at += piece;
    size -= piece;
  }
  return !response->failed;
}

static bool flush(struct http_response *response) {
  if (response->buffered == 0) return !response->failed;
  if (response->chunked) {
    char size_line[24];
    int length = snprintf(size_line, sizeof(size_line), "%zx\r\n", response->buffered);
    send_bytes(response, size_line, (size_t)length);
  }
  send_bytes(response, response->buffer, response->buffered);
  if (response->chunked) send_bytes(response, "\r\n", 2);
  response->buffered = 0;
  return !response->failed;
}

static const char *reason_phrase(int status) {
  switch (status) {
    case 200: return "OK";
    case 204: return "No Content";
    case 301: return "Moved Permanently";
    case 302: return "Found";
    case 304: return "Not Modified";
    case 400: return "Bad Request";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 411: return "Length Required";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 431: return "Request Header Fields Too Large";
    case 501: return "Not Implemented";
    case 503: return "Service Unavailable";
    case 505: return "HTTP Version Not Supported";
    default: return status >= 500 ? "Internal Server Error" : "Status";
  }
}

bool http_respond_begin(struct http_response *response, int status, const char *content_type,
                        const char *extra_headers, long long content_length) {
  if (response->begun) return false;
  response->begun = true;
  const char *version = mg_get_request_info(response->connection)->http_version;
  response->chunked =
      content_length < 0 && !response->head_only && version && strcmp(version, "1.1") == 0;
  char head[4096], length_header[64] = "", origin_header[256] = "";
  bool may_be_kept = extra_headers && strstr(extra_headers, "Cache-Control: ");
  if (content_length >= 0)
    snprintf(length_header, sizeof(length_header), "Content-Length: %lld\r\n", content_length);
  if (response->origin) {
    snprintf(origin_header, sizeof(origin_header),
             "Access-Control-Allow-Origin: %.190s\r\nVary: Origin\r\n", response->origin);
  }
  int size = snprintf(head, sizeof(head),
                      "HTTP/1.1 %d %s\r\n%s%s%sX-Content-Type-Options: nosniff\r\n%s%s%s%s%s"
                      "Connection: close\r\n\r\n",
                      status, reason_phrase(status), content_type ? "Content-Type: " : "",
                      content_type ? content_type : "", content_type ? "\r\n" : "",
                      may_be_kept ? "" : "Cache-Control: no-store\r\n",
                      response->origin ? "" : "Cross-Origin-Resource-Policy: same-origin\r\n",
                      origin_header, extra_headers ? extra_headers : "", length_header);
  if (size < 0 || (size_t)size >= sizeof(head)) {
    response->failed = true;
    return false;
  }
  if (response->chunked) { /* the last header line, before the blank one */
    static const char encoding[] = "Transfer-Encoding: chunked\r\n\r\n";
    if ((size_t)size + sizeof(encoding) > sizeof(head)) return response->failed = true, false;
    memcpy(head + size - 2, encoding, sizeof(encoding));
    size += (int)sizeof(encoding) - 3;
  }
  civetweb_connection_responding(response->descriptor);
  return send_bytes(response, head, (size_t)size);
}

bool http_respond_write(struct http_response *response, const void *bytes, size_t size) {
  if (!response->begun || response->ended || response->failed) return false;
  if (civetweb_system_interrupted()) return response->failed = true, false;
  if (response->head_only) return true;
  const char *from = bytes;
  while (size) {
    size_t room = sizeof(response->buffer) - response->buffered, piece = size < room ? size : room;
    memcpy(response->buffer + response->buffered, from, piece);
    response->buffered += piece;
    from += piece;
    size -= piece;
    if (response->buffered == sizeof(response->buffer) && !flush(response)) return false;
  }
  return true;
}

bool http_respond_end(struct http_response *response) {
  if (response->begun && !response->ended) {
    response->ended = true;
    flush(response);
    if (response->chunked) send_bytes(response, "0\r\n\r\n", 5);
    civetweb_connection_done(response->descriptor);
  }
  return !response->failed;
}

void http_respond_fault(struct http_response *response, int status, const char *reason,
                        const char *extra) {
  char headers[128], text[ERROR_TEXT_MAX];
  snprintf(text, sizeof(text), "%s", reason);
  foreign_text_clean(text);
  snprintf(headers, sizeof(headers), "X-Go-Pprof: 1\r\n%s", extra ? extra : "");
  size_t length = strlen(text);
  if (!http_respond_begin(response, status, "text/plain; charset=utf-8", headers,
                          (long long)length + 1))
    return;
  http_respond_write(response, text, length);
  http_respond_write(response, "\n", 1);
  http_respond_end(response);
}

void http_respond_error(struct http_response *response, int status, const char *text) {
  http_respond_fault(response, status, text, NULL);
}

bool http_client_find(const struct http_response *response, struct client *client,
                      bool *certified) {
  char ignored[CLIENT_ACCESS_TEXT_MAX];
  *certified = civetweb_connection_authenticated(response->descriptor);
  return *certified || client_access_find(response->descriptor, client, ignored) == CLIENT_FOUND;
}

bool http_wait(struct http_response *response, int64_t deadline_ns) {
  return civetweb_connection_wait(response->descriptor, deadline_ns);
}

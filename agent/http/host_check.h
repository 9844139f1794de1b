/* What may ask: the rules that keep web pages (DNS rebinding, cross-site requests) off a loopback
 * port, and the size limits. Who may: client_access.h. Pure functions over the request's head.
 * Context: any; locks: none. */
#ifndef AGENT_HOST_CHECK_H
#define AGENT_HOST_CHECK_H

#include <stdbool.h>
#include <stddef.h>

enum { HOST_CHECK_URL_MAX = 2048, HOST_CHECK_HEADERS_MAX = 64 };

struct host_check_header {
  const char *name, *value;
};

struct host_check_request {
  const char *method;
  const char *target; /* raw path and query as sent, or "http://host:port/..." */
  const struct host_check_header *headers;
  size_t header_count;
};

struct host_check_rules {
  const char *address; /* of the listener, as in an URL: "127.0.0.2:6060"; "": none but the usual
                          names of loopback */
  unsigned port; /* of the listener; 0: a unix socket, whose Host header may be anything */
  const char *origins; /* web origins that may read: PPROFAGENT_ORIGINS, separated by commas or
                          spaces; "" */
  bool authenticated; /* by TLS, whose names we do not know: Host may be anything, and "https://" +
                         Host is the own origin */
};

struct host_check_verdict {
  int status; /* 0: let it in; else the HTTP status to refuse with */
  char text[320]; /* of the refusal */
  const char *origin; /* a foreign origin that the rules let in (points into the request), or NULL:
                         no CORS headers */
  const char *host; /* the Host header's value, "" for none */
};

void host_check(const struct host_check_rules *rules, const struct host_check_request *request,
                struct host_check_verdict *out);

/* Decodes %XX in place; false for a bad escape or an encoded NUL. */
bool host_check_decode_path(char *path);

#endif

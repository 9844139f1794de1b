/* What is served below /debug/pprof/: one table, read by the dispatcher, the index page and
 * /debug/pprof/health. Context: agent threads. */
#ifndef AGENT_ROUTES_H
#define AGENT_ROUTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/http/http_server.h"
#include "agent/http/text_sink.h"

struct route {
  const char *name; /* below /debug/pprof/ */
  const char *meaning; /* one line for the index page; NULL: not listed there */
  const char *description; /* a sentence about its parameters, or "" */
  const char *(*off_reason)(
      void); /* NULL, or a function that gives NULL while the route works, else one sentence */
  uint64_t (*count)(void); /* records in the profile, or NULL */
  void (*handle)(const struct http_request *request, const struct route *route);
  const char *sample_types; /* of its profiles, in their order, by a space apart; NULL: it gives
                               none */
  bool is_profile; /* has debug= and seconds= */
  bool has_no_delta; /* a profile without seconds= */
  bool is_recorded; /* a profile of so many seconds */
  bool is_trace; /* a recording of so many seconds, which is no profile */
  bool accepts_post;
};

/* Answers any request that may be answered. Context: HTTP workers. */
void routes_handle(const struct http_request *request);

/* Sorted by name. */
const struct route *routes_all(size_t *count);
const char *route_off_reason(const struct route *route); /* NULL: it works */
bool route_has_view(const struct route *route); /* view/NAME */

/* index_page.c, health_page.c. False: the receiver is gone. prefix: as in struct http_request. */
bool index_page_write(struct text_sink *text, const char *host_header, const char *prefix);
bool health_page_write(struct text_sink *text);

/* process_list_page.c: a whole response. */
void process_list_respond(const struct http_request *request);

#endif

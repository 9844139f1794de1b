/* The handler of /debug/pprof/trace. Context: the HTTP workers; locks: none. */
#ifndef AGENT_TRACE_ROUTES_H
#define AGENT_TRACE_ROUTES_H

#include "routes.h"

void handle_trace(const struct http_request *request, const struct route *route);

#endif

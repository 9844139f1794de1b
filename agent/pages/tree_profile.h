/* /tree/debug/pprof/NAME: the profiles of all processes that share the port, as one. */
#ifndef AGENT_TREE_PROFILE_H
#define AGENT_TREE_PROFILE_H

#include "routes.h"

void handle_tree(const struct http_request *request, const struct route *route);

#endif

/* /debug/pprof/rates: how often allocations, waits and locks are sampled, as JSON; a POST of its
 * owner's, from no page but ours, changes it. Context: the HTTP workers; locks: its own. */
#ifndef AGENT_RATES_H
#define AGENT_RATES_H

#include "routes.h"

void handle_rates(const struct http_request *request, const struct route *route);

#endif

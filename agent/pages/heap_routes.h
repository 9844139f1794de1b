/* The handlers of the profiles of memory for the table in routes.c, and what their rows count.
 * Context: the HTTP workers. */
#ifndef AGENT_HEAP_ROUTES_H
#define AGENT_HEAP_ROUTES_H

#include <stdint.h>

#include "routes.h"

void handle_heap(const struct http_request *request,
                 const struct route *route); /* and allocs, by the route's name */
void handle_peak(const struct http_request *request, const struct route *route);
void handle_leaks(const struct http_request *request, const struct route *route);

void handle_mmap(const struct http_request *request, const struct route *route);

uint64_t count_heap(void); /* buckets */
uint64_t count_mmap(void);

#endif

/* The handlers of the profiles for the table in routes.c, and what their rows count. Context: the
 * HTTP workers. */
#ifndef AGENT_PROFILE_ROUTES_H
#define AGENT_PROFILE_ROUTES_H

#include <stdint.h>

#include "routes.h"

void handle_threads(const struct http_request *request, const struct route *route);
void handle_deadlock(const struct http_request *request, const struct route *route);
void handle_threadcreate(const struct http_request *request, const struct route *route);
void handle_block(const struct http_request *request, const struct route *route);
void handle_mutex(const struct http_request *request, const struct route *route);
void handle_profile(const struct http_request *request, const struct route *route); /* CPU */
void handle_wall(const struct http_request *request, const struct route *route);

uint64_t count_threads(void); /* alive */
uint64_t count_threads_created(void); /* ever */
uint64_t count_stuck(void); /* threads, as of the last look */
uint64_t count_block(void); /* stacks */
uint64_t count_mutex(void);

#endif

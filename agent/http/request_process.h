/* Which process a request is for, from its first bytes. Pure functions. Context: any. */
#ifndef AGENT_REQUEST_PROCESS_H
#define AGENT_REQUEST_PROCESS_H

#include <stdbool.h>
#include <stddef.h>

/* What stands in front of a path and names a process, and the rest: "/pid/12/debug/pprof/" gives
 * 12. 0: none. */
int http_path_process(const char *path, const char **rest);

/* The same of "METHOD /pid/N/...". False: more bytes are needed. */
bool request_process_find(const char *bytes, size_t size, int *pid);

#endif

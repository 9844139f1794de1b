/* 503 for connections that cannot be served. Context: the thread that accepts, one at a time; locks: none. */
#ifndef AGENT_REFUSED_CONNECTION_H
#define AGENT_REFUSED_CONNECTION_H

#include <stdbool.h>

/* Answers an accepted, non-blocking connection and closes it. */
void refuse_connection(int descriptor, const char *text);

/* Accepts one connection that waits on the listener and refuses it, also when no descriptor is free. False: there was none, or it still
 * waits (errno as accept left it). */
bool refuse_next_connection(int listener, const char *text);

#endif

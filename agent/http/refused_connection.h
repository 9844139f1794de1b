/* Answers of connections that are not served. Context: agent threads; locks: none. */
#ifndef AGENT_REFUSED_CONNECTION_H
#define AGENT_REFUSED_CONNECTION_H

#include <stdbool.h>

/* Answers an accepted, non-blocking connection by 503 and closes it. */
void refuse_connection(int descriptor, const char *text);

/* Answers it by 403, as http_respond_error does, and sends no more; it is not closed. head_only:
 * the request's method is HEAD. */
void forbid_connection(int descriptor, const char *text, bool head_only);

/* Accepts one connection that waits on the listener and refuses it, also when no descriptor is
 * free. False: there was none, or it still waits (errno as accept left it). Context: the thread
 * that accepts, one at a time. */
bool refuse_next_connection(int listener, const char *text);

/* The same of the inbox's next connection, or the listener's. One that cannot be had does not make
 * the caller spin: it waits until wake can be read, or so long. listener: -1: none. Context: the
 * same. */
void refuse_who_waits(int listener, const char *text, int wake, int pause_ms);

#endif

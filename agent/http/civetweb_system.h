/* What civetweb takes for the operating system. The Makefile redirects its calls to civetweb_*
 * functions (objcopy --redefine-sym), so that it cannot change signal dispositions, start threads
 * of its own kind, take pthread keys, look names up, log, spin at EMFILE, or wait on a slow client
 * for ever.
 *
 * civetweb believes that it listens on 127.0.0.1. Each accept tells it a descriptor number as the
 * client's port: that is how a request finds its connection. Context: agent threads; a connection
 * belongs to one thread at a time: the acceptor, then one worker.
 */
#ifndef AGENT_CIVETWEB_SYSTEM_H
#define AGENT_CIVETWEB_SYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "civetweb_connections.h"

/* Before each start of civetweb: the listening socket (-1: only connection_inbox.h), the port that
 * absolute request targets must name, the number of its workers; quiet: its error log is dropped.
 * route may be NULL: all are served here. */
struct civetweb_start {
  int listener;
  unsigned port, workers;
  bool quiet;
  enum civetweb_route (*route)(int descriptor, bool authenticated, const char *prefix, size_t size);
  /* civetweb_is_alone: whether to stop, and what to do between two waits, 250 ms apart at most */
  bool (*stopped)(void);
  void (*meanwhile)(void);
};
/* False: no thread can be created, or no descriptor is left. After true: mg_start, and abandon if
 * that fails. */
bool civetweb_system_prepare(const struct civetweb_start *start);
void civetweb_system_abandon(void);
/* Wakes every thread that waits in one of the calls below, until the next prepare. */
void civetweb_system_interrupt(void);
bool civetweb_system_interrupted(void);
/* While it runs: another listener. */
void civetweb_system_listen(int listener);
/* After civetweb has stopped: closes accepted connections that were still in its queue, which it
 * forgets. */
void civetweb_system_finish(void);

/* True: there is none, and has been none since then, and none will be accepted any more. */
bool civetweb_close_if_idle_since(int64_t monotonic_ns);
int64_t civetweb_last_activity(void); /* CLOCK_MONOTONIC of the last accept or close */

/* Sleeps until deadline_ns; false as soon as the client has hung up or the server stops. */
bool civetweb_connection_wait(int connection, int64_t deadline_ns);

#endif

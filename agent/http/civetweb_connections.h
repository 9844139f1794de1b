/* The connections that civetweb serves: by when each must have got on, and what it has come to.
 * civetweb_system.c reads and writes them; the rest of http/ asks by the "port" that civetweb
 * shows, which is the descriptor. Context: agent threads; a connection belongs to one thread at a
 * time: the acceptor, then one worker. */
#ifndef AGENT_CIVETWEB_CONNECTIONS_H
#define AGENT_CIVETWEB_CONNECTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "connection_inbox.h"

enum {
  CIVETWEB_DESCRIPTOR_MAX = 256, /* connections on higher descriptors are refused */
  CIVETWEB_CONNECTION_MAX = 40 /* being served or queued; more are told 503 at once */
};

/* What becomes of a connection, from the first bytes of its request. */
enum civetweb_route {
  CIVETWEB_HERE,
  CIVETWEB_UNDECIDED, /* more bytes are needed */
  CIVETWEB_ELSEWHERE, /* somebody else has it now */
  CIVETWEB_NOBODY, /* who should take it cannot now: said here */
  CIVETWEB_SILENT, /* who should take it does not answer: said here */
  CIVETWEB_REFUSED /* who should take it would not answer that client: said here */
};

unsigned civetweb_connection_count(void);

/* A connection starts with a deadline for its request's head. Deadlines are shorter while more
 * connections are open than there are workers. */
void civetweb_connection_reads_body(int connection);
/* From the first byte of a response on: the client must take it at a least rate, after a grace
 * time. */
void civetweb_connection_responding(int connection);
/* The response is complete: what the client still sends is read for a moment only, so that closing
 * does not reset the connection. */
void civetweb_connection_done(int connection);
/* The request was answered before all of it was read. */
void civetweb_connection_cut_short(int connection);
bool civetweb_connection_responded(int connection);
size_t civetweb_connection_received(int connection);
bool civetweb_connection_authenticated(int connection);
enum civetweb_route civetweb_connection_route(int connection); /* what became of it */
bool civetweb_connection_late(int connection); /* a deadline was the reason for the last failure */

/* ---- for civetweb_system.c ---- */

enum { CROWD_CHECK_MILLISECONDS = 250, LINGER_MILLISECONDS = 300 };

struct connection {
  int64_t deadline_ns; /* 0: the head's clock has not started */
  int64_t crowded_deadline_ns;
  int64_t response_start_ns; /* 0: no response yet */
  size_t received, sent, linger_left;
  bool open, late, done, cut_short;
  bool authenticated, routed;
  unsigned char prefix_size, prefix_used, route; /* read before it was known whose */
  char prefix[INBOX_PREFIX_MAX];
};

/* Before each start of civetweb, by the admin thread; after it has stopped: closes connections that
 * were still in its queue, which it forgets. */
void civetweb_connections_begin(unsigned workers);
void civetweb_connections_end(void);

struct connection *civetweb_connection_open(int descriptor); /* below CIVETWEB_DESCRIPTOR_MAX */
void civetweb_connection_close(struct connection *connection);
struct connection *civetweb_connection_of(int descriptor); /* NULL: it can be none */

/* The number of nanoseconds that the connection may still wait; sets late when there are none. */
int64_t civetweb_connection_time_left(int descriptor, struct connection *connection);
/* So many nanoseconds as a timeout of poll's. */
int civetweb_connection_milliseconds(int64_t nanoseconds);

#endif

/* The port's gate: each connection is judged when it is accepted, before any thread is started or
 * any other process is asked to take it. Who may come in goes to connection_inbox.h. A stranger is
 * answered here, by 403, on the admin thread and without waiting: so many of them at a time, each
 * for so long; one more makes the user that has most of them lose its oldest. A stranger to this
 * process may be the owner of one that shares its port: whoever names that one is let in if it says
 * so.
 * Context: agent threads; connection_gate_handle and on: the admin thread; locks: its own.
 */
#ifndef AGENT_CONNECTION_GATE_H
#define AGENT_CONNECTION_GATE_H

#include <stdbool.h>

struct inbox_connection;

/* Takes an accepted, non-blocking connection. False: it is a stranger's, and the gate's from now
 * on; the next is to be accepted a millisecond later, unless many wait. True also where there is no
 * descriptor to ask with: it is asked again when it is answered. */
bool connection_gate_admits(int descriptor, int listener);
/* The same for one that came with what has been read of it; let in, it is put into the inbox. */
void connection_gate_take(const struct inbox_connection *connection);

/* Accepts what waits on the listener, some connections at a time. False: no descriptor or memory is
 * left for it, and it still waits. */
bool connection_gate_accept(int listener);

/* A further listener, whose connections are accepted here: the gate's, until close. False: there is
 * no room for it, and it is closed. */
bool connection_gate_listen(int listener);

/* A descriptor that is readable when there is something to do; -1: none yet. */
int connection_gate_event(void);
/* In so many milliseconds there is, whatever comes; -1: no. */
int connection_gate_milliseconds(void);
void connection_gate_handle(void);
void connection_gate_close(void);

#endif

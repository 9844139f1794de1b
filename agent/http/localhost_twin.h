/* "localhost" is 127.0.0.1 or ::1, as the client likes, and a stranger may listen on the one that
 * nobody has. So the process that holds a port of the one has the same port of the other too; the
 * gate (connection_gate.h) accepts what comes there.
 * Context: the admin thread, unless it says otherwise; locks: none. */
#ifndef AGENT_LOCALHOST_TWIN_H
#define AGENT_LOCALHOST_TWIN_H

struct listen_address;

/* For the address that this process listens on: opens the other one, unless it is open. Where
 * somebody has it, tries again each time. */
void localhost_twin_look(const struct listen_address *address);
/* The gate has been closed, and with it what was opened. */
void localhost_twin_forget(void);

/* For the pages: NULL, or that somebody else has it. Context: any agent thread. */
const char *localhost_twin_fault(void);

#endif

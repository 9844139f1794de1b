/* The HTTP server as the admin thread has it: started when somebody waits who may come in, stopped
 * when nobody has come for a while. Context: the admin thread, unless it says otherwise. */
#ifndef AGENT_ADMIN_SERVER_H
#define AGENT_ADMIN_SERVER_H

#include <stdbool.h>

#include "agent/http/listen_address.h"

/* Starts the server for the connection that waits, or answers it here if no thread can be had,
 * until stopped says so; or tells that connection why not, and meanwhile looks at `wake`, too.
 * listener: -1 where another process holds the port. */
void admin_server_start(int listener, const struct listen_address *address, int wake,
                        bool (*stopped)(void));
/* And what it has put up for its clients. */
void admin_server_stop(void);
bool admin_server_runs(void); /* context: any thread */
/* A client is connected. Context: any. */
bool admin_server_has_client(void);

#endif

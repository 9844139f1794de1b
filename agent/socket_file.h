/* The file of a unix address: who shares the address last removes it at the program's end.
 * Context: the admin thread. */
#ifndef AGENT_SOCKET_FILE_H
#define AGENT_SOCKET_FILE_H

#include "agent/http/listen_address.h"

/* It is there now, if the address has one. */
void socket_file_remember(const struct listen_address *address);

#endif

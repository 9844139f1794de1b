/* What HTTP asks of the process that holds the port, for one of its members (other_processes.h):
 * taking a connection over, and whether it would answer a client. Context: HTTP workers; the
 * table's lock. */
#ifndef AGENT_TREE_HANDOVER_H
#define AGENT_TREE_HANDOVER_H

#include "agent/http/other_processes.h"

enum tree_handover tree_handover(int pid, int descriptor, const struct client *client,
                                 const char *prefix, size_t prefix_size, bool (*give_up)(void));
enum tree_answer tree_handover_would_answer(int pid, const struct client *client, char *text);

#endif

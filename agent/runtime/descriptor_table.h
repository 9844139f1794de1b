/* A descriptor table of the agent's own. The host's numbers, its closefrom() and its descriptor
 * limits are not touched by what the agent opens, and the agent keeps none of the host's files,
 * pipes or sockets open. Context: the admin thread, before it opens anything; threads that it
 * starts share its table. */
#ifndef AGENT_DESCRIPTOR_TABLE_H
#define AGENT_DESCRIPTOR_TABLE_H

#include <stdbool.h>

/* Leaves the host's table for an empty one with 0, 1 and 2 on /dev/null; keep_stderr leaves 2 as it
 * is. NULL: done. Otherwise the agent still shares the host's table, nothing was closed, and this
 * says why. */
const char *descriptor_table_isolate(bool keep_stderr);

/* Context: agent threads, once the table has been left. */
bool descriptor_table_is_private(void);

/* For when no other descriptor is to be had: frees the number 0 of the private table, until
 * take_back occupies it again. False: the table is the host's. Context: one agent thread at a time.
 */
bool descriptor_table_lend(void);
void descriptor_table_take_back(void);

#endif

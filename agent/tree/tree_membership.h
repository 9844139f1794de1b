/* A member's side of process_tree.h: how this process introduces itself to the holder, and what it
 * answers. (The holder's side: tree_members.h.) Context: the admin thread; locks: none. */
#ifndef AGENT_TREE_MEMBERSHIP_H
#define AGENT_TREE_MEMBERSHIP_H

#include <stdbool.h>
#include <stddef.h>

#include "agent/http/listen_address.h"

/* Before the attempts to enter, which wait for answers no longer than give_up allows, nor than 0.3
 * s in all; and after them, when this process holds the port or is a member. */
void tree_membership_begin(bool (*give_up)(void));
void tree_membership_is_inside(void);

/* Introduces this process to the holder, on a socket that is connected to the name of that
 * address's tree. True: it is a member, and the socket is kept. False: reason says why; *again: it
 * is to try again soon, since the holder was about to end, or has been asked to give way. */
bool tree_membership_join(int socket, const struct listen_address *address, bool *again,
                          char *reason, size_t reason_size);

/* Of a member: readable when tree_membership_handle has something to do. */
int tree_membership_event(void);
/* Answers what the holder asks, and takes the connections that it hands over. False: it is gone, or
 * not to be trusted any more; tree_membership_end. */
bool tree_membership_handle(void);
void tree_membership_end(void);

#endif

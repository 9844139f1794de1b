/* The holder's side of process_tree.h: who has joined, what they say of themselves, and the
 * connections handed over to them. Context: the admin thread, but for those functions that
 * process_tree.h gives to HTTP workers; locks: its own. */
#ifndef AGENT_TREE_MEMBERS_H
#define AGENT_TREE_MEMBERS_H

#include <stdbool.h>

#include "agent/http/other_processes.h"
#include "tree_message.h"

/* socket: bound to the tree's name; it listens from here on. keys: those of this process, by which
 * others are known. shared: who joins is given this descriptor; -1: none. False: nothing was done.
 */
bool tree_members_open(int socket, const struct tree_key *keys, unsigned key_count, int shared);
int tree_members_event(void); /* -1: not open */
/* A member of root's wants to hold the port, and would not be led by this process, which is none.
 * The users of PPROFAGENT_ALLOW_UIDS may share it, no more. */
bool tree_members_are_to_give_way(void);
void tree_members_handle(void);
void tree_members_look(void); /* now and then, and when this process has changed its user */
void tree_members_close(void); /* the socket too */

/* As other_processes.h says. */
enum tree_handover tree_members_hand_over(int pid, int descriptor, const struct client *client,
                                          const char *prefix, size_t prefix_size,
                                          bool (*give_up)(void));
enum tree_answer tree_members_would_answer(int pid, const struct client *client, char *text);

#endif

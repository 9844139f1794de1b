/* The holder's side of process_tree.h: who has joined, what they say of themselves and answer.
 * Context: the admin thread, but for what is said to be for others; locks: the table's. */
#ifndef AGENT_TREE_MEMBERS_H
#define AGENT_TREE_MEMBERS_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/runtime/agent_lock.h"
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

/* ---- for HTTP workers ---- */

/* How many share the port beside this process. Context: any agent thread. */
unsigned tree_members_joined(void);

struct member {
  int descriptor; /* -1: dropped */
  struct member *next_dropped;
  int32_t pid; /* as the kernel says, like uid */
  uint32_t uid;
  bool joined;
  bool has_key; /* it may share the port whatever its user is */
  uint32_t round; /* of its newest entry */
  uint32_t given; /* the number of the newest connection */
  bool silent; /* it let a request wait in vain, and has not answered since */
  int64_t connected_ns;
  int64_t asked_ns, heard_ns; /* for a stranger's sake; when its newest entry came. 0: never */
  struct tree_key key;
  struct process_entry entry;
  struct process_audience audience;
};

/* A connection that a worker has given to a member, on the worker's stack. The member may be gone
 * in the moment after it has taken it. */
struct given_connection {
  struct given_connection *next;
  int64_t connected_ns; /* the member's, and its pid */
  int32_t pid;
  uint32_t number;
  bool taken; /* written by the admin thread */
};

/* Who is in it is changed by the admin thread only, under the lock; workers read it under that. */
extern struct tree_member_table {
  struct agent_lock lock;
  struct member *at[PROCESS_TREE_MAX];
  unsigned count;
  struct given_connection *given; /* whose workers wait until they are taken */
} tree_members;

/* The number of a question that is about to be asked, and comes back with its answer. */
uint32_t tree_members_next_round(void);
/* How many answers there have been; and until there is another than `before`, at most so long,
 * which is below a second. */
uint32_t tree_members_answers(void);
void tree_members_await_answer(uint32_t before, int64_t nanoseconds);

#endif

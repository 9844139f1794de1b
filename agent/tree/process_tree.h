/* The processes that were given the same PPROFAGENT_ADDR share its port. One of them, the holder,
 * listens on it and on an abstract unix socket named after the address; the others, its members,
 * each keep one connection to that socket. It is membership, election and transport:
 *  - who binds the name is the holder; the kernel frees it at its end, however that comes, and
 * every member sees its connection close;
 *  - the kernel says which process and which user is at the other end (SO_PEERCRED);
 *  - a request for /pid/N is handed over to process N as the accepted connection itself
 * (SCM_RIGHTS), so that it outlives the holder. No file, no lock, nothing that a chroot, another
 * uid or another mount namespace changes.
 *
 * Trusted without more: the owner (process_owner.h), root, PPROFAGENT_ALLOW_UIDS. Others (workers
 * that gave up root) show the key that fork has left in their memory; it is shown to those only who
 * are trusted themselves. Judged anew at each use, by what both processes are then. A process that
 * execs loses that key, and knows its workers again by tree_kinship.h. Who knows the holder so,
 * but does not trust it (root's, where a worker that gave up root holds the port), has it give way.
 * Descriptors are taken from trusted users only.
 * Context: the admin thread, unless it says otherwise; locks: its own.
 */
#ifndef AGENT_PROCESS_TREE_H
#define AGENT_PROCESS_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/http/listen_address.h"
#include "agent/http/other_processes.h"
#include "agent/runtime/shared_text.h"
#include "process_entry.h"

enum tree_role {
  TREE_OUTSIDE, /* neither: others hold the port and do not share it now; to be tried again */
  TREE_HOPELESS, /* neither: the address cannot be had, and this process has never shared it */
  TREE_HOLDER,
  TREE_MEMBER
};

/* This process was forked before its parent had entered: for a tenth of a second it leaves the
 * port, whose pages users take for the service's, to that one. Context: the only thread, before the
 * admin thread starts. */
void process_tree_let_parent_go_first(void);

/* Joins the tree of the address, or founds it. TREE_HOLDER: *listener is the listening socket, and
 * the address's port is filled in. TREE_OUTSIDE, TREE_HOPELESS: reason says why. Others who have
 * the name may keep it waiting, for about a second at most, and only until give_up says so: then
 * TREE_OUTSIDE within some milliseconds, for the program may be waiting for this thread's end. */
enum tree_role process_tree_enter(struct listen_address *address, int *listener,
                                  bool (*give_up)(void), char *reason, size_t reason_size);
/* A descriptor that is readable when process_tree_handle has something to do; -1 outside. */
int process_tree_event(void);
/* False: the holder is gone, or this process is to be it no more: it is outside; enter again. A
 * process that held the port closes its listening socket first. */
bool process_tree_handle(void);
void process_tree_leave(void);
/* Now and then, and when this process has changed its user: gives back what it may not keep, and is
 * the new user to those who join. */
void process_tree_look(void);
/* Now and then: a holder that could not have the name of the tree tries again. */
void process_tree_retry(int listener);
enum tree_role process_tree_role(void); /* context: any agent thread */
/* Nobody else shares the address, or is about to hold it. Context: host thread at exit, with a
 * descriptor of the host's table for a moment. */
bool process_tree_is_last(void);

/* What http/ asks of it (other_processes.h). */
extern const struct other_processes process_tree_as_others;

/* Why this process serves no port, one sentence; NULL: it does. Context: any agent thread. */
const char *process_tree_off_reason(char out[SHARED_TEXT_MAX]);

/* Every process of the tree, this one included, ordered by pid, in agent_malloc'ed memory; NULL: no
 * memory. Waits for members for at most a quarter of a second. Context: HTTP workers of the holder
 * (a member sees only itself). */
struct process_entry *process_tree_list(size_t *count);
/* 1: alone. Context: any agent thread. */
unsigned process_tree_size(void);
/* Why this process, which holds the port, cannot share it; NULL: it can. Context: any agent thread.
 */
const char *process_tree_fault(void);
/* How many asked to join and were not let in, and why the last. Context: any agent thread. */
enum { PROCESS_REFUSAL_MAX = 256 };
unsigned process_tree_refusals(char last[PROCESS_REFUSAL_MAX]);

#endif

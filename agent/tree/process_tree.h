/* The processes that were given the same PPROFAGENT_ADDR share its port. One of them, the holder,
 * listens on it, and on an abstract unix socket named after the address. The others, its members,
 * each keep one connection to that socket.
 *
 * That socket is membership, election and transport:
 *  - Who binds the name is the holder. The kernel frees the name at its end, however that comes,
 * and every member sees its connection close.
 *  - The kernel says which process and which user is at the other end (SO_PEERCRED).
 *  - A request for /pid/N is handed over to process N: the accepted connection itself is sent
 *    (SCM_RIGHTS), so the answer outlives the holder.
 * There is no file and no lock, and nothing that a chroot, another uid or another mount namespace
 * would change.
 *
 * Who trusts whom, judged anew at each use by what both processes are then:
 *  - Without more: the owner (process_owner.h), root, PPROFAGENT_ALLOW_UIDS.
 *  - Others, as workers that gave up root, by the key that fork has left in their memory
 *    (tree_keys.h). A process shows its key to those only whom it trusts itself.
 *  - After an exec, which loses the key, a process knows its workers again by tokens
 *    (tree_kinship.h).
 *  - Who knows the holder for kin so, but does not trust it, has it give way: as root's process
 * does where a worker that gave up root holds the port. Descriptors are taken from trusted users
 * only. Context: the admin thread, unless it says otherwise. Locks: its own.
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

/* This process was forked before its parent had entered. It leaves the port to the parent for a
 * tenth of a second, since users take the pages there for the service's. Context: the only thread,
 * before the admin thread starts. */
void process_tree_let_parent_go_first(void);

/* Joins the tree of the address, or founds it. TREE_HOLDER: *listener is the listening socket, and
 * the address's port is filled in. TREE_OUTSIDE, TREE_HOPELESS: reason says why. It may take about
 * a second, where others have the name. Once give_up says so it returns TREE_OUTSIDE within some
 * milliseconds: the program may be waiting for this thread's end. */
enum tree_role process_tree_enter(struct listen_address *address, int *listener,
                                  bool (*give_up)(void), char *reason, size_t reason_size);
/* A descriptor that is readable when process_tree_handle has something to do; -1 outside. */
int process_tree_event(void);
/* False: this process is outside now, since the holder is gone, or it is to hold the port no more.
 * It is to enter again; if it held the port, it closes its listening socket first. */
bool process_tree_handle(void);
void process_tree_leave(void);
/* To be called now and then, and when this process has changed its user: it gives back what it may
 * not keep any more, and is the new user to those who join. */
void process_tree_look(void);
/* To be called now and then: a holder that could not have the name of the tree tries again. */
void process_tree_retry(int listener);
enum tree_role process_tree_role(void); /* context: any agent thread */
/* Whether nobody else shares the address, or is about to hold it. Context: host thread at exit; it
 * has a descriptor in the host's table for a moment. */
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

/* A master that executes itself anew has lost the key by which its workers of another user know it
 * (process_tree.h); they live on. So each that it has let in by that key is given a token, which is
 * shown to the same process only, as a program that comes later: a socket that, as the kernel says
 * of it, this very process has made, and in which lies when that process was born.
 *
 * It is worth nothing to anybody else: not to another process (SO_PEERCRED tells), nor to a later
 * one with the same number (the time), nor to the same one with other rights (the user). Nothing of
 * it is in the program's environment or among its descriptors.
 * Context: the admin thread; locks: none. */
#ifndef AGENT_TREE_KINSHIP_H
#define AGENT_TREE_KINSHIP_H

#include <stdbool.h>
#include <sys/types.h>

/* A new token of this process's, which the caller sends away and closes; -1: none can be made. */
int kinship_make(void);
/* Whether this process has made that descriptor's socket, with the rights that it has now. */
bool kinship_proves(int descriptor);

/* Keeps a token that this process has made, as that user, in place of what was kept. False: it is
 * none, and still the caller's. */
bool kinship_keep(int descriptor, pid_t pid, uid_t uid);
/* The token of that process, made as that user; -1: none is kept. */
int kinship_kept_of(pid_t pid, uid_t uid);
void kinship_forget(void);

#endif

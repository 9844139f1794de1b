/* A master that executes itself anew has lost the key by which its workers of another user know it
 * (process_tree.h); they live on. So each that it has let in by that key is given a token, whose
 * number is told to the same process only, as a program that comes later: a socket that listens at
 * a name made of that process's pid, the time of its birth and the number. Who listens there, as
 * which process and which user, the kernel tells whoever connects (SO_PEERCRED).
 *
 * It is worth nothing to anybody else: not to another process (SO_PEERCRED tells, and listening
 * anew changes it), nor to a later one with the same pid (the time), nor to the same one with other
 * rights (the user). Nothing of it is in the program's environment or among its descriptors.
 * Context: the admin thread; locks: none. */
#ifndef AGENT_TREE_KINSHIP_H
#define AGENT_TREE_KINSHIP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A new token of this process's, which the caller sends away and closes; -1: none can be made. */
int kinship_make(uint64_t *number);
/* Whether this process has made the token of that number, with the rights that it has now.
 * *crowded: strangers have filled its queue, and who keeps it is to be asked again, who makes room
 * (kinship_kept_of). */
bool kinship_proves(uint64_t number, bool *crowded);

/* Keeps a token that this process has made, as that user, in place of what was kept. */
void kinship_keep(int descriptor, uint64_t number, pid_t pid, uid_t uid);
/* The number of the token of that process, made as that user; 0: none is kept. */
uint64_t kinship_kept_of(pid_t pid, uid_t uid);
void kinship_forget(void);

#endif

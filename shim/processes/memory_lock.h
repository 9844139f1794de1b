/* mlockall(2): the program's lock does not count for what is ours, where it would bring the program
 * nearer to RLIMIT_MEMLOCK: its malloc and pthread_create would fail earlier. */
#ifndef SHIM_MEMORY_LOCK_H
#define SHIM_MEMORY_LOCK_H

/* The call, by mlockall() or syscall(). Context: host thread. */
long memory_lock_all(long flags);

#endif

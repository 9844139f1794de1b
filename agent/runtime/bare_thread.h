/* Threads that libc does not know of: made by clone(2), each with a static TLS block of its own. So
 * a program with one thread stays single-threaded for libc: its stdio and malloc take no locks, its
 * fork waits for nobody, its setuid has nobody to tell.
 *
 * In such a thread initial-exec TLS works, and libc's functions with it (errno, the C locale). It
 * may not enter what takes a lock of libc's or the loader's: in a single-threaded program libc
 * takes those without atomic instructions. So no pthread_*, stdio streams, malloc, dlopen, time
 * zones.
 */
#ifndef AGENT_BARE_THREAD_H
#define AGENT_BARE_THREAD_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* The kernel writes the thread's number to *tid before it runs, and 0 when it has ended, with a
 * FUTEX_WAKE (not private). It starts with the caller's signal mask. Result: 0 or an errno value.
 * Context: host thread or agent thread. */
int bare_thread_create(_Atomic int32_t *tid, size_t stack_size, void (*start)(void *),
                       void *argument);

/* Before the first call of a function of libc's that looks at a locale. Context: a bare thread. */
void bare_thread_enter_libc(void);

#endif

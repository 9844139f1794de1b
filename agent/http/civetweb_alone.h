/* Civetweb's two threads, its acceptor and one worker, as coroutines on the admin thread: where no
 * thread can be created (RLIMIT_NPROC, the cgroup's pids.max) that one answers by itself, a
 * connection after the other. They give up the processor where a thread of their own would sleep:
 * the acceptor when it looks for a connection, the worker when none is queued.
 * Context: the admin thread; locks: none. */
#ifndef AGENT_CIVETWEB_ALONE_H
#define AGENT_CIVETWEB_ALONE_H

#include <pthread.h>
#include <stdbool.h>

/* Before civetweb is started so, and after it has been stopped. False: no memory. */
bool civetweb_alone_begin(void);
void civetweb_alone_end(void);
bool civetweb_is_alone(void); /* between the two; context: any agent thread */
extern const char civetweb_alone_text[]; /* what that means, for users */

/* As pthread_create, what civetweb believes to be its threads: the worker, then the acceptor. */
void civetweb_alone_create(pthread_t *thread, void *(*main)(void *), void *argument);
/* By the acceptor, before it looks for a connection; by the worker, when none is queued. */
void civetweb_alone_yield(void);
/* The acceptor, of the worker; and whoever stops civetweb, of the acceptor, which has ended. */
void civetweb_alone_join(void);

/* Lets the acceptor take one connection, if one waits. */
void civetweb_alone_accept(void);
/* Answers the one that it took. False: the worker has ended, for lack of memory. */
bool civetweb_alone_work(void);

#endif

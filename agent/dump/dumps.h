/* Profiles that are written to files at moments that PPROFAGENT_DUMP_ON names, by a thread of the
 * agent's that sleeps between them. There is none where PPROFAGENT_DUMP is not set. */
#ifndef AGENT_DUMPS_H
#define AGENT_DUMPS_H

#include <stdbool.h>

/* While the admin thread has a descriptor table: starts that thread, and ends it. A process that is
 * about to end has its profiles written by the admin thread, which is sooner. Context: the admin
 * thread. */
void dumps_begin(void);
void dumps_end(void);
/* By which threads are sampled: the server's end does not take them away. */
bool dumps_use_signals(void);

/* They are to be written now; does not wait. Where there is no such thread yet, as soon as there
 * is: hurry, as below. Context: signal handler. */
void dumps_now(void (*hurry)(void));

/* The process ends as soon as its profiles are written. Waits for that, for DUMPS_END_MILLISECONDS
 * at most, the first time that it is called. hurry: the admin thread is to start now. Context: host
 * thread, also in signal handlers; errno is kept. */
enum { DUMPS_END_MILLISECONDS = 100 };
void dumps_before_end(void (*hurry)(void));
/* That has begun: the admin thread is not to wait for anything else. Context: any. */
bool dumps_end_is_near(void);
/* The program's last thread has ended, and nobody waits for us. Context: the admin thread, after
 * dumps_end. */
void dumps_after_end(void);

#endif

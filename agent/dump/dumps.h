/* Profiles that are written to files at moments that PPROFAGENT_DUMP_ON names, by a thread of the
 * agent's that sleeps between them. There is none where PPROFAGENT_DUMP is not set.
 * Context: the admin thread, unless it says otherwise. */
#ifndef AGENT_DUMPS_H
#define AGENT_DUMPS_H

/* While the admin thread has a descriptor table: starts that thread, and ends it. */
void dumps_begin(void);
void dumps_end(void);

#endif

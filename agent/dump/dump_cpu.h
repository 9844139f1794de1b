/* The CPU profile of dumps: one recording from the start on, cut into windows by the dumps. There
 * is none where PPROFAGENT_DUMP_PROFILES does not name it. */
#ifndef AGENT_DUMP_CPU_H
#define AGENT_DUMP_CPU_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/profiles/profile.h"

/* Context: the admin thread, before the thread that dumps is there, and after it has ended, when no
 * client is served. What has been recorded then and not been written is lost, which is told. */
void dump_cpu_begin(void);
void dump_cpu_end(void);
/* Signals may be on their way by which threads are sampled. Context: the admin thread. */
bool dump_cpu_is_running(void);

/* Context: the thread that dumps. */
/* Nanoseconds to the next look; INT64_MAX: none is needed. */
int64_t dump_cpu_look(void);
/* One window ends here, and the next begins unless is_last. */
void dump_cpu_cut(bool is_last);
/* Of the last window that has ended, any number of times; NULL: dump_cpu_fault, or no memory. */
struct profile *dump_cpu_build(void);
const char *dump_cpu_fault(void); /* NULL: there is a window */

#endif

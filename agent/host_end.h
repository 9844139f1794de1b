/* Whether the program has ended but for the agent's threads, which libc does not know.
 * Context: the admin thread. */
#ifndef AGENT_HOST_END_H
#define AGENT_HOST_END_H

#include <stdbool.h>

/* True when the main thread is a zombie and no thread but the agent's is left. One read, whatever
 * the number of threads. exit_code: the main thread's. */
bool only_agent_threads_left(int *exit_code);

#endif

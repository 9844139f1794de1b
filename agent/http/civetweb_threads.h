/* civetweb's threads, mutexes and conditions: the Makefile redirects its pthread_* calls to
 * civetweb_pthread_*. libc's would take the program for one of a single thread, and do without
 * atomic instructions. Context: agent threads.
 */
#ifndef AGENT_CIVETWEB_THREADS_H
#define AGENT_CIVETWEB_THREADS_H

#include <stdbool.h>

#include "agent/runtime/agent_thread.h"

/* What civetweb_system.c makes of a thread that civetweb wants. */
bool civetweb_system_create_thread(struct agent_thread *thread, void *(*main)(void *),
                                   void *argument);

#endif

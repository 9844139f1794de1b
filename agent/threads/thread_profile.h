/* The goroutine profile (one sample a thread) and the threadcreate profile. Context: HTTP workers.
 */
#ifndef AGENT_THREAD_PROFILE_H
#define AGENT_THREAD_PROFILE_H

#include <stdbool.h>

#include "agent/profiles/profile.h"
#include "thread_dump.h"

/* Threads with the same stack, thread_name and state are one sample; with_tid: each is its own,
 * with the numeric label tid. NULL: out of memory. */
struct profile *thread_profile_build(const struct thread_dump *dump, bool with_tid);

/* Threads created, by the creator's stack; the string label `state` tells "live" from "ended".
 * NULL: out of memory. */
struct profile *threadcreate_profile_build(void);

/* debug=2: the text of wire.md 6. False: the receiver is gone. */
bool goroutine_text_write(const struct thread_dump *dump, struct byte_sink *sink);

#endif

/* Threads that can never go on: each waits, without a time limit, for what one other thread alone
 * can give (a mutex or a read-write lock that it holds, its end), and that one waits so as well,
 * round to the first, or has ended.
 *
 * Never a false one: what a dump found counts only if afterwards none of the threads has run since,
 * all still wait in the same call, and the locks still name the same holders. All of them then
 * stood still at one moment.
 *
 * Not told: who reads a read-write lock, and holders of what names none (semaphores, conditions,
 * locks of Rust, parking_lot, C++20). Context: agent threads.
 */
#ifndef AGENT_DEADLOCKS_H
#define AGENT_DEADLOCKS_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/profiles/profile.h"
#include "thread_dump.h"

/* Part of thread_dump_take: fills in stuck, deadlock and deadlock_count. */
void deadlocks_find(struct thread_dump *dump);

/* "mutex 0x7f.. held by 4243" of a stuck thread. */
enum { DEADLOCK_NEED_MAX = 160 };
void deadlock_describe_need(const struct dumped_thread *thread, char out[DEADLOCK_NEED_MAX]);
/* "4242 (worker) waits for mutex 0x7f.. held by 4243; ...": one line, printable. */
enum { DEADLOCK_LINE_MAX = 1024 };
void deadlock_describe(const struct thread_dump *dump, uint32_t deadlock,
                       char line[DEADLOCK_LINE_MAX]);
/* "behind it: 4250, 4251"; false: nobody is. */
bool deadlock_describe_behind(const struct thread_dump *dump, uint32_t deadlock,
                              char line[DEADLOCK_LINE_MAX]);

/* Stuck threads as a profile, a sample each. NULL: out of memory. */
struct profile *deadlock_profile_build(const struct thread_dump *dump);

/* A dump in which there is a deadlock, or NULL: there is none, or nobody looked. For pages that are
 * asked for often: each thread is looked at without its stack first (deadlock_suspicion.c), and not
 * at all where there are more than so many of them. */
enum { DEADLOCK_THREADS_MAX = 1000 };
struct thread_dump *deadlocks_look(void);

/* How many threads were stuck when somebody last looked. */
uint32_t deadlocks_stuck_threads(void);
void deadlocks_found(uint32_t threads);

#endif

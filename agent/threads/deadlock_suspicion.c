/* Whether a dump would be worth its while: futexes that are waited for without a limit, and what
 * could be a holder beside each, without asking what kind of lock it is. */
#include <linux/futex.h>
#include <sys/syscall.h>

#include "agent/runtime/agent_memory.h"
#include "agent/runtime/own_memory.h"
#include "agent/runtime/task_files.h"
#include "blocked_thread.h"
#include "deadlocks.h"
#include "thread_list.h"

/* From the futex on: a mutex that inherits priority or a thread's end; a mutex; a read-write lock's
 * writer, for writers and for readers (wait_reason.c). */
enum { WORDS = 5, MAYBE_HOLDERS = 4 };
static const uint32_t holder_words[MAYBE_HOLDERS] = {0, 2, 3, 4};

struct suspect {
  int32_t tid;
  bool waits; /* it has not been cleared yet */
  int32_t holders[MAYBE_HOLDERS]; /* 0: none */
};

static bool waits_without_limit(const struct blocked_thread *thread) {
  int operation = (int)(thread->arguments[1] & FUTEX_CMD_MASK);
  bool waits = operation == FUTEX_WAIT || operation == FUTEX_WAIT_BITSET ||
               operation == FUTEX_LOCK_PI || operation == 13 /* FUTEX_LOCK_PI2 */;
  return thread->number == SYS_futex && waits && thread->arguments[3] == 0;
}

/* As glibc's mutex is while it is waited for: locked with waiters, a holder, users, a small kind.
 * Or as a join: shared, the number of the thread that is to end. */
static bool holder_has_ended(const struct blocked_thread *thread, const uint32_t words[WORDS]) {
  enum { LOCKED_WITH_WAITERS = 2, KINDS = 0x400 };
  bool is_private = thread->arguments[1] & FUTEX_PRIVATE_FLAG;
  bool is_mutex = is_private && thread->arguments[2] == LOCKED_WITH_WAITERS &&
                  words[0] == LOCKED_WITH_WAITERS && words[3] > 0 && words[4] < KINDS;
  bool is_join = !is_private && words[0] == (uint32_t)thread->arguments[2];
  uint32_t holder = is_mutex ? words[2] : is_join ? words[0] : 0;
  return holder > 0 && holder <= FUTEX_TID_MASK && !task_is_alive((int32_t)holder);
}

/* True: there is something to look at already. */
static bool look(struct suspect *suspect, int32_t tid) {
  struct blocked_thread thread;
  uint32_t words[WORDS];
  *suspect = (struct suspect){.tid = tid};
  blocked_thread_open(&thread, tid);
  bool waits = blocked_thread_look(&thread) == THREAD_BLOCKED && waits_without_limit(&thread);
  blocked_thread_close(&thread);
  if (!waits || own_memory_read(thread.arguments[0], words, sizeof words) != (ssize_t)sizeof words)
    return false;
  suspect->waits = true;
  for (int i = 0; i < MAYBE_HOLDERS; i++)
    suspect->holders[i] = (int32_t)(words[holder_words[i]] & FUTEX_TID_MASK);
  bool parked = thread.arguments[2] == 0 && words[0] == 0 && thread.arguments[0] > thread.sp &&
                thread.arguments[0] - thread.sp < 512;
  return parked || holder_has_ended(&thread, words);
}

static bool may_wait_for_one_that_waits(const struct suspect *all, size_t count,
                                        const struct suspect *one) {
  for (size_t i = 0; i < count; i++)
    for (int h = 0; h < MAYBE_HOLDERS && all[i].waits; h++)
      if (all[i].tid == one->holders[h]) return true;
  return false;
}

/* Whoever waits for nobody that waits can be no part of a cycle, nor, then, who waits for him: as
 * far as a few rounds clear. */
static bool some_may_be_in_a_cycle(struct suspect *all, size_t count) {
  enum { ROUNDS = 4 };
  size_t left = 0;
  for (int round = 0; round < ROUNDS; round++) {
    left = 0;
    for (size_t i = 0; i < count; i++) {
      all[i].waits = all[i].waits && may_wait_for_one_that_waits(all, count, &all[i]);
      left += all[i].waits;
    }
  }
  return left > 0;
}

static bool is_suspected(const struct thread_ids *ids) {
  struct suspect *suspects = agent_malloc((ids->count + 1) * sizeof *suspects);
  bool suspected = false;
  for (size_t i = 0; i < ids->count && suspects && !suspected; i++)
    suspected = look(&suspects[i], ids->tids[i]);
  if (suspects && !suspected) suspected = some_may_be_in_a_cycle(suspects, ids->count);
  agent_free(suspects);
  return suspected;
}

struct thread_dump *deadlocks_look(void) {
  struct thread_ids ids;
  if (!thread_list_read(&ids)) return NULL;
  bool looked = ids.count <= DEADLOCK_THREADS_MAX, suspected = looked && is_suspected(&ids);
  thread_list_release(&ids);
  if (looked && !suspected) deadlocks_found(0);
  struct thread_dump *dump = suspected ? thread_dump_take() : NULL;
  if (!dump || dump->deadlock_count) return dump;
  thread_dump_release(dump);
  return NULL;
}

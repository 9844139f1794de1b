/* links: test/agent_memory_libc.c */
/* The agent's own threads are told from the program's, also when the kernel gives a number anew.
 * The kernel's answer whether it knows a number is made up here; the threads are real. */
#include <sched.h>
#include <stdarg.h>
#include <time.h>

#include "agent/runtime/agent_thread.h"
#include "shim/base/counters.h"
#include "shim/base/raw_syscall.h"
#include "shim/threads/thread_registry.h"
#include "check.h"

struct shim_counters shim_counters;

static _Atomic int32_t given_anew; /* the kernel knows this number again */

long syscall(long number, ...) {
  va_list list;
  va_start(list, number);
  long a = va_arg(list, long), b = va_arg(list, long), c = va_arg(list, long),
       d = va_arg(list, long);
  va_end(list);
  if (number == SYS_tgkill && b == atomic_load(&given_anew)) return 0;
  long result = raw_syscall4(number, a, b, c, d);
  return result < 0 ? -1 : result;
}

static _Atomic int32_t tid;
static _Atomic bool may_end;

static void lives(void *unused) {
  (void)unused;
  atomic_store(&tid, (int32_t)raw_syscall4(SYS_gettid, 0, 0, 0, 0));
  while (!atomic_load(&may_end)) sched_yield();
}

static bool is_own(int32_t number) {
  int32_t tids[AGENT_THREAD_MAX];
  size_t count = agent_thread_ids(tids, AGENT_THREAD_MAX);
  for (size_t i = 0; i < count; i++)
    if (tids[i] == number) return true;
  return false;
}

/* Its number. */
static int32_t agent_thread_that_has_ended(void) {
  atomic_store(&tid, 0);
  atomic_store(&may_end, false);
  CHECK(agent_thread_create(NULL, AGENT_THREAD_STACK, lives, NULL) == 0);
  while (!atomic_load(&tid)) sched_yield();
  CHECK(is_own(tid) && agent_thread_count() == 1);
  atomic_store(&may_end, true);
  while (raw_syscall4(SYS_tgkill, raw_syscall4(SYS_getpid, 0, 0, 0, 0), tid, 0, 0) == 0)
    sched_yield();
  return tid;
}

static void test_a_thread_of_the_programs(void) {
  int32_t number = agent_thread_that_has_ended();
  uint32_t record = thread_registry_take(THREAD_CREATED);
  thread_registry_tell_tid(thread_registry_at(record), number);
  atomic_store(&given_anew, number);
  CHECK(!is_own(number) && agent_thread_count() == 0);
  CHECK(thread_registry_end_life(record, atomic_load(&thread_registry_at(record)->life)));
  thread_registry_recycle(record);
  atomic_store(&given_anew, 0);
}

/* One without a record cannot be told from ours, in its last moment, at once; in the end it is. */
static void test_a_bare_clone(void) {
  int32_t number = agent_thread_that_has_ended();
  atomic_store(&given_anew, number);
  int64_t deadline = agent_monotonic_nanoseconds() + INT64_C(60000000000);
  while (is_own(number) && agent_monotonic_nanoseconds() < deadline) sched_yield();
  CHECK(!is_own(number) && agent_thread_count() == 0);
  atomic_store(&given_anew, 0);
}

/* And one whose number nobody has. */
static void test_one_that_has_ended(void) {
  int32_t number = agent_thread_that_has_ended();
  CHECK(!is_own(number) && agent_thread_count() == 0);
}

int main(void) {
  test_a_thread_of_the_programs();
  test_a_bare_clone();
  test_one_that_has_ended();
  return failures != 0;
}

#define _GNU_SOURCE
#include "civetweb_alone.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "agent/runtime/agent_memory.h"
#include "agent/runtime/agent_thread.h"

enum { WORKER, ACCEPTOR, ROUTINES };
static const size_t GUARD_SIZE = 64 << 10, STACK_SIZE = AGENT_THREAD_STACK;

struct routine {
  ucontext_t context;
  void *(*main)(void *);
  void *argument;
  bool ended;
};

static struct routine routines[ROUTINES];
static struct routine *current; /* NULL: neither */
static unsigned created;
static ucontext_t outside;
static char *stacks; /* each with its guard below it */
static _Atomic bool alone; /* written by the admin thread, read for a page: a mere flag */

const char civetweb_alone_text[] =
    "no thread can be created (RLIMIT_NPROC, the cgroup's pids.max): "
    "requests are answered one at a time";

bool civetweb_is_alone(void) { return atomic_load_explicit(&alone, memory_order_relaxed); }

bool civetweb_alone_begin(void) {
  const size_t each = GUARD_SIZE + STACK_SIZE;
  stacks = agent_pages_map(ROUTINES * each);
  if (!stacks) return false;
  bool usable = getcontext(&outside) == 0;
  for (int i = 0; i < ROUTINES && usable; i++)
    usable = mprotect(stacks + i * each, GUARD_SIZE, PROT_NONE) == 0;
  if (!usable) {
    agent_pages_unmap(stacks, ROUTINES * each);
    return false;
  }
  memset(routines, 0, sizeof routines);
  created = 0;
  atomic_store_explicit(&alone, true, memory_order_relaxed);
  return true;
}

void civetweb_alone_end(void) {
  agent_pages_unmap(stacks, ROUTINES * (GUARD_SIZE + STACK_SIZE));
  atomic_store_explicit(&alone, false, memory_order_relaxed);
}

/* Does not return: if libc then failed to go on with the linked context, it would end the process.
 */
static void run(void) {
  current->main(current->argument);
  current->ended = true;
  for (;;) civetweb_alone_yield();
}

void civetweb_alone_create(pthread_t *thread, void *(*main)(void *), void *argument) {
  struct routine *routine = &routines[created];
  routine->main = main;
  routine->argument = argument;
  getcontext(&routine->context);
  routine->context.uc_stack.ss_sp = stacks + created * (GUARD_SIZE + STACK_SIZE) + GUARD_SIZE;
  routine->context.uc_stack.ss_size = STACK_SIZE;
  makecontext(&routine->context, run, 0);
  *thread = (pthread_t)++created; /* any but 0, which is none to civetweb */
}

static void resume(struct routine *routine) {
  if (!routine->main || routine->ended) return;
  current = routine;
  swapcontext(&outside, &routine->context);
  current = NULL;
}

void civetweb_alone_yield(void) { swapcontext(&current->context, &outside); }

void civetweb_alone_accept(void) { resume(&routines[ACCEPTOR]); }

bool civetweb_alone_work(void) {
  resume(&routines[WORKER]);
  return !routines[WORKER].ended;
}

void civetweb_alone_join(void) {
  while (current && routines[WORKER].main && !routines[WORKER].ended) civetweb_alone_yield();
}

/* Whoever stops civetweb, until the acceptor says that all has ended. */
int civetweb_usleep(useconds_t microseconds) {
  if (!civetweb_is_alone() || current) return usleep(microseconds);
  resume(&routines[ACCEPTOR]);
  resume(&routines[WORKER]);
  return 0;
}

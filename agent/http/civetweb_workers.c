#include "civetweb_workers.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "shim/base/raw_syscall.h"
#include "agent/runtime/agent_thread.h"
#include "agent/runtime/bare_thread.h"
#include "civetweb_alone.h"

/* civetweb creates its acceptor last and does not look whether that worked. So it exists before
 * civetweb's workers, and waits here. */
enum { ACCEPTOR_WAITS, ACCEPTOR_RUNS, ACCEPTOR_LEAVES };
static struct {
  _Atomic uint32_t state;
  struct agent_thread thread;
  void *(*start)(void *);
  void *argument;
} acceptor;
static unsigned workers_meant; /* this and the next two: admin thread only */
static unsigned threads_wanted; /* by civetweb since its start */
static bool worker_failed;
static _Atomic unsigned workers_alive; /* one that finds no memory for its buffer ends at once */
static void *(*worker_start)(void *);

static void acceptor_main(void *ignored) {
  (void)ignored;
  bare_thread_enter_libc();
  while (atomic_load_explicit(&acceptor.state, memory_order_acquire) == ACCEPTOR_WAITS)
    raw_futex_wait(&acceptor.state, ACCEPTOR_WAITS, NULL);
  if (acceptor.state == ACCEPTOR_RUNS) acceptor.start(acceptor.argument);
}

static void tell_acceptor(uint32_t state) {
  atomic_store_explicit(&acceptor.state, state, memory_order_release);
  raw_futex_wake(&acceptor.state, 1);
}

bool civetweb_workers_prepare(unsigned count) {
  workers_meant = count;
  atomic_store_explicit(&acceptor.state, ACCEPTOR_WAITS, memory_order_relaxed);
  int error = agent_thread_create(&acceptor.thread, AGENT_THREAD_STACK, acceptor_main, NULL);
  threads_wanted = 0;
  atomic_store(&workers_alive, 0);
  worker_failed = false;
  return error == 0;
}

void civetweb_workers_abandon(void) {
  tell_acceptor(ACCEPTOR_LEAVES);
  agent_thread_join(acceptor.thread);
}

static void worker_main(void *argument) {
  bare_thread_enter_libc();
  worker_start(argument);
  atomic_fetch_sub(&workers_alive, 1);
}

bool civetweb_has_workers(void) { return civetweb_is_alone() || atomic_load(&workers_alive) > 0; }

bool civetweb_workers_create(struct agent_thread *thread, void *(*main)(void *), void *argument) {
  if (threads_wanted++ == workers_meant || worker_failed) {
    acceptor.start = main;
    acceptor.argument = argument;
    *thread = acceptor.thread;
    tell_acceptor(ACCEPTOR_RUNS);
    return true;
  }
  worker_start = main;
  atomic_fetch_add(&workers_alive, 1);
  worker_failed = agent_thread_create(thread, AGENT_THREAD_STACK, worker_main, argument) != 0;
  if (worker_failed) atomic_fetch_sub(&workers_alive, 1);
  return !worker_failed;
}

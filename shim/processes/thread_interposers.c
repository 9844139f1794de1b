/* Threads at their birth and at their end: who created them, from where; and their CPU timer while
 * a profile runs. */
#undef __EXCEPTIONS /* the cleanup handler by setjmp: the one with a landing pad would need an \
                       unwinder in this library */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <threads.h>
#include <unistd.h>

#include "shim/base/agent_hooks.h"
#include "shim/base/config.h"
#include "shim/base/confinement.h"
#include "shim/base/counters.h"
#include "shim/cpu/cpu_sampling.h"
#include "shim/stacks/captured_stack.h"
#include "shim/stacks/handler_stack.h"
#include "shim/next/interposed.h"
#include "shim/locks/lock_waits.h"
#include "shim/next/next_functions.h"
#include "shim/base/raw_syscall.h"
#include "shim/cpu/sampling_signal.h"
#include "shim/base/stack_size.h"
#include "shim/next/startup.h"
#include "shim/threads/thread_registry.h"
#include "shim/base/thread_state.h"
#include "shim/threads/threadcreate_table.h"

/* ---- the new thread ---- */

#define TRAMPOLINE __attribute__((noinline, section("thread_trampolines")))

static struct thread_record *thread_starts(uint32_t number) {
  struct thread_record *record = thread_registry_at(number);
  thread_state.record = number;
  stack_size_thread_starts(atomic_load_explicit(&record->stack_class, memory_order_relaxed));
  if (confinement_forbids_calls()) return record; /* it is not shown: there is no agent */
  thread_registry_tell_tid(record, (int32_t)raw_syscall4(SYS_gettid, 0, 0, 0, 0));
  sampling_signal_thread_starts(record);
  cpu_sampling_thread_starts(number);
  return record;
}

static void give_record_back(uint32_t number) {
  struct thread_record *record = thread_registry_at(number);
  uint32_t stack = atomic_load_explicit(&record->creation_stack, memory_order_relaxed);
  thread_state.record = 0;
  if (!thread_registry_end_life(number, atomic_load_explicit(&record->life, memory_order_relaxed)))
    return;
  if (!confinement_forbids_calls()) cpu_sampling_disarm(number); /* else the sampler's stop does */
  atomic_store_explicit(&record->signal_let_in, false, memory_order_relaxed);
  thread_registry_recycle(number);
  threadcreate_table_ended(stack);
}

/* By return, pthread_exit, thrd_exit and cancellation. */
static void thread_ends(void *argument) {
  if (UNLIKELY(thread_state.waiting != NULL)) lock_waits_abandon();
  lock_wait_thread_ends();
  uint32_t number = (uint32_t)(uintptr_t)argument;
  int32_t tid = atomic_load_explicit(&thread_registry_at(number)->tid, memory_order_relaxed);
  /* it has forked, and is the child's first thread */
  if (agent_is_process(tid)) agent_main_thread_exits();
  give_record_back(number);
}

/* Past the thread library: else its record would be the next thread's that the kernel gives the
 * same number. Storage that looks like this thread's may be another's (raw clone, vfork). */
void thread_ends_by_system_call(void) {
  uint32_t number = thread_state.record;
  if (number == 0 || confinement_forbids_calls()) return;
  int32_t tid = atomic_load_explicit(&thread_registry_at(number)->tid, memory_order_relaxed);
  if (tid != (int32_t)raw_syscall4(SYS_gettid, 0, 0, 0, 0)) return;
  if (thread_state.waiting != NULL) lock_waits_abandon();
  give_record_back(number);
}

static TRAMPOLINE void *start_posix_thread(void *argument) {
  struct thread_record *record = thread_starts((uint32_t)(uintptr_t)argument);
  void *(*start)(void *) = (void *(*)(void *))record->start, *result;
  pthread_cleanup_push(thread_ends, argument);
  result = start(record->argument);
  pthread_cleanup_pop(1);
  return result;
}

static TRAMPOLINE int start_c11_thread(void *argument) {
  struct thread_record *record = thread_starts((uint32_t)(uintptr_t)argument);
  int (*start)(void *) = (int (*)(void *))record->start, result;
  pthread_cleanup_push(thread_ends, argument);
  result = start(record->argument);
  pthread_cleanup_pop(1);
  return result;
}

/* ---- its creator ---- */

struct creators_stack {
  const struct unwind_registers *caller;
  uint32_t id; /* stack_table.h; 0: it could not be kept */
};

static void keep_creators_stack(void *argument) {
  struct creators_stack *creators = argument;
  CAPTURED_STACK(stack);
  stack_capture(creators->caller, stack);
  creators->id = captured_stack_intern(stack);
}

/* 0: the thread is created as if we were not there. */
static uint32_t creation_begins(const struct unwind_registers *caller,
                                const pthread_attr_t *attributes, void *start, void *argument) {
  if (config.is_off || next_allocator.valgrind) return 0;
  if (!startup_is_over()) return 0; /* also an agent thread's */
  if (confinement_forbids_calls()) { /* not even gettid */
    COUNT_LOSS(threads_lost);
    return 0;
  }
  struct creators_stack creators = {caller, 0};
  handler_stack_call(keep_creators_stack, &creators);
  uint32_t id = creators.id;
  threadcreate_table_created(id);
  uint32_t number = thread_registry_take(THREAD_CREATED);
  if (!number) {
    threadcreate_table_failed(id);
    return 0;
  }
  struct thread_record *record = thread_registry_at(number);
  atomic_store_explicit(&record->creator, (int32_t)raw_syscall4(SYS_gettid, 0, 0, 0, 0),
                        memory_order_relaxed);
  atomic_store_explicit(&record->creation_stack, id, memory_order_relaxed);
  bool lets_in = sampling_signal_let_in() != NULL; /* and so does what it creates */
  atomic_store_explicit(&record->signal_let_in, lets_in, memory_order_relaxed);
  atomic_store_explicit(&record->stack_class, stack_size_class(attributes), memory_order_relaxed);
  record->start = start;
  record->argument = argument;
  return number;
}

static void creation_failed(uint32_t number) {
  struct thread_record *record = thread_registry_at(number);
  threadcreate_table_failed(atomic_load_explicit(&record->creation_stack, memory_order_relaxed));
  thread_registry_end_life(number, atomic_load_explicit(&record->life, memory_order_relaxed));
  thread_registry_recycle(number);
}

EXPORTED int pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                            void *(*start)(void *), void *argument) {
  struct unwind_registers caller = CALLER_REGISTERS();
  uint32_t number = creation_begins(&caller, attributes, (void *)start, argument);
  if (!number) return NEXT_OF(pthread_create)(thread, attributes, start, argument);
  int error =
      real.pthread_create(thread, attributes, start_posix_thread, (void *)(uintptr_t)number);
  if (error) creation_failed(number);
  if (UNLIKELY(agent_start_is_due())) agent_start_late();
  return error;
}

EXPORTED int thrd_create(thrd_t *thread, thrd_start_t start, void *argument) {
  struct unwind_registers caller = CALLER_REGISTERS();
  uint32_t number = creation_begins(&caller, NULL, (void *)start, argument);
  if (!number) return NEXT_OF(thrd_create)(thread, start, argument);
  int result = real.thrd_create(thread, start_c11_thread, (void *)(uintptr_t)number);
  if (result != thrd_success) creation_failed(number);
  if (UNLIKELY(agent_start_is_due())) agent_start_late();
  return result;
}

/* ---- the first thread ---- */

static void thread_exits(void) {
  if (UNLIKELY(thread_state.waiting != NULL)) lock_waits_abandon();
  if (stack_capture_is_first_thread()) agent_main_thread_exits();
}

EXPORTED __attribute__((noreturn)) void pthread_exit(void *value) {
  if (real.pthread_exit) thread_exits();
  NEXT_OF(pthread_exit)(value);
  __builtin_unreachable();
}

EXPORTED __attribute__((noreturn)) void thrd_exit(int value) {
  if (real.thrd_exit) thread_exits();
  NEXT_OF(thrd_exit)(value);
  __builtin_unreachable();
}

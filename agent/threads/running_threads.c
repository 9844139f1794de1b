#include "running_threads.h"

#include <stdio.h>

#include "shim/cpu/cpu_sampling.h"
#include "shim/stacks/host_handlers.h"
#include "shim/stacks/stack_table.h"
#include "agent/runtime/agent_memory.h"
#include "agent/runtime/allowed_calls.h"
#include "agent/runtime/sandbox.h"
#include "thread_list.h"

struct asked_thread {
  int32_t tid;
  int token; /* -1: done */
  size_t index;
};

struct running_threads {
  const char *off_reason; /* why no thread can be asked, or NULL */
  size_t count;
  struct asked_thread asked[];
};

/* Written at each dump, with the same number: the signal is chosen once. */
static char blocks_signal[64];

static uint64_t buffer_size(size_t threads) {
  enum { SMALLEST = 1 << 16, LARGEST = 1 << 24 };
  uint64_t most = sizeof(struct stack_sample) + (stack_depth() + 1) * sizeof(uint64_t) + 64;
  uint64_t wanted = threads * most, size = SMALLEST;
  while (size < wanted && size < LARGEST) size *= 2;
  return size;
}

struct running_threads *running_threads_begin(size_t most) {
  struct running_threads *threads = agent_malloc(sizeof *threads + most * sizeof threads->asked[0]);
  if (!threads) return NULL;
  threads->count = 0;
  threads->off_reason = allowed_calls_lack(CALLS_SAMPLING);
  if (!threads->off_reason) threads->off_reason = cpu_sampling_prepare();
  if (!threads->off_reason) host_handlers_settle();
  if (!threads->off_reason && !sample_buffer_open(&dump_samples, buffer_size(most))) {
    agent_free(threads);
    return NULL;
  }
  snprintf(blocks_signal, sizeof blocks_signal,
           "it runs and blocks signal %d, by which it would be asked", cpu_sampling_signal());
  return threads;
}

void running_threads_end(struct running_threads *threads) {
  if (!threads) return;
  for (size_t i = 0; i < threads->count; i++)
    if (threads->asked[i].token >= 0) cpu_sampling_withdraw_request(threads->asked[i].token);
  if (!threads->off_reason) sample_buffer_close(&dump_samples);
  agent_free(threads);
}

const char *running_threads_ask(struct running_threads *threads, int32_t tid, uint32_t record,
                                size_t index, bool is_blocked) {
  if (threads->off_reason) return threads->off_reason;
  if (!record) return "there is no record of it by which it could be asked";
  if (sandbox_is_tighter(tid))
    return "it is under a seccomp filter of the program's own, and is not asked";
  if (thread_blocks_signal(tid, cpu_sampling_signal())) return blocks_signal;
  int token = cpu_sampling_request_stack(record, is_blocked);
  if (token < 0) return "there is no timer left by which it could be asked";
  threads->asked[threads->count++] = (struct asked_thread){tid, token, index};
  return NULL;
}

static void finish(struct asked_thread *asked) {
  if (asked->token >= 0) cpu_sampling_withdraw_request(asked->token);
  asked->token = -1;
}

void running_threads_forget(struct running_threads *threads, size_t index) {
  for (size_t i = 0; i < threads->count; i++)
    if (threads->asked[i].index == index) finish(&threads->asked[i]);
}

const struct stack_sample *running_threads_next(struct running_threads *threads, size_t *index) {
  const struct stack_sample *sample;
  if (threads->off_reason) return NULL;
  while ((sample = sample_buffer_next(&dump_samples)))
    for (size_t i = 0; i < threads->count; i++) {
      if (threads->asked[i].tid != sample->tid || threads->asked[i].token < 0) continue;
      finish(&threads->asked[i]);
      *index = threads->asked[i].index;
      return sample;
    }
  return NULL;
}

#include "stub_threads.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/runtime/agent_thread.h"
#include "agent/runtime/bare_thread.h"
#include "agent/cpu/cpu_counters.h"
#include "agent/cpu/ring_sampling.h"
#include "agent/runtime/sandbox.h"
#include "agent/threads/thread_list.h"
#include "agent/threads/thread_records.h"
#include "agent/threads/wall_profile.h"
#include "shim/cpu/interrupted_call.h"
#include "shim/threads/thread_registry.h"

struct stub_threads stub_threads;

enum { FIRST_TID = 100 };

static struct thread_record records[STUB_MAX_THREADS];

/* agent/threads/thread_list.h, agent/threads/thread_records.h, agent/runtime/sandbox.h */
bool thread_list_read(struct thread_ids *out) {
  out->count = stub_threads.count;
  out->tids = malloc((STUB_MAX_THREADS + 1) * sizeof *out->tids);
  for (uint32_t i = 0; i < stub_threads.count; i++) out->tids[i] = FIRST_TID + (int32_t)i;
  return true;
}
void thread_list_release(struct thread_ids *ids) { free(ids->tids); }
bool thread_blocks_signal(int32_t tid, int signal) {
  return signal == cpu_sampling_signal() && stub_threads.blocks_signal[tid - FIRST_TID];
}
void thread_records_match(const struct thread_ids *ids, uint32_t *numbers) {
  for (size_t i = 0; i < ids->count; i++) {
    numbers[i] = (uint32_t)i + 1;
    atomic_store(&records[i].life, 1);
  }
}
bool sandbox_is_tighter(int32_t tid) {
  return tid && stub_threads.sandboxed[tid - FIRST_TID];
} /* 0: the agent's own thread */

/* shim/threads/thread_registry.h, shim/threads/threadcreate_table.h, shim/cpu/interrupted_call.h */
struct thread_record *thread_registry_at(uint32_t number) {
  return &records[number - 1];
}
uint32_t thread_registry_count(void) { return stub_threads.count; }
uint64_t thread_registry_bytes(void) { return 65536; }
bool threadcreate_table_read(uint32_t index, struct threadcreate_view *out) {
  if (index >= stub_threads.created_stack_count) return false;
  *out = stub_threads.created_stacks[index];
  return true;
}
void threadcreate_totals(uint64_t *created, uint64_t *ended) {
  *created = stub_threads.created;
  *ended = stub_threads.ended;
}
_Atomic uint64_t interrupted_calls_restarted;

/* agent/runtime/agent_thread.h */
int64_t agent_monotonic_nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}
uint64_t agent_thread_cpu_nanoseconds(void) { return 12345678; }

/* shim/cpu/cpu_sampling.h */
struct sample_buffer cpu_samples, dump_samples;
const char *cpu_sampling_prepare(void) {
  stub_threads.handler_installed = !stub_threads.refusal;
  return stub_threads.refusal;
}
const char *cpu_sampling_set_period(uint64_t nanoseconds) {
  stub_threads.period = nanoseconds;
  stub_threads.periods_set++;
  for (int i = 0; i < STUB_MAX_THREADS && nanoseconds == 0; i++) {
    stub_threads.armed[i] = false;
    atomic_store(&records[i].timer, 0);
  }
  return NULL;
}
enum cpu_arming cpu_sampling_arm(uint32_t record, bool signal_blocked) {
  if (signal_blocked) return CPU_NOT_ARMED_BLOCKED;
  if (stub_threads.no_timer_left[record - 1]) return CPU_NOT_ARMED_LIMIT;
  stub_threads.armed[record - 1] = true;
  stub_threads.armings++;
  atomic_store(&records[record - 1].timer, 1);
  return CPU_ARMED;
}
void cpu_sampling_let_threads_arm_themselves(bool yes) { stub_threads.arm_themselves = yes; }
uint32_t cpu_sampling_timers(void) { return 0; }
int cpu_sampling_signal(void) { return stub_threads.handler_installed ? 16 : 0; }

bool stub_threads_sample(int32_t tid, const char *name, uint32_t ticks, const uint64_t *frames,
                         uint32_t frame_count) {
  struct stack_sample sample = {.tid = tid,
                                .ticks = ticks,
                                .nanoseconds = ticks * stub_threads.period,
                                .epoch = 1,
                                .frame_count = frame_count};
  strncpy(sample.name, name, SAMPLE_NAME_SIZE - 1);
  return sample_buffer_write(&cpu_samples, &sample, frames);
}

/* agent/cpu/ring_sampling.h, agent/runtime/bare_thread.h */
const char *ring_sampling_refusal(void) { return "no rings here"; }
bool ring_sampling_start(void) { return false; }
void ring_sampling_set_period(uint64_t nanoseconds) { (void)nanoseconds; }
void ring_sampling_stop(void) {}
struct ring_sampling_threads ring_sampling_look(ring_sampling_sink *sink) {
  (void)sink;
  return (struct ring_sampling_threads){0, 0};
}
void ring_sampling_drain(ring_sampling_sink *sink) { (void)sink; }
void ring_sampling_wait(void) {}
void ring_sampling_wake(void) {}
uint32_t ring_sampling_count(void) { return 0; }
uint64_t ring_sampling_bytes(void) { return 0; }
uint64_t ring_sampling_merged(void) { return 0; }
void bare_thread_enter_libc(void) {}
int agent_thread_create(struct agent_thread *thread, size_t stack_size, void (*start)(void *),
                        void *argument) {
  (void)thread, (void)stack_size, (void)start, (void)argument;
  return EAGAIN;
}

/* agent/cpu/cpu_counters.h */
void cpu_counters_saw(uint32_t record, int32_t tid, uint64_t period) {
  (void)record, (void)tid, (void)period;
  stub_threads.counters_open = true;
}
void cpu_counters_sweep(void) {}
void cpu_counters_close(void) { stub_threads.counters_open = false; }
uint32_t cpu_counters_open_count(void) { return stub_threads.counters_open; }
const char *cpu_counters_off_reason(void) { return NULL; }

/* agent/threads/thread_dump.h: two threads of the fixture's program in the same place, a third
 * elsewhere */
struct thread_dump *thread_dump_take(void) {
  static const uint64_t working[] = {0x7f0000001020, 0x401010},
                        making[] = {0x401210, 0x401110, 0x401010};
  stub_threads.dumps_taken++;
  if (stub_threads.dump_fails) return NULL;
  stub_threads.dumps_open++;
  struct thread_dump *dump = calloc(1, sizeof *dump);
  dump->time_nanos = 1000000000000 + 1000000000LL * stub_threads.dumps_taken;
  dump->count = stub_threads.count;
  dump->threads = calloc(STUB_MAX_THREADS, sizeof *dump->threads);
  dump->mappings = mappings_collect();
  dump->symbols = symbolizer_open();
  for (uint32_t i = 0; i < stub_threads.count; i++) {
    struct dumped_thread *thread = &dump->threads[i];
    *thread = (struct dumped_thread){.tid = FIRST_TID + (int32_t)i,
                                     .name = "worker",
                                     .is_main = i == 0,
                                     .syscall = -1,
                                     .epoch = 1,
                                     .blocked_nanoseconds = -1,
                                     .state = i == 0 ? "running" : "IO wait",
                                     .frames = i == 0 ? making : working,
                                     .frame_count = i == 0 ? 3 : 2};
  }
  return dump;
}
void thread_dump_release(struct thread_dump *dump) {
  if (!dump) return;
  stub_threads.dumps_open--;
  symbolizer_close(dump->symbols);
  mappings_release(dump->mappings);
  free(dump->threads);
  free(dump);
}

void thread_dump_keep_stuck(struct thread_dump *dump) { dump->count = 0; }

/* agent/threads/deadlocks.h: nobody is stuck */
struct thread_dump *deadlocks_look(void) {
  return NULL;
}
uint32_t deadlocks_stuck_threads(void) { return 0; }

bool host_handlers_adopt_all(void) { return true; }
void host_handlers_settle(void) {}
uint64_t thread_cpu_nanoseconds(int32_t tid) {
  return stub_threads.cpu[tid - FIRST_TID] += stub_threads.cpu_step;
}

/* agent/threads/wall_profile.h: there is no memory for one */
enum wall_profile_result wall_profile_collect(struct http_response *response, int64_t seconds,
                                              uint32_t hz, struct wall_options options,
                                              struct profile **out) {
  (void)response, (void)seconds, (void)hz, (void)options;
  *out = NULL;
  return WALL_PROFILE_NO_MEMORY;
}
struct wall_profile_status wall_profile_status(void) {
  return (struct wall_profile_status){0};
}

/* sanitizer: thread */
/* Arming against the sampler's stop, a change of its period and the thread's end, at each moment in
 * between: every timer that exists is deleted by the stop or by its own thread. And a storm of all
 * of it. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shim/base/counters.h"
#include "shim/cpu/cpu_sampling.h"
#include "shim/cpu/interrupted_call.h"
#include "shim/stacks/module_registry.h"
#include "shim/cpu/sampling_signal.h"
#include "shim/stacks/stack_capture.h"
#include "shim/threads/thread_registry.h"
#include "check.h"

struct shim_counters shim_counters;

/* ---- what arming calls on its way, where a test cuts in ---- */

static _Thread_local void (*when_asked_for_the_mask)(void), (*when_a_timer_is_made)(void);

static void cut_in(void (**what)(void)) {
  void (*now)(void) = *what;
  *what = NULL;
  if (now) now();
}

bool sampling_signal_is_blocked(void) {
  cut_in(&when_asked_for_the_mask);
  return false;
}
int sampling_signal(void) {
  cut_in(&when_a_timer_is_made);
  return SIGURG;
}
const char *sampling_signal_choose(void) { return NULL; }

/* ---- not reached: SIGURG is ignored here ---- */

void stack_capture_interrupted(const struct unwind_registers *registers,
                               struct thread_state *thread, struct captured_stack *out) {
  (void)registers, (void)thread, (void)out;
}
uint32_t module_registry_epoch_of(const uint64_t *frames, uint32_t count) {
  return (void)frames, (void)count, 0;
}
void interrupted_call_restart(ucontext_t *context) { (void)context; }

/* ---- */

enum { PERIOD = 10000000, OTHER_PERIOD = 1000000 };

static void stop(void) { cpu_sampling_set_period(0); }
static void change(void) { cpu_sampling_set_period(OTHER_PERIOD); }

/* The kernel's own list; 0 where it has none. */
static unsigned kernels_timers(void) {
  char line[200];
  unsigned count = 0;
  FILE *file = fopen("/proc/self/timers", "r");
  while (file && fgets(line, sizeof line, file)) count += strncmp(line, "ID:", 3) == 0;
  if (file) fclose(file);
  return count;
}

static bool no_timers(void) { return cpu_sampling_timers() == 0 && kernels_timers() == 0; }

static uint32_t born(void) {
  uint32_t number = thread_registry_take(THREAD_CREATED);
  thread_registry_tell_tid(thread_registry_at(number), (int32_t)syscall(SYS_gettid));
  return number;
}

static void dies(uint32_t number) {
  if (!thread_registry_end_life(number, atomic_load(&thread_registry_at(number)->life))) return;
  cpu_sampling_disarm(number);
  thread_registry_recycle(number);
}

static uint32_t subject;
static void subject_dies(void) { dies(subject); }
static void another_has_its_record(void) {
  dies(subject);
  CHECK(born() == subject);
  cpu_sampling_thread_starts(subject);
  CHECK(cpu_sampling_timers() == 1);
}

static void test_thread_that_starts_while_the_sampler_stops(void) {
  void (**moments[])(void) = {&when_asked_for_the_mask, &when_a_timer_is_made};
  for (unsigned i = 0; i < 2; i++) {
    CHECK(cpu_sampling_set_period(PERIOD) == NULL);
    uint32_t number = born();
    *moments[i] = stop;
    cpu_sampling_thread_starts(number);
    CHECK(no_timers() && atomic_load(&thread_registry_at(number)->timer) == 0);
    dies(number);
    CHECK(no_timers());
  }
}

static void test_thread_that_starts_while_the_period_changes(void) {
  CHECK(cpu_sampling_set_period(PERIOD) == NULL);
  uint32_t number = born();
  when_a_timer_is_made = change;
  cpu_sampling_thread_starts(number);
  CHECK(cpu_sampling_timers() == 1 && atomic_load(&thread_registry_at(number)->timer) > 0);
  stop();
  CHECK(no_timers());
  dies(number);
}

static void test_thread_that_ends_while_the_agent_arms_it(void) {
  CHECK(cpu_sampling_set_period(PERIOD) == NULL);
  subject = born();
  when_a_timer_is_made = subject_dies;
  CHECK(cpu_sampling_arm(subject, false) == CPU_NOT_ARMED_GONE);
  CHECK(no_timers());

  subject = born();
  when_a_timer_is_made = another_has_its_record;
  cpu_sampling_arm(subject, false);
  CHECK(cpu_sampling_timers() == 1 && atomic_load(&thread_registry_at(subject)->timer) > 0);
  dies(subject);
  CHECK(no_timers());
  stop();
}

/* ---- the storm ---- */

enum { CREATORS = 3, PROFILES = 200, BIRTHS = 5000 };
static _Atomic bool over;
static _Atomic int births;

static void *short_life(void *argument) {
  uint32_t number = (uint32_t)(uintptr_t)argument;
  thread_registry_tell_tid(thread_registry_at(number), (int32_t)syscall(SYS_gettid));
  cpu_sampling_thread_starts(number);
  dies(number);
  atomic_fetch_add(&births, 1);
  return NULL;
}

static void *creates(void *unused) {
  while (!atomic_load(&over)) {
    pthread_t thread;
    uint32_t number = thread_registry_take(THREAD_CREATED);
    if (pthread_create(&thread, NULL, short_life, (void *)(uintptr_t)number) == 0)
      pthread_join(thread, NULL);
    else thread_registry_end_life(number, atomic_load(&thread_registry_at(number)->life));
  }
  return unused;
}

static void test_storm(void) {
  pthread_t creators[CREATORS];
  for (int i = 0; i < CREATORS; i++) CHECK(pthread_create(&creators[i], NULL, creates, NULL) == 0);
  for (int profile = 0; profile < PROFILES || atomic_load(&births) < BIRTHS; profile++) {
    CHECK(cpu_sampling_set_period(profile % 2 ? PERIOD : OTHER_PERIOD) == NULL);
    for (int scan = 0; scan < 20; scan++)
      for (uint32_t number = thread_registry_count(); number > 0; number--)
        cpu_sampling_arm(number, false);
    if (profile % 3 == 0) change();
    stop();
  }
  atomic_store(&over, true);
  for (int i = 0; i < CREATORS; i++) pthread_join(creators[i], NULL);
  CHECK(no_timers());
}

int main(void) {
  test_thread_that_starts_while_the_sampler_stops();
  test_thread_that_starts_while_the_period_changes();
  test_thread_that_ends_while_the_agent_arms_it();
  test_storm();
  return failures != 0;
}

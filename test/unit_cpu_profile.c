/* links: test/stub_http_server.c test/fixture_profile.c test/stub_tables.c test/stub_threads.c
 *      test/agent_memory_libc.c test/stub_announced_code.c */
/* Clients that share the sampler: windows, rates, bounds, what stops it, and what the comments say
 * of losses. The host is played: http_wait calls what a test lets happen meanwhile. */
#include "agent/cpu/cpu_profile.h"

#include <string.h>
#include <time.h>

#include "agent/runtime/agent_memory.h"
#include "agent/cpu/cpu_coverage.h"
#include "agent/pages/routes.h"
#include "shim/base/counters.h"
#include "fixture_profile.h"
#include "stub_http_server.h"
#include "stub_threads.h"
#include "check.h"

extern int64_t agent_memory_fail_after;

enum { MAKE = 0x401210, INNER = 0x401110, MAIN = 0x401010, FOO = 0x7f0000001020 };
static const uint64_t making[] = {MAKE, INNER, MAIN}, working[] = {FOO, MAIN},
                      jit[] = {0x7f2000001011, 2};

void routes_handle(const struct http_request *request) { (void)request; }

static void reset(uint32_t threads) {
  stub_threads = (struct stub_threads){.count = threads};
  for (uint32_t i = 1; i <= STUB_MAX_THREADS; i++) cpu_sampling_set_period(0);
  stub_threads.periods_set = 0;
}

static struct profile *collect(struct http_response *response, int64_t seconds, uint32_t hz,
                               enum cpu_profile_result want) {
  struct profile *profile;
  const char *reason;
  enum cpu_profile_result result = cpu_profile_collect(response, seconds, hz, &profile, &reason);
  CHECK(result == want && (profile != NULL) == (want == CPU_PROFILE_DONE));
  return profile;
}

/* The sum of values[which] over samples with this leaf address and thread; tid 0, name NULL: any.
 */
static int64_t sum(const struct profile *profile, uint64_t leaf, int32_t tid, const char *name,
                   int which) {
  int64_t total = 0;
  for (size_t i = 0; i < profile->sample_count; i++) {
    const struct profile_sample *sample = &profile->samples[i];
    if (leaf && profile->locations[sample->locations[0]].address != leaf - 1) continue;
    bool matches = true;
    for (uint32_t l = 0; l < sample->label_count; l++) {
      const struct profile_label *label = &sample->labels[l];
      if (strcmp(label->key, "tid") == 0)
        matches = matches && !label->text && (!tid || label->number == tid);
      else
        matches = matches && strcmp(label->key, "thread_name") == 0 &&
                  (!name || strcmp(label->text, name) == 0);
    }
    if (matches) total += sample->values[which];
  }
  return total;
}

/* ---- one client ---- */

static int slices;

static void sample_some(void) {
  if (++slices != 5) return;
  stub_threads_sample(100, "main", 1, making, 3);
  stub_threads_sample(101, "worker", 1, making, 3);
  stub_threads_sample(101, "worker", 4, making, 3); /* ticks that came late */
  stub_threads_sample(101, "renamed", 1, making, 3);
  stub_threads_sample(101, "wor\nker", 1, jit, 2);
  stub_threads_sample(100, "", 2, working, 2);
}

static void test_one_client(void) {
  reset(2);
  slices = 0;
  struct http_response response = {.wait_result = true, .during_wait = sample_some};
  struct profile *p = collect(&response, 2, 250, CPU_PROFILE_DONE);
  CHECK(slices == 40); /* 50 ms each */
  CHECK(p->value_count == 2 && strcmp(p->value_types[0].type, "samples") == 0 &&
        strcmp(p->value_types[0].unit, "count") == 0);
  CHECK(strcmp(p->value_types[1].type, "cpu") == 0 &&
        strcmp(p->value_types[1].unit, "nanoseconds") == 0);
  CHECK(strcmp(p->period_type.type, "cpu") == 0 && p->period == 4000000 && p->time_nanos > 0 &&
        p->duration_nanos > 0);
  CHECK(p->sample_count == 5);
  CHECK(sum(p, MAKE, 101, "worker", 0) == 5 && sum(p, MAKE, 101, "worker", 1) == 5 * 4000000);
  CHECK(sum(p, MAKE, 100, "main", 0) == 1 && sum(p, MAKE, 101, "renamed", 0) == 1 &&
        sum(p, 0, 101, "wor?ker", 0) == 1);
  CHECK(sum(p, FOO, 100, NULL, 0) == 2 && sum(p, 0, 0, NULL, 1) == 10 * 4000000);
  for (size_t i = 0; i < p->sample_count; i++)
    CHECK(p->samples[i].label_count ==
          (p->locations[p->samples[i].locations[0]].address == FOO - 1 ? 1 : 2));
  CHECK(p->comment_count == 0);
  CHECK(stub_threads.period == 0 && stub_threads.periods_set == 2 && stub_threads.armings == 2);
  CHECK(atomic_load(&cpu_samples.memory) == NULL && !stub_threads.counters_open);
  profile_release(p);
}

static void test_client_that_goes_away_stops_the_sampler(void) {
  reset(2);
  struct http_response response = {.wait_result = false};
  collect(&response, 30, 100, CPU_PROFILE_CANCELED);
  CHECK(stub_threads.armings == 2 && stub_threads.period == 0 &&
        atomic_load(&cpu_samples.memory) == NULL);
  CHECK(cpu_profile_running() == 0);
}

/* ---- threads that come meanwhile ---- */

static void threads_come(void) {
  if (slices++ == 0) {
    stub_threads.count = 3;
    cpu_sampling_arm(2, false); /* 101 by itself, as those of pthread_create do */
  }
  const struct timespec pause = {.tv_nsec = 3000000};
  if (!stub_threads.armed[2]) nanosleep(&pause, NULL); /* looks for threads go by the clock */
}

static void test_new_threads_are_found(void) {
  reset(1);
  slices = 0;
  struct http_response response = {.wait_result = true, .during_wait = threads_come};
  struct profile *p = collect(&response, 60, 100, CPU_PROFILE_DONE);
  CHECK(stub_threads.armings == 3); /* each once */
  profile_release(p);
}

/* ---- two clients ---- */

static struct profile *inner_profile;
static struct http_response *inner_response;

static void inner_client(void) {
  slices++;
  if (slices == 3) stub_threads_sample(100, "main", 1, working, 2);
  if (slices == 10) {
    stub_threads_sample(100, "main", 1, making,
                        3); /* not drained yet, but not the second client's */
    inner_profile = collect(inner_response, 1, 1000, CPU_PROFILE_DONE);
    CHECK(stub_threads.period == 10000000 &&
          stub_threads.armings == 1 + 1 + 1); /* back to the first client's rate */
  }
  if (slices == 15) stub_threads_sample(100, "main", 1, jit, 2);
}

static void inner_samples(void) {
  static int inner_slices;
  if (++inner_slices == 2) stub_threads_sample(100, "main", 8, making, 3);
  CHECK(stub_threads.period == 1000000 && cpu_profile_running() == 2);
}

static void test_two_clients_have_their_own_windows(void) {
  reset(1);
  slices = 0;
  struct http_response first = {.wait_result = true, .during_wait = inner_client};
  struct http_response second = {.wait_result = true, .during_wait = inner_samples};
  inner_response = &second;
  struct profile *p = collect(&first, 1, 100, CPU_PROFILE_DONE);
  CHECK(sum(p, 0, 0, NULL, 0) == 1 + 1 + 8 + 1 &&
        sum(p, 0, 0, NULL, 1) == 3 * 10000000 + 8 * 1000000);
  CHECK(sum(p, FOO, 0, NULL, 0) == 1 && sum(p, MAKE, 0, NULL, 0) == 9);
  CHECK(inner_profile->sample_count == 1 && sum(inner_profile, MAKE, 0, NULL, 0) == 8 &&
        inner_profile->period == 1000000);
  CHECK(p->period == 1000000 && stub_threads.period == 0); /* the finest of its window */
  profile_release(inner_profile);
  profile_release(p);
}

static int depth;

static void one_more_client(void) {
  if (depth > CPU_PROFILE_MAX_CLIENTS) return;
  struct http_response response = {.wait_result = true, .during_wait = one_more_client};
  struct profile *p =
      collect(&response, 1, 100,
              ++depth > CPU_PROFILE_MAX_CLIENTS ? CPU_PROFILE_TOO_MANY : CPU_PROFILE_DONE);
  profile_release(p);
}

static void test_clients_are_bounded(void) {
  reset(1);
  depth = 1;
  struct http_response response = {.wait_result = true, .during_wait = one_more_client};
  profile_release(collect(&response, 1, 100, CPU_PROFILE_DONE));
  CHECK(depth == CPU_PROFILE_MAX_CLIENTS + 1 && cpu_profile_running() == 0 &&
        stub_threads.period == 0);
}

/* ---- one who watches beside them ---- */

static uint64_t watched, watched_ticks;
static void watch(const struct stack_sample *sample) {
  watched++;
  watched_ticks += sample->ticks;
}

static void while_watched(void) {
  slices++;
  if (slices == 2) stub_threads_sample(100, "main", 2, making, 3);
  if (slices == 4) CHECK(!cpu_profile_watch(1000, true, watch) && stub_threads.period == 1000000);
  if (slices == 6) stub_threads_sample(100, "main", 3, making, 3);
  if (slices == 8) CHECK(!cpu_profile_watch(10, true, watch) && stub_threads.period == 10000000);
  if (slices == 10) stub_threads_sample(100, "main", 4, making, 3);
}

static void test_who_watches_has_each_sample(void) {
  reset(1);
  slices = 0;
  CHECK(!cpu_profile_watch(10, true, watch) && stub_threads.period == 100000000);
  CHECK(cpu_profile_running() == 0);
  stub_threads_sample(100, "main", 1, working, 2);
  CHECK(watched == 0);
  cpu_profile_watch_read();
  CHECK(watched == 1);
  struct http_response response = {.wait_result = true, .during_wait = while_watched};
  struct profile *p = collect(&response, 1, 100, CPU_PROFILE_DONE);
  CHECK(sum(p, 0, 0, NULL, 0) == 2 + 3 + 4 && watched == 4 && watched_ticks == 1 + 2 + 3 + 4);
  profile_release(p);
  CHECK(stub_threads.period == 100000000); /* it goes on, at its own rate */
  stub_threads_sample(100, "main", 5, working, 2);
  CHECK(!cpu_profile_watch(0, true, watch) && watched == 5 && stub_threads.period == 0);
  CHECK(atomic_load(&cpu_samples.memory) == NULL && !cpu_profile_watch(0, true, watch));
  cpu_profile_watch_read();
  p = collect(&response, 1, 100, CPU_PROFILE_DONE);
  CHECK(watched == 5 && stub_threads.period == 0);
  profile_release(p);
}

/* ---- what is missing ---- */

static bool has_comment(const struct profile *profile, const char *start) {
  for (uint32_t i = 0; i < profile->comment_count; i++)
    if (strncmp(profile->comments[i], start, strlen(start)) == 0) return true;
  return false;
}

static void flood(void) {
  const struct timespec pause = {.tv_nsec = 3000000};
  if (!atomic_load(&shim_counters.cpu_threads_signal_blocked))
    nanosleep(&pause, NULL); /* a second look finds it blocked still */
  if (++slices != 2) return;
  uint64_t deep[STACK_DEFAULT_FRAMES];
  for (int i = 0; i < STACK_DEFAULT_FRAMES; i++) deep[i] = MAIN;
  for (unsigned i = 0, failed = 0; failed < 7; i++)
    failed += !stub_threads_sample(100, "main", 1, deep, STACK_DEFAULT_FRAMES);
}

static void test_losses_are_told(void) {
  reset(3);
  stub_threads.cpu_step = 50000000;
  stub_threads.blocks_signal[1] = stub_threads.no_timer_left[2] = true;
  slices = 0;
  struct http_response response = {.wait_result = true, .during_wait = flood};
  struct profile *p = collect(&response, 60, 100, CPU_PROFILE_DONE);
  CHECK(has_comment(p,
                    "threads left out, for all or part of the time: 1, which block the signal that "
                    "sampling uses (SIGSTKFLT)"));
  CHECK(has_comment(
      p, "threads left out, for all or part of the time: 1, for which the kernel had no timer"));
  CHECK(has_comment(p, "samples dropped: 7, the buffer was full"));
  CHECK(atomic_load(&shim_counters.cpu_threads_signal_blocked) == 1 &&
        atomic_load(&shim_counters.cpu_threads_no_timer) == 1);
  CHECK(atomic_load(&shim_counters.cpu_lost_buffer_full) == 7);
  profile_release(p);
}

/* Long enough for the profile to look at the threads a second time. */
static void look_again(void) {
  const struct timespec pause = {.tv_nsec = 150000000};
  if (slices++ < 2) nanosleep(&pause, NULL);
}

static void mask_is_reset(void) { stub_threads.blocks_signal[1] = false; }

/* A thread that blocks the signal and sleeps is none either. */
static void test_idle_thread_is_no_loss(void) {
  reset(2);
  uint64_t before = atomic_load(&shim_counters.cpu_threads_signal_blocked);
  stub_threads.blocks_signal[1] = true;
  slices = 0;
  struct http_response response = {.wait_result = true, .during_wait = look_again};
  struct profile *p = collect(&response, 1, 100, CPU_PROFILE_DONE);
  CHECK(p->comment_count == 0 && atomic_load(&shim_counters.cpu_threads_signal_blocked) == before);
  profile_release(p);
}

/* As a thread that has just started does. */
static void test_moment_of_blocking_is_no_loss(void) {
  reset(2);
  uint64_t before = atomic_load(&shim_counters.cpu_threads_signal_blocked);
  stub_threads.blocks_signal[1] = true;
  slices = 0;
  struct http_response response = {.wait_result = true, .during_wait = mask_is_reset};
  struct profile *p = collect(&response, 1, 100, CPU_PROFILE_DONE);
  CHECK(p->comment_count == 0 && atomic_load(&shim_counters.cpu_threads_signal_blocked) == before);
  profile_release(p);
}

/* A thread under a stricter filter than the agent's is left alone, and those that it creates do not
 * arm themselves. */
static void test_sandboxed_threads(void) {
  reset(2);
  stub_threads.sandboxed[1] = true;
  stub_threads.cpu_step = 50000000;
  slices = 0;
  struct http_response response = {.wait_result = true, .during_wait = look_again};
  struct profile *p = collect(&response, 1, 100, CPU_PROFILE_DONE);
  CHECK(stub_threads.armings == 1 && !stub_threads.arm_themselves &&
        has_comment(p, "threads left out, for all or part of the time: 1, for which"));
  profile_release(p);
}

static unsigned distinct;

static void distinct_stacks(void) {
  uint64_t deep[STACK_DEFAULT_FRAMES];
  for (int n = 0; n < 1000; n++) {
    for (int i = 0; i < STACK_DEFAULT_FRAMES; i++) deep[i] = MAIN + distinct;
    stub_threads_sample(100, "main", 1, deep, STACK_DEFAULT_FRAMES);
    distinct++;
  }
}

/* A program that never calls the same way twice: the table stays within its bound, and what did not
 * fit is counted. */
static void test_table_is_bounded(void) {
  struct http_response response = {.wait_result = true, .during_wait = distinct_stacks};
  struct profile *p = NULL;
  int64_t lost = 0;
  for (int seconds = 2; lost == 0 && seconds < 100; seconds *= 2) { /* a slow machine */
    if (p) profile_release(p);
    reset(1);
    distinct = 0;
    p = collect(&response, seconds, 100, CPU_PROFILE_DONE);
    lost = distinct - sum(p, 0, 0, NULL, 0);
  }
  CHECK(lost > 0 && lost < distinct && has_comment(p, "samples dropped: "));
  CHECK(atomic_load(&shim_counters.cpu_lost_no_memory) == (uint64_t)lost);
  profile_release(p);
}

static void test_coverage(void) {
  static const struct {
    uint64_t host, sampled;
    bool told;
  } cases[] = {{10000000000, 10000000000, false}, {10000000000, 9600000000, false},
               {10000000000, 8700000000, true},   {10000000000, 12000000000, false},
               {100000000, 50000000, false}, /* five samples more or less: chance */
               {1000000000, 200000000, true},     {0, 0, false}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct cpu_coverage coverage = {.host_nanoseconds = cases[i].host};
    struct cpu_sample_table samples = {.nanoseconds = cases[i].sampled};
    struct profile *profile = profile_new("profile");
    CHECK(cpu_coverage_describe(&coverage, &samples, 10000000, profile));
    CHECK(has_comment(profile, "CPU time not sampled: ") == cases[i].told);
    if (i == 2)
      CHECK(has_comment(profile, "CPU time not sampled: 1.300 s of the program's 10.000 s (13 %)"));
    profile_release(profile);
  }
}

/* ---- failures ---- */

static void test_refusal(void) {
  reset(1);
  stub_threads.refusal = "no signal";
  struct http_response response = {.wait_result = true};
  collect(&response, 1, 100, CPU_PROFILE_REFUSED);
  CHECK(strcmp(cpu_profile_off_reason(), "no signal") == 0 && stub_threads.periods_set == 0 &&
        cpu_profile_running() == 0);
  stub_threads.refusal = NULL;
  profile_release(collect(&response, 1, 100, CPU_PROFILE_DONE));
  CHECK(cpu_profile_off_reason() == NULL);
}

static void test_out_of_memory(void) {
  bool done = false;
  for (int64_t n = 0; !done; n++) {
    reset(2);
    slices = 0;
    struct http_response response = {.wait_result = true, .during_wait = sample_some};
    struct profile *profile;
    const char *reason;
    agent_memory_fail_after = n;
    enum cpu_profile_result result = cpu_profile_collect(&response, 1, 100, &profile, &reason);
    done = agent_memory_fail_after > 0 && agent_memory_fail_after != INT64_MAX;
    agent_memory_fail_after = INT64_MAX;
    CHECK((result == CPU_PROFILE_DONE) == (profile != NULL) &&
          (profile || result == CPU_PROFILE_NO_MEMORY));
    CHECK(stub_threads.period == 0 && cpu_profile_running() == 0 &&
          atomic_load(&cpu_samples.memory) == NULL);
    if (profile && !done && sum(profile, 0, 0, NULL, 0) != 10)
      CHECK(has_comment(profile, "samples dropped: ") || stub_threads.armings == 0);
    profile_release(profile);
    CHECK(stub.sessions == 0 && n < 1000);
    if (n >= 1000) break;
  }
}

int main(void) {
  fixture_small(524288, false);
  test_one_client();
  test_client_that_goes_away_stops_the_sampler();
  test_new_threads_are_found();
  test_two_clients_have_their_own_windows();
  test_clients_are_bounded();
  test_who_watches_has_each_sample();
  test_losses_are_told();
  test_moment_of_blocking_is_no_loss();
  test_idle_thread_is_no_loss();
  test_sandboxed_threads();
  test_table_is_bounded();
  test_coverage();
  test_refusal();
  test_out_of_memory();
  CHECK(stub.sessions == 0);
  fixture_release();
  return failures != 0;
}

/* The instants are at random distances, half to one and a half periods: what the program does
 * periodically is then met in all its phases. */
#include "wall_profile.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "agent/profiles/profile_builder.h"
#include "agent/runtime/agent_thread.h"
#include "agent/symbols/announced_code.h"

#define SECOND INT64_C(1000000000)

enum {
  COST_SHARE = 10, /* a look takes at most one part in so many of a processor */
  COST_WEIGHT = 8, /* of the looks' mean cost: one in so many is the last one's */
};

/* Written by HTTP workers, by relaxed atomic adds and stores; read by the health page, of which no
 * two figures need be of one moment. */
static _Atomic uint32_t clients;
static _Atomic uint64_t instants, unmoved, walks, unread, lost, asked_rate, reached_rate;

static uint64_t read_figure(_Atomic uint64_t *figure) {
  return atomic_load_explicit(figure, memory_order_relaxed);
}

static void add(_Atomic uint64_t *figure, uint64_t more) {
  atomic_fetch_add_explicit(figure, more, memory_order_relaxed);
}

struct wall_profile_status wall_profile_status(void) {
  return (struct wall_profile_status){
      .running = atomic_load_explicit(&clients, memory_order_relaxed),
      .instants = read_figure(&instants),
      .unmoved = read_figure(&unmoved),
      .walks = read_figure(&walks),
      .unread = read_figure(&unread),
      .lost = read_figure(&lost),
      .asked_millihertz = read_figure(&asked_rate),
      .reached_millihertz = read_figure(&reached_rate)};
}

/* ---- the window ---- */

struct window {
  struct wall_looks *looks;
  uint32_t hz;
  int64_t start_wall, start, end;
  uint64_t random;
  int64_t cost; /* of a look, on the mean: nanoseconds of a processor */
};

/* 0 to below span. */
static int64_t random_below(struct window *window, int64_t span) {
  window->random ^= window->random << 13;
  window->random ^= window->random >> 7;
  window->random ^= window->random << 17;
  return (int64_t)(window->random % (uint64_t)span);
}

static int64_t period_of(const struct window *window) {
  int64_t asked = SECOND / window->hz, affordable = window->cost * COST_SHARE;
  return asked > affordable ? asked : affordable;
}

static bool look(struct window *window, bool first) {
  int64_t before = agent_own_cpu_nanoseconds();
  if (!wall_looks_take(window->looks, period_of(window) * 2 / 5)) return false;
  int64_t cost = agent_own_cpu_nanoseconds() - before;
  if (!first) window->cost += (cost - window->cost) / COST_WEIGHT; /* the first walks all */
  return true;
}

static enum wall_profile_result watch(struct http_response *response, struct window *window,
                                      int64_t seconds) {
  window->start_wall = profile_wall_clock();
  window->start = agent_monotonic_nanoseconds();
  window->random = (uint64_t)window->start | 1;
  window->end = window->start + seconds * SECOND;
  int64_t next = window->start + random_below(window, period_of(window));
  for (bool first = true; next < window->end; first = false) {
    if (!http_wait(response, next)) return WALL_PROFILE_CANCELED;
    if (!look(window, first)) return WALL_PROFILE_NO_MEMORY;
    int64_t period = period_of(window), now = agent_monotonic_nanoseconds();
    next += period / 2 + random_below(window, period);
    if (next < now) next = now; /* what it is late is not made up for */
  }
  return http_wait(response, window->end) ? WALL_PROFILE_DONE : WALL_PROFILE_CANCELED;
}

/* ---- the profile ---- */

/* What a reader must know: a lower rate, and threads that could not be read. */
static bool describe(const struct window *window, struct profile *profile, double rate) {
  struct wall_totals totals = wall_looks_totals(window->looks);
  bool ok = true;
  if (rate < window->hz * 0.9)
    ok = profile_add_comment(profile,
                             "%.2f looks a second instead of %" PRIu32
                             ": more would have cost too much, or the machine was busy",
                             rate, window->hz);
  if (ok && totals.unread > 0)
    ok = profile_add_comment(profile,
                             "%" PRIu64 " of %" PRIu64
                             " running threads did not say where they were before the next look",
                             totals.unread, totals.running);
  if (ok && totals.lost > 0)
    ok = profile_add_comment(
        profile, "%" PRIu64 " findings dropped: no memory for more distinct places", totals.lost);
  return ok;
}

static struct profile *build(struct window *window) {
  struct wall_totals totals = wall_looks_totals(window->looks);
  int64_t duration = window->end - window->start;
  double interval = totals.instants ? (double)duration / (double)totals.instants : 0;
  double rate = (double)totals.instants * (double)SECOND / (double)duration;
  atomic_store_explicit(&asked_rate, window->hz * UINT64_C(1000), memory_order_relaxed);
  atomic_store_explicit(&reached_rate, (uint64_t)(rate * 1000), memory_order_relaxed);
  struct profile_builder *builder = profile_builder_open("wall", 2);
  if (!builder) return NULL;
  struct profile *profile = profile_builder_profile(builder);
  profile->value_types[0] = (struct profile_value_type){"samples", "count"};
  profile->value_types[1] = profile->period_type =
      (struct profile_value_type){"wall", "nanoseconds"};
  profile->period = (int64_t)interval;
  profile->time_nanos = window->start_wall;
  profile->duration_nanos = duration;
  bool whole = wall_looks_build(window->looks, builder, interval);
  profile = profile_builder_finish(builder);
  if (profile && whole && describe(window, profile, rate)) return profile;
  profile_release(profile);
  return NULL;
}

static enum wall_profile_result collect(struct http_response *response, int64_t seconds,
                                        struct window *window, struct profile **out) {
  if (!window->looks) return WALL_PROFILE_NO_MEMORY;
  enum wall_profile_result result = watch(response, window, seconds);
  struct wall_totals totals = wall_looks_totals(window->looks);
  add(&instants, totals.instants);
  add(&unmoved, totals.unmoved);
  add(&walks, totals.walks);
  add(&unread, totals.unread);
  add(&lost, totals.lost);
  if (result != WALL_PROFILE_DONE) return result;
  *out = build(window);
  return *out ? result : WALL_PROFILE_NO_MEMORY;
}

enum wall_profile_result wall_profile_collect(struct http_response *response, int64_t seconds,
                                              uint32_t hz, struct wall_options options,
                                              struct profile **out) {
  *out = NULL;
  enum wall_profile_result result = WALL_PROFILE_TOO_MANY;
  if (atomic_fetch_add_explicit(&clients, 1, memory_order_relaxed) < WALL_PROFILE_MAX_CLIENTS) {
    announced_code_update(true);
    struct window window = {.looks = wall_looks_new(options), .hz = hz};
    result = collect(response, seconds, &window, out);
    wall_looks_release(window.looks);
  }
  atomic_fetch_sub_explicit(&clients, 1, memory_order_relaxed);
  return result;
}

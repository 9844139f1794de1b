/* links: agent/trace/trace_timeline.c agent/trace/trace_waits.c agent/trace/trace_gather.c
 *      agent/profiles/number_order.c agent/runtime/index_table.c test/agent_memory_libc.c */
/* Whatever was gathered, the log keeps the rules of trace_log.h; and what a few hand-made
 * recordings must become. */
#include "agent/trace/trace_timeline.h"
#include "shim/base/trace_ring.h"
#include "agent/trace/trace_waits.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"

enum { START = 1000, END = 2000, TIDS = 5 };

static uint64_t seed = 88172645463325252u;

static uint64_t draw(uint64_t limit) { /* xorshift64 (Marsaglia 2003) */
  seed ^= seed << 13;
  seed ^= seed >> 7;
  seed ^= seed << 17;
  return seed % limit;
}

static const uint64_t frames[] = {0x401000, 0x402000};
static const struct trace_taken_stack one_stack = {2, 1, frames};

static void put(struct trace_gather *gather, int64_t at, int32_t tid, uint8_t kind) {
  struct trace_event event = {.at = at, .tid = tid, .kind = kind, .text = "text"};
  trace_gather_event(gather, &event, draw(2) ? &one_stack : NULL);
}

static bool is_state(uint8_t kind) { return kind >= TRACE_RUNNING && kind <= TRACE_BLOCKED; }

static void check_rules(const struct trace_gather *gather) {
  const struct trace_event *events = gather->events.items;
  uint8_t last[TIDS + 1] = {0}, state[TIDS + 1] = {0};
  bool known[TIDS + 1] = {0}, ended[TIDS + 1] = {0};
  memset(state, 255, sizeof state);
  for (uint32_t i = 0; i < gather->events.count; i++) {
    const struct trace_event *event = &events[i];
    int32_t tid = event->tid;
    CHECK(event->at >= START && event->at <= END && (i == 0 || events[i - 1].at <= event->at));
    CHECK(tid >= 0 && tid <= TIDS);
    if (tid == 0) continue;
    bool is_intro = event->kind <= TRACE_THREAD_BORN;
    CHECK(!ended[tid] && known[tid] == !is_intro);
    CHECK(event->kind != TRACE_THREAD_FOUND || event->at == START);
    if (is_state(event->kind)) {
      CHECK(state[tid] != event->kind);
      state[tid] = event->kind;
    } else if (known[tid] && last[tid] <= TRACE_THREAD_BORN) {
      CHECK(event->kind == TRACE_THREAD_NAMED || event->kind == TRACE_LOST); /* then a state */
    }
    if (event->kind == TRACE_LOST) state[tid] = 255;
    known[tid] = true;
    ended[tid] = event->kind == TRACE_THREAD_ENDED;
    if (event->kind != TRACE_THREAD_NAMED || last[tid] > TRACE_THREAD_BORN) last[tid] = event->kind;
  }
}

/* Of what was gathered, before anything is made of it: the same comes of it. */
static void check_copy(struct trace_gather *copy, const struct trace_gather *gather) {
  CHECK(trace_timeline_make(copy, START, END));
  const struct trace_event *events = gather->events.items, *copied = copy->events.items;
  CHECK(copy->events.count == gather->events.count && copy->left_out == gather->left_out);
  for (uint32_t i = 0; i < gather->events.count; i++) {
    CHECK(copied[i].at == events[i].at && copied[i].tid == events[i].tid);
    CHECK(copied[i].kind == events[i].kind && copied[i].stack == events[i].stack);
    CHECK(!copied[i].text == !events[i].text);
    CHECK(!copied[i].text ||
          (copied[i].text != events[i].text && strcmp(copied[i].text, events[i].text) == 0));
  }
}

static void test_anything(void) {
  for (int round = 0; round < 5000; round++) {
    struct trace_gather gather, copy;
    trace_gather_start(&gather, draw(20) ? SIZE_MAX : 5000);
    trace_gather_start(&copy, 0);
    for (uint64_t i = draw(100); i > 0; i--)
      put(&gather, START - 300 + (int64_t)draw(1600), (int32_t)draw(TIDS + 1),
          (uint8_t)draw(TRACE_COUNTER + 1));
    for (uint64_t i = draw(10); i > 0; i--) {
      int64_t begin = START - 200 + (int64_t)draw(1200);
      struct trace_wait wait = {
          begin, begin + (int64_t)draw(400), draw(3), 1 + (int32_t)draw(TIDS), 0, draw(2)};
      struct trace_release release = {begin + (int64_t)draw(300), draw(3), 1 + (int32_t)draw(TIDS),
                                      0, (uint8_t)draw(LOCK_WAKES_AT_END + 1)};
      trace_gather_wait(&gather, &wait, &one_stack);
      trace_gather_lock_release(&gather, &release, NULL);
    }
    CHECK(trace_gather_copy(&copy, &gather));
    bool states_are_sampled = draw(2);
    CHECK(trace_waits_link(&gather, states_are_sampled) &&
          trace_waits_link(&copy, states_are_sampled));
    CHECK(trace_timeline_make(&gather, START, END));
    check_copy(&copy, &gather);
    trace_gather_free(&copy);
    check_rules(&gather);
    trace_gather_free(&gather);
  }
}

/* Of the tid, as "kind@at kind@at/other ". */
static const char *story(const struct trace_gather *gather, int32_t tid) {
  static char text[1000];
  static const char *const kinds[] = {"found",    "born",    "named",    "ended", "running",
                                      "runnable", "blocked", "released", "lost",  "sample"};
  const struct trace_event *events = gather->events.items;
  text[0] = 0;
  for (uint32_t i = 0; i < gather->events.count; i++) {
    size_t used = strlen(text);
    if (events[i].tid != tid) continue;
    used += (size_t)snprintf(text + used, sizeof text - used, "%s@%d", kinds[events[i].kind],
                             (int)events[i].at);
    snprintf(text + used, sizeof text - used, events[i].other ? "/%d " : " ", events[i].other);
  }
  return text;
}

/* 1 waits from 1100 to 1500, 2 releases at 1200 what 3 takes, and 3 at 1400. */
static void gather_a_fight(struct trace_gather *gather) {
  const struct trace_wait wait = {1100, 1500, 0x77, 1, 0, true};
  const struct trace_release releases[] = {
      {1200, 0x77, 2, 0, 0}, {1400, 0x77, 3, 0, 0}, {1450, 0x78, 2, 0, 0}, {1501, 0x77, 1, 0, 0}};
  trace_gather_start(gather, SIZE_MAX);
  for (int32_t tid = 1; tid <= 3; tid++) put(gather, 900, tid, TRACE_THREAD_FOUND);
  put(gather, 950, 1, TRACE_RUNNING);
  put(gather, 950, 2, TRACE_RUNNING);
  trace_gather_wait(gather, &wait, &one_stack);
  for (int i = 0; i < 4; i++) trace_gather_lock_release(gather, &releases[i], NULL);
}

static void test_the_last_release_is_the_one(void) {
  struct trace_gather gather;
  gather_a_fight(&gather);
  put(&gather, 1110, 1, TRACE_BLOCKED);
  put(&gather, 1210, 1, TRACE_RUNNING); /* woken by the first, too late */
  put(&gather, 1220, 1, TRACE_BLOCKED);
  put(&gather, 1490, 1, TRACE_RUNNING);
  put(&gather, 950, 3, TRACE_RUNNING);
  CHECK(trace_waits_link(&gather, false) && trace_timeline_make(&gather, START, END));
  CHECK(strcmp(story(&gather, 1),
               "found@1000 running@1000 blocked@1110 running@1210 "
               "blocked@1220 runnable@1401/3 running@1490 ") == 0);
  CHECK(strcmp(story(&gather, 3), "found@1000 running@1000 released@1400/1 ") == 0);
  CHECK(strcmp(story(&gather, 2), "found@1000 running@1000 ") == 0);
  const struct trace_event *events = gather.events.items;
  for (uint32_t i = 0; i < gather.events.count; i++)
    if (events[i].kind == TRACE_BLOCKED)
      CHECK(events[i].reason == TRACE_REASON_LOCK && events[i].stack == 1);
  trace_gather_free(&gather);
}

/* Looks found 3 in another wait, before and after, and 1 once in the middle of this one. */
static void test_sampled_states_give_way(void) {
  struct trace_gather gather;
  gather_a_fight(&gather);
  put(&gather, 950, 3, TRACE_BLOCKED);
  put(&gather, 1300, 1, TRACE_BLOCKED);
  put(&gather, 1600, 1, TRACE_RUNNING);
  CHECK(trace_waits_link(&gather, true) && trace_timeline_make(&gather, START, END));
  CHECK(strcmp(story(&gather, 1),
               "found@1000 running@1000 blocked@1100 runnable@1401/3 "
               "running@1500 ") == 0);
  CHECK(strcmp(story(&gather, 3),
               "found@1000 blocked@1000 running@1399 released@1400/1 "
               "blocked@1402 ") == 0);
  trace_gather_free(&gather);
}

static void put_release(struct trace_gather *gather, int64_t at, uint64_t object, int32_t tid,
                        uint8_t wakes) {
  struct trace_release release = {at, object, tid, 0, wakes};
  trace_gather_lock_release(gather, &release, NULL);
}

static void put_wait(struct trace_gather *gather, int64_t begin, int64_t end, uint64_t object,
                     int32_t tid) {
  struct trace_wait wait = {begin, end, object, tid, 0, true};
  trace_gather_wait(gather, &wait, NULL);
}

static void gather_running(struct trace_gather *gather, int32_t tids) {
  trace_gather_start(gather, SIZE_MAX);
  for (int32_t tid = 1; tid <= tids; tid++) {
    put(gather, 900, tid, TRACE_THREAD_FOUND);
    put(gather, 950, tid, TRACE_RUNNING);
  }
}

/* 1 and 2 wait; 3 wakes 2, then 4 wakes 1, which has the mutex first; then 4 wakes both at once. */
static void test_a_signal_wakes_one(void) {
  struct trace_gather gather;
  gather_running(&gather, 4);
  put(&gather, 1110, 1, TRACE_BLOCKED);
  put(&gather, 1110, 2, TRACE_BLOCKED);
  put(&gather, 1225, 2, TRACE_RUNNING);
  put(&gather, 1230, 2, TRACE_BLOCKED); /* for the mutex */
  put(&gather, 1250, 1, TRACE_RUNNING);
  put(&gather, 1290, 2, TRACE_RUNNING);
  put(&gather, 1400, 1, TRACE_BLOCKED);
  put(&gather, 1400, 2, TRACE_BLOCKED);
  put(&gather, 1510, 1, TRACE_RUNNING);
  put(&gather, 1520, 2, TRACE_RUNNING);
  put_wait(&gather, 1100, 1260, 0x77, 1);
  put_wait(&gather, 1100, 1300, 0x77, 2);
  put_wait(&gather, 1390, 1515, 0x77, 1);
  put_wait(&gather, 1390, 1525, 0x77, 2);
  put_release(&gather, 1200, 0x77, 3, LOCK_WAKES_ONE);
  put_release(&gather, 1210, 0x77, 4, LOCK_WAKES_ONE);
  put_release(&gather, 1500, 0x77, 4, LOCK_WAKES_ALL);
  CHECK(trace_waits_link(&gather, false) && trace_timeline_make(&gather, START, END));
  CHECK(strcmp(story(&gather, 1),
               "found@1000 running@1000 blocked@1110 runnable@1211/4 "
               "running@1250 blocked@1400 runnable@1501/4 running@1510 ") == 0);
  CHECK(strcmp(story(&gather, 2),
               "found@1000 running@1000 blocked@1110 runnable@1201/3 running@1225 blocked@1230 "
               "running@1290 blocked@1400 runnable@1501/4 running@1520 ") == 0);
  CHECK(strcmp(story(&gather, 3), "found@1000 running@1000 released@1200/2 ") == 0);
  trace_gather_free(&gather);
}

/* 2 says that it ends, and does so later, when 1 is woken, that waits for it. */
static void test_an_end_wakes_when_it_is_one(void) {
  for (int is_early = 0; is_early <= 1; is_early++) {
    struct trace_gather gather;
    gather_running(&gather, 2);
    put(&gather, 1110, 1, TRACE_BLOCKED);
    put(&gather, 1300, 2, TRACE_THREAD_ENDED);
    put(&gather, is_early ? 1295 : 1350, 1, TRACE_RUNNING);
    put_wait(&gather, 1100, 1360, 0x99, 1);
    put_release(&gather, 1200, 0x99, 2, LOCK_WAKES_AT_END);
    CHECK(trace_waits_link(&gather, false) && trace_timeline_make(&gather, START, END));
    const char *one = is_early
                          ? "found@1000 running@1000 blocked@1110 runnable@1294/2 running@1295 "
                          : "found@1000 running@1000 blocked@1110 runnable@1299/2 running@1350 ";
    CHECK(strcmp(story(&gather, 1), one) == 0);
    const char *two = is_early ? "found@1000 running@1000 released@1293/1 ended@1300 "
                               : "found@1000 running@1000 released@1298/1 ended@1300 ";
    CHECK(strcmp(story(&gather, 2), two) == 0);
    trace_gather_free(&gather);
  }
}

/* One is found later than its first event, the other one never. */
static void test_late_births(void) {
  struct trace_gather gather;
  trace_gather_start(&gather, SIZE_MAX);
  put(&gather, 1100, 1, TRACE_SAMPLE);
  put(&gather, 1150, 1, TRACE_THREAD_BORN);
  put(&gather, 1150, 1, TRACE_RUNNING);
  put(&gather, 1200, 2, TRACE_RUNNING);
  put(&gather, 900, 3, TRACE_SAMPLE);
  put(&gather, 950, 3, TRACE_THREAD_BORN);
  put(&gather, 950, 3, TRACE_RUNNING);
  CHECK(trace_timeline_make(&gather, START, END));
  CHECK(strncmp(story(&gather, 1), "born@1100 runnable@1100 ", 24) == 0);
  CHECK(strcmp(story(&gather, 2), "born@1200 running@1200 ") == 0);
  CHECK(strcmp(story(&gather, 3), "found@1000 running@1000 ") == 0);
  trace_gather_free(&gather);
}

static void test_windows(void) {
  struct trace_gather gather;
  trace_gather_start(&gather, SIZE_MAX);
  put(&gather, 500, 1, TRACE_THREAD_BORN); /* before: it is found */
  put(&gather, 600, 1, TRACE_RUNNING);
  put(&gather, 700, 1, TRACE_BLOCKED);
  put(&gather, 1200, 2, TRACE_THREAD_BORN); /* no state yet: it waits for its first CPU */
  put(&gather, 1210, 2, TRACE_RUNNING);
  put(&gather, 1300, 2, TRACE_THREAD_ENDED);
  put(&gather, 1310, 2, TRACE_RUNNING);
  put(&gather, 2500, 3, TRACE_THREAD_BORN);
  put(&gather, 500, 4, TRACE_THREAD_FOUND);
  put(&gather, 600, 4, TRACE_RUNNING);
  put(&gather, 900, 4, TRACE_THREAD_ENDED);
  put(&gather, 900, 5, TRACE_THREAD_FOUND);
  put(&gather, 900, 5, TRACE_BLOCKED);
  put(&gather, 900, 5, TRACE_LOST);
  put(&gather, 1100, 5, TRACE_BLOCKED);
  CHECK(trace_timeline_make(&gather, START, END));
  CHECK(strcmp(story(&gather, 1), "found@1000 blocked@1000 ") == 0);
  CHECK(strcmp(story(&gather, 2), "born@1200 runnable@1200 running@1210 ended@1300 ") == 0);
  CHECK(!*story(&gather, 3) && !*story(&gather, 4));
  CHECK(strcmp(story(&gather, 5), "found@1000 lost@1000 blocked@1100 ") == 0);
  trace_gather_free(&gather);
}

int main(void) {
  test_anything();
  test_the_last_release_is_the_one();
  test_sampled_states_give_way();
  test_a_signal_wakes_one();
  test_an_end_wakes_when_it_is_one();
  test_late_births();
  test_windows();
  return failures > 0;
}

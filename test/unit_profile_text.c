/* links: test/fixture_profile.c test/stub_tables.c test/agent_memory_libc.c test/stub_clock.c */
/* The debug=1 text of hand-made tables, letter for letter: header, records, column padding, order,
 * trailer, memory map. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/profiles/contention_profile.h"
#include "agent/profiles/heap_profile.h"
#include "agent/profiles/profile_builder.h"
#include "shim/base/config.h"
#include "shim/base/counters.h"
#include "fixture_profile.h"
#include "stub_tables.h"

static int failures;

static char *text_of_tables(void) {
  struct memory_sink sink;
  memory_sink_start(&sink);
  struct heap_snapshot *now = heap_snapshot_take();
  struct profile *profile =
      heap_profile_build("heap", now, &(struct heap_selection){0}, HEAP_PROFILE_AS_SAMPLED);
  heap_snapshot_release(now);
  if (!profile || !profile_encode_text(profile, &sink.base)) abort();
  profile_release(profile);
  return sink.bytes;
}

static void check_part(const char *what, const char *text, const char *from, const char *to,
                       const char *want) {
  const char *start = strstr(text, from), *end = start ? strstr(start, to) : NULL;
  if (end && strlen(want) == (size_t)(end - start) && memcmp(start, want, strlen(want)) == 0)
    return;
  failures++;
  fprintf(stderr, "FAILED %s: got\n%.*s\nwant\n%s\n", what, end ? (int)(end - start) : 2000,
          start ? start : text, want);
}

static void check_contains(const char *what, const char *text, const char *want) {
  if (strstr(text, want)) return;
  failures++;
  fprintf(stderr, "FAILED %s: no '%s' in\n%s\n", what, want, text);
}

static const char records[] =
    "heap profile: 20: 3149108 [36: 5279396] @ heap/1048576\n"
    "3: 3145728 [5: 5242880] @ 0x7f0000001020 0x401010\n"
    "#\t0x7f000000101f\tfoo_alloc+0x1f\t/nonexistent/libfoo.so.1:0\n"
    "#\t0x40100f\tmain+0xf\t/src/main.c:10\n"
    "\n"
    "4: 2048 [4: 2048] @ 0x7f1000001011 0x401010\n"
    "#\t0x7f1000001010\n"
    "#\t0x40100f\tmain+0xf\t/src/main.c:10\n"
    "\n"
    "1: 512 [1: 512] @ 0x7f1000001011 0x401010\n"
    "#\t0x7f1000001010\n"
    "#\t0x40100f\tmain+0xf\t/src/main.c:10\n"
    "\n"
    "7: 448 [12: 768] @ 0x401210 0x401110 0x401010\n"
    "#\t0x40120f\tns::make<int>(int)+0xf\t/src/make.cc:7\n"
    "#\t0x40110f\tinner+0xf\t\t/src/inner.h:3\n"
    "#\t0x40110f\touter+0xf\t\t/src/main.c:40\n"
    "#\t0x40100f\tmain+0xf\t\t/src/main.c:10\n"
    "\n"
    "3: 300 [3: 300] @ 0x7f0000006000 0x401010 0x3\n"
    "#\t0x7f0000005fff\n"
    "#\t0x40100f\tmain+0xf\t/src/main.c:10\n"
    "#\t[truncated: no unwind information]\n"
    "\n"
    "1: 48 [2: 96] @ 0x7f2000001011 0xdead0001 0x2\n"
    "#\t0x7f2000001010\tjit:<b>&\"x\"??"
    "caf\xc3\xa9+0x10\t??:0\n"
    "#\t0xdead0000\n"
    "#\t[truncated: deeper than 2048 frames]\n"
    "\n"
    "1: 24 [1: 24] @ 0x4\n"
    "#\t[truncated: stack memory cannot be read]\n"
    "\n"
    "0: 0 [8: 32768] @ 0x401210 0x401110 0x401010\n"
    "#\t0x40120f\tns::make<int>(int)+0xf\t/src/make.cc:7\n"
    "#\t0x40110f\tinner+0xf\t\t/src/inner.h:3\n"
    "#\t0x40110f\touter+0xf\t\t/src/main.c:40\n"
    "#\t0x40100f\tmain+0xf\t\t/src/main.c:10\n"
    "\n"
    "\n";

static const char map[] =
    "--- Memory map: ---\n"
    "00401000-00500000 r-xp 00001000 00:00 0                                  /nonexistent/demo\n"
    "7f0000001000-7f0000100000 r-xp 00001000 00:00 0                          "
    "/nonexistent/[deleted]libfoo.so.1\n"
    "7f1000001000-7f1000002000 r-xp 00000000 00:00 0                          "
    "/nonexistent/libnew.so\n"
    "7f2000001000-7f2000002000 r-xp 00000000 00:00 0                          //anon\n"
    "7ffe00001000-7ffe00002000 r-xp 00000000 00:00 0                          [vdso]\n"
    "7f1000001000-7f1000002000 r-xp 00000000 00:00 0                          "
    "/nonexistent/libold.so\n"
    "00000000-00010000 r-xp 00000000 00:00 0                                  [truncated]\n"
    "00000000-ffffffffffffffff r-xp 00000000 00:00 0                          [unmapped]\n";

static void test_records(void) {
  fixture_small(524288, false);
  char *text = text_of_tables();
  check_part("records", text, "heap profile:", "# runtime.MemStats\n", records);
  check_contains("order of MemStats", text,
                 "# NumForcedGC = 0\n# GCCPUFraction = 0\n# DebugGC = false\n# MaxRSS = ");
  check_contains("estimates", text, "# Alloc = 12552676\n# TotalAlloc = 22334691\n# Sys = ");
  free(text);
  stub.mappings[1].deleted = true;
  text = text_of_tables();
  check_contains("memory map", text, map);
  free(text);
  fixture_release();
}

static void test_rates(void) {
  fixture_small(1, false);
  char *text = text_of_tables();
  check_contains("rate 1", text, "heap profile: 20: 3149108 [36: 5279396] @ heap/2\n");
  free(text);
  fixture_release();
  fixture_small(524288, true);
  text = text_of_tables();
  check_contains("mixed rates", text, " @ heap/2\n57348: 3670240 [98310: 6291840] @ 0x401210 ");
  check_contains("mixed rates, scaled", text,
                 "\n3: 3638090 [6: 6063483] @ 0x7f0000001020 0x401010\n");
  check_contains("mixed rates, the other one", text, "\n0: 0 [2052: 8405003] @ 0x401210 ");
  check_contains("mixed rates, said", text, "\n# Records were sampled at different rates");
  free(text);
  stub.bucket_count = 0;
  config.memprofile_rate = 4096;
  text = text_of_tables();
  check_part("nothing", text, "heap profile:", "# runtime",
             "heap profile: 0: 0 [0: 1] @ heap/8192\n\n");
  free(text);
  fixture_release();
}

static void test_nothing_freed(void) {
  fixture_small(524288, false);
  stub.bucket_count = 1;
  stub.buckets[0].frees = 0;
  char *text = text_of_tables();
  check_contains("alloc equals in use", text,
                 "heap profile: 10: 640 [10: 641] @ heap/1048576\n10: 640 [10: 640] @ ");
  free(text);
  fixture_release();
}

static void test_losses(void) {
  fixture_small(524288, false);
  atomic_store(&shim_counters.heap_lost_live_table_full, 3);
  atomic_store(&shim_counters.stacks_truncated_depth, 4);
  atomic_store(&shim_counters.mutex_lost_waiters, 5); /* no concern of the heap's */
  char *text = text_of_tables();
  check_contains("loss", text, "\n# heap_lost_live_table_full = 3 (sampled allocations dropped: ");
  check_contains("other loss", text, ")\n# stacks_truncated_depth = 4 (");
  if (strstr(text, "mutex_lost")) failures++;
  free(text);
  memset(&shim_counters, 0, sizeof shim_counters);
  fixture_release();
}

/* ---- counts ---- */

static char *text_of_counts(bool empty) {
  static const uint64_t making[] = {0x401210, 0x401110, 0x401010},
                        working[] = {0x7f0000001020, 0x401010}, not_read[] = {4},
                        low[] = {0x90000, 0x401010};
  static const struct {
    const uint64_t *frames;
    uint32_t frame_count;
    const char *name;
    int64_t tid;
    double value;
  } stacks[] = {{working, 2, "b", 0, 1},
                {making, 3, "z", 0, 3},
                {making, 3,
                 "a\"\\\n\xff"
                 "\xc3\xa9",
                 12, 3},
                {making, 3, NULL, 0, 3},
                {working, 2, "a", 0, 1},
                {not_read, 1, "idle", 0, 7},
                {making, 2, "z", 0, 3},
                {low, 2, NULL, 0, 1}};
  struct profile_builder *builder = profile_builder_open("threadcreate", 1);
  if (!builder) abort();
  for (size_t i = 0; i < sizeof stacks / sizeof *stacks && !empty; i++) {
    const struct profile_stack stack = {
        .frame_count = stacks[i].frame_count, .epoch = 1, .frames = stacks[i].frames};
    const struct profile_label labels[] = {{.key = "thread_name", .text = stacks[i].name},
                                           {.key = "n", .number = stacks[i].tid}};
    if (!profile_builder_add(builder, &stack, labels, stacks[i].name ? 1 + (stacks[i].tid != 0) : 0,
                             &stacks[i].value))
      abort();
  }
  struct profile *profile = profile_builder_finish(builder);
  struct memory_sink sink;
  memory_sink_start(&sink);
  if (!profile || !profile_encode_text(profile, &sink.base)) abort();
  profile_release(profile);
  return sink.bytes;
}

#define MAKING_LINES                                      \
  "#\t0x40120f\tns::make<int>(int)+0xf\t/src/make.cc:7\n" \
  "#\t0x40110f\tinner+0xf\t\t/src/inner.h:3\n"            \
  "#\t0x40110f\touter+0xf\t\t/src/main.c:40\n"
#define MAIN_LINE "#\t0x40100f\tmain+0xf\t\t/src/main.c:10\n\n"
#define WORKING_LINES                                                                           \
  "#\t0x7f000000101f\tfoo_alloc+0x1f\t/nonexistent/libfoo.so.1:0\n#\t0x40100f\tmain+0xf\t/src/" \
  "main.c:10\n\n"

/* By count, then as texts: "0x401210" before "0x5", a shorter stack before a longer one, no labels
 * before labels. */
static const char counts[] =
    "threadcreate profile: total 22\n"
    "7 @ 0x5\n"
    "# labels: {\"thread_name\":\"idle\"}\n"
    "#\t[thread not read: goroutine?debug=2 says why]\n"
    "\n"
    "3 @ 0x401210 0x401110\n"
    "# labels: {\"thread_name\":\"z\"}\n" MAKING_LINES
    "\n"
    "3 @ 0x401210 0x401110 0x401010\n" MAKING_LINES MAIN_LINE
    "3 @ 0x401210 0x401110 0x401010\n"
    "# labels: {\"n\":\"12\", \"thread_name\":\"a\\\"\\\\\\n\\xff\xc3\xa9\"}\n" MAKING_LINES
        MAIN_LINE
    "3 @ 0x401210 0x401110 0x401010\n"
    "# labels: {\"thread_name\":\"z\"}\n" MAKING_LINES MAIN_LINE
    "1 @ 0x7f0000001020 0x401010\n"
    "# labels: {\"thread_name\":\"a\"}\n" WORKING_LINES
    "1 @ 0x7f0000001020 0x401010\n"
    "# labels: {\"thread_name\":\"b\"}\n" WORKING_LINES
    "1 @ 0x90000 0x401010\n"
    "#\t0x8ffff\n"
    "#\t0x40100f\tmain+0xf\t/src/main.c:10\n\n"
    "\n";

static void test_counts(void) {
  fixture_small(524288, false);
  char *text = text_of_counts(false);
  check_part("counts", text, "threadcreate profile:", "--- Memory map: ---\n", counts);
  check_contains("counts, marker's place", text, " [truncated]\n00000000-ffffffffffffffff r-xp ");
  free(text);
  text = text_of_counts(true);
  check_part("no counts", text, "threadcreate profile:", "--- Memory",
             "threadcreate profile: total 0\n\n");
  free(text);
  fixture_release();
}

/* ---- block and mutex ---- */

static char *text_of_contention(enum contention_kind kind) {
  struct profile *profile = contention_profile_build(kind);
  struct memory_sink sink;
  memory_sink_start(&sink);
  if (!profile || !profile_encode_text(profile, &sink.base)) abort();
  profile_release(profile);
  return sink.bytes;
}

static const char block_text[] =
    "--- contention:\n"
    "cycles/second=1000000000\n"
    "123456789 0 @ 0x7f0000001020 0x401010\n" WORKING_LINES
    "5001000 3 @ 0x401210 0x401110 0x401010\n" MAKING_LINES MAIN_LINE
    "0 2 @ 0x4\n"
    "#\t[truncated: stack memory cannot be read]\n\n"
    "\n";
static const char mutex_text[] =
    "--- mutex:\n"
    "cycles/second=1000000000\n"
    "sampling period=1\n"
    "4503599627370496 0 @ 0x7f0000006000 0x401010 0x3\n"
    "#\t0x7f0000005fff\n"
    "#\t0x40100f\tmain+0xf\t/src/main.c:10\n"
    "#\t[truncated: no unwind information]\n\n"
    "7000 3 @ 0x401210 0x401110 0x401010\n" MAKING_LINES MAIN_LINE
    "1 1000000 @ 0x7f1000001011 0x401010\n"
    "#\t0x7f1000001010\n"
    "#\t0x40100f\tmain+0xf\t/src/main.c:10\n\n"
    "\n";

static void test_contention(void) {
  fixture_small(524288, false);
  fixture_contention();
  char *text = text_of_contention(CONTENTION_BLOCK);
  check_part("block", text, "--- contention:", "--- Memory map: ---\n", block_text);
  check_contains("block, markers' place", text, " [truncated]\n");
  free(text);
  text = text_of_contention(CONTENTION_MUTEX);
  check_part("mutex", text, "--- mutex:", "--- Memory map: ---\n", mutex_text);
  free(text);
  atomic_store(&shim_counters.mutex_lost_waiters, 3);
  text = text_of_contention(CONTENTION_MUTEX);
  check_contains("loss", text,
                 "\n\n# mutex_lost_waiters = 3 (waits whose releasers were not looked for: ");
  check_contains("map behind the loss", text, ")\n\n--- Memory map: ---\n");
  free(text);
  atomic_store(&shim_counters.mutex_lost_waiters, 0);
  stub.contention_count = 0;
  text = text_of_contention(CONTENTION_BLOCK);
  check_part("no waits", text, "--- contention:", "--- Memory",
             "--- contention:\ncycles/second=1000000000\n\n");
  free(text);
  text = text_of_contention(CONTENTION_MUTEX);
  check_part("no releases", text, "--- mutex:", "--- Memory",
             "--- mutex:\ncycles/second=1000000000\nsampling period=1\n\n");
  free(text);
  fixture_release();
}

int main(void) {
  test_records();
  test_rates();
  test_nothing_freed();
  test_losses();
  test_counts();
  test_contention();
  return failures != 0;
}

/* links: test/fixture_profile.c test/stub_tables.c test/agent_memory_libc.c test/stub_clock.c */
/* The forms of a call tree, letter for letter, of hand-made tables: inlined code, places without
 * names, markers, names that would be markup or end a line, recursion, memory that fails. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/profiles/call_tree_forms.h"
#include "agent/profiles/heap_profile.h"
#include "fixture_profile.h"
#include "stub_tables.h"

static int failures;

static struct profile *heap_of_tables(void) {
  struct heap_snapshot *now = heap_snapshot_take();
  struct profile *profile =
      heap_profile_build("heap", now, &(struct heap_selection){0}, HEAP_PROFILE_SCALED);
  heap_snapshot_release(now);
  if (!profile) abort();
  return profile;
}

static char *written(bool (*write)(const struct profile *, const struct call_tree_options *,
                                   struct byte_sink *),
                     const struct profile *profile, uint32_t value, uint64_t node_count) {
  struct call_tree_options options = {"demo", 7, value, node_count};
  struct memory_sink sink;
  memory_sink_start(&sink);
  if (!write(profile, &options, &sink.base)) abort();
  return sink.bytes;
}

static void check_contains(const char *text, const char *want) {
  if (strstr(text, want)) return;
  failures++;
  fprintf(stderr, "FAILED: no\n%s\nin\n%s\n", want, text);
}

static void check_equal(const char *text, const char *want) {
  if (strcmp(text, want) == 0) return;
  failures++;
  fprintf(stderr, "FAILED: got\n%s\nwant\n%s\n", text, want);
}

enum { ALLOC_OBJECTS = 0, INUSE_SPACE = 3 };

static void test_collapsed(void) {
  fixture_small(1, false);
  struct profile *profile = heap_of_tables();
  char *text = written(call_tree_write_collapsed, profile, ALLOC_OBJECTS, 0);
  static const char *const lines[] = {
      "main;outer;inner;ns::make<int>(int) 20\n",
      "main;foo_alloc 5\n",
      "[truncated: no unwind information];main;[libfoo.so.1] 3\n",
      "[truncated: deeper than 2048 frames];<unknown>;jit:<b>&\"x\"?"
      "?"
      "caf\xc3\xa9 2\n",
      "main;[libold.so] 1\n",
      "main;[libnew.so] 4\n",
      "[truncated: stack memory cannot be read] 1\n"};
  size_t size = 0;
  for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
    check_contains(text, lines[i]);
    size += strlen(lines[i]);
  }
  if (strlen(text) != size) failures++, fprintf(stderr, "FAILED: more than that in\n%s\n", text);
  free(text);
  profile_release(profile);
  free(stub.stacks);
}

static void test_top(void) {
  fixture_small(1, false);
  struct profile *profile = heap_of_tables();
  char *text = written(call_tree_write_top, profile, INUSE_SPACE, 3);
  check_equal(text,
              "File: demo\nType: inuse_space\n"
              "Showing nodes accounting for 3MB, 99.97% of 3MB total\n"
              "Dropped 10 nodes\n"
              "      flat  flat%   sum%        cum   cum%\n"
              "       3MB 99.89% 99.89%        3MB 99.89%  foo_alloc\n"
              "       2kB  0.07% 99.96%        2kB  0.07%  [libnew.so]\n"
              "      512B  0.02% 99.97%       512B  0.02%  [libold.so]\n");
  free(text);
  profile_release(profile);
  free(stub.stacks);
}

static void test_json(void) {
  fixture_small(1, false);
  struct profile *profile = heap_of_tables();
  char *text = written(call_tree_write_json, profile, 0, 0);
  check_contains(text, "\"process\":{\"name\":\"demo\",\"pid\":7}");
  check_contains(text, "\"total\":[36,5279396,20,3149108]");
  check_contains(text, "{\"name\":\"jit:<b>&\\\"x\\\"\\u000a?caf\xc3\xa9\",\"file\":null,");
  check_contains(text, "{\"name\":\"foo_alloc\",\"file\":null,\"module\":");
  check_contains(text, "\"flat\":[5,5242880,3,3145728],\"cum\":[5,5242880,3,3145728]}");
  check_contains(text, "\"lines\":[40,40],\"flat\":[0,0,0,0],\"cum\":[20,33536,7,448]}");
  check_contains(text, "\"cut\":{\"one_in\":0,\"nodes\":0,\"functions\":0,\"values\":[0,0,0,0]}}");
  free(text);
  text = written(call_tree_write_json, profile, 0, 2);
  check_contains(text, "\"cut\":{\"one_in\":2,");
  free(text);
  profile_release(profile);
  free(stub.stacks);
}

/* f <- f <- main: f counts once in cum. */
static void test_recursion(void) {
  enum { CODE = 0x401000 };
  static const uint64_t frames[] = {CODE + 0x310, CODE + 0x320, CODE + 0x10};
  static struct stub_symbol symbols[] = {
      {CODE, CODE + 0x100, 1, {{"main", "main", "/a.c", 1}}},
      {CODE + 0x300, CODE + 0x400, 1, {{"f;g", "f;g", "/a.c", 2}}}};
  static const struct stack_view stack = {3, 1, frames};
  fixture_small(1, false);
  stub.symbols = symbols;
  stub.symbol_count = 2;
  stub.stacks[0] = stack;
  stub.bucket_count = 1;
  struct profile *profile = heap_of_tables();
  char *text = written(call_tree_write_collapsed, profile, ALLOC_OBJECTS, 0);
  check_equal(text, "main;f:g;f:g 10\n");
  free(text);
  text = written(call_tree_write_top, profile, ALLOC_OBJECTS, 0);
  check_contains(text, "        10 100.00% 100.00%         10 100.00%  f;g\n");
  check_contains(text, "         0  0.00% 100.00%         10 100.00%  main\n");
  free(text);
  profile_release(profile);
  free(stub.stacks);
}

static void test_receiver_gone(void) {
  fixture_small(1, false);
  struct profile *profile = heap_of_tables();
  struct call_tree_options options = {"demo", 7, 0, 0};
  for (int form = 0; form < 3; form++) {
    struct memory_sink sink;
    memory_sink_start(&sink);
    sink.refuse_after = 10;
    bool ok = form == 0   ? call_tree_write_json(profile, &options, &sink.base)
              : form == 1 ? call_tree_write_top(profile, &options, &sink.base)
                          : call_tree_write_collapsed(profile, &options, &sink.base);
    if (ok) failures++, fprintf(stderr, "FAILED: form %d to a receiver that is gone\n", form);
    memory_sink_release(&sink);
  }
  profile_release(profile);
  free(stub.stacks);
}

int main(void) {
  test_collapsed();
  test_top();
  test_json();
  test_recursion();
  test_receiver_gone();
  return failures ? 1 : 0;
}

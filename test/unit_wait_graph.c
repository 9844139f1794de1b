/* links: agent/threads/wait_graph.c */
/* Which threads can never go on: hand-made graphs, then all graphs of five threads against a plain
 * walk from each. */
#include "agent/threads/wait_graph.h"

#include <stdbool.h>
#include <stdio.h>

#include "check.h"

static void judged(const size_t *holders, size_t count, const char *expected, uint32_t deadlocks) {
  struct wait_node nodes[8];
  char found[9] = "";
  for (size_t i = 0; i < count; i++) nodes[i].holder = holders[i];
  uint32_t told = wait_graph_judge(nodes, count);
  for (size_t i = 0; i < count; i++) found[i] = ".ceb"[nodes[i].stuck];
  for (size_t i = 0; i < count; i++)
    CHECK((nodes[i].deadlock > 0) == (nodes[i].stuck != NOT_STUCK));
  CHECK(told == deadlocks);
  for (size_t i = 0; i < count; i++) CHECK(found[i] == expected[i]);
}

/* ---- by definition ---- */

static bool is_in_cycle(const size_t *holders, size_t i) {
  size_t at = holders[i];
  for (int steps = 0; steps < 5 && at < WAITS_IN_VAIN && at != i; steps++) at = holders[at];
  return at == i;
}

static bool never_ends_well(const size_t *holders, size_t i) {
  for (int steps = 0; steps < 6; steps++) {
    if (holders[i] == WAITS_FOR_NOBODY) return false;
    if (holders[i] == WAITS_IN_VAIN) return true;
    i = holders[i];
  }
  return true;
}

static void check_against_definition(const size_t *holders) {
  struct wait_node nodes[5];
  for (size_t i = 0; i < 5; i++) nodes[i].holder = holders[i];
  uint32_t deadlocks = wait_graph_judge(nodes, 5);
  for (size_t i = 0; i < 5; i++) {
    enum thread_stuck expected = !never_ends_well(holders, i)  ? NOT_STUCK
                                 : holders[i] == WAITS_IN_VAIN ? STUCK_AT_END
                                 : is_in_cycle(holders, i)     ? STUCK_IN_CYCLE
                                                               : STUCK_BEHIND;
    CHECK(nodes[i].stuck == expected);
    CHECK(nodes[i].deadlock <= deadlocks && (nodes[i].deadlock > 0) == (expected != NOT_STUCK));
    if (expected == STUCK_BEHIND || expected == STUCK_IN_CYCLE)
      CHECK(nodes[i].deadlock == nodes[holders[i]].deadlock);
  }
}

int main(void) {
  judged((size_t[]){1, 0, WAITS_FOR_NOBODY}, 3, "cc.", 1);
  judged((size_t[]){0, 0, 1}, 3, "cbb", 1);
  judged((size_t[]){WAITS_FOR_NOBODY, 0, 1}, 3, "...", 0);
  judged((size_t[]){1, WAITS_IN_VAIN, 3, 2, 3}, 5, "beccb", 2);
  judged(NULL, 0, "", 0);
  for (int code = 0; code < 7 * 7 * 7 * 7 * 7; code++) {
    size_t holders[5];
    for (int i = 0, rest = code; i < 5; i++, rest /= 7)
      holders[i] = rest % 7 < 5    ? (size_t)(rest % 7)
                   : rest % 7 == 5 ? WAITS_FOR_NOBODY
                                   : WAITS_IN_VAIN;
    check_against_definition(holders);
  }
  return failures != 0;
}

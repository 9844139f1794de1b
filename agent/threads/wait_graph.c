#include "wait_graph.h"

/* Follows the holders from i through those that are not judged yet; `mark`, of this walk alone, is
 * in `deadlock` of those that it passes. */
static size_t walk(struct wait_node *nodes, size_t i, uint32_t mark) {
  while (i < WAITS_IN_VAIN && nodes[i].deadlock == 0) {
    nodes[i].deadlock = mark;
    i = nodes[i].holder;
  }
  return i;
}

static void judge_cycle(struct wait_node *nodes, size_t in_it) {
  size_t i = in_it;
  do {
    nodes[i].stuck = STUCK_IN_CYCLE;
    i = nodes[i].holder;
  } while (i != in_it);
}

/* The rest of the walk from i, which has met the end of it. */
static void judge_path(struct wait_node *nodes, size_t i, uint32_t mark, size_t end) {
  for (; i < WAITS_IN_VAIN && nodes[i].deadlock == mark && nodes[i].stuck == NOT_STUCK;
       i = nodes[i].holder)
    if (nodes[i].holder == WAITS_IN_VAIN) nodes[i].stuck = STUCK_AT_END;
    else if (end != WAITS_FOR_NOBODY) nodes[i].stuck = STUCK_BEHIND;
}

/* From marks of walks to numbers of deadlocks: those behind one have its number. */
static uint32_t number_deadlocks(struct wait_node *nodes, size_t count) {
  uint32_t deadlocks = 0;
  for (size_t i = 0; i < count; i++) nodes[i].deadlock = 0;
  for (size_t i = 0; i < count; i++) {
    if (nodes[i].deadlock || (nodes[i].stuck != STUCK_IN_CYCLE && nodes[i].stuck != STUCK_AT_END))
      continue;
    deadlocks++;
    for (size_t k = i; k < WAITS_IN_VAIN && nodes[k].deadlock == 0; k = nodes[k].holder)
      nodes[k].deadlock = deadlocks;
  }
  for (size_t i = 0; i < count; i++) {
    if (nodes[i].stuck != STUCK_BEHIND) continue;
    size_t k = i;
    while (nodes[k].deadlock == 0) k = nodes[k].holder;
    uint32_t number = nodes[k].deadlock;
    for (k = i; nodes[k].deadlock == 0; k = nodes[k].holder) nodes[k].deadlock = number;
  }
  return deadlocks;
}

uint32_t wait_graph_judge(struct wait_node *nodes, size_t count) {
  for (size_t i = 0; i < count; i++) {
    nodes[i].stuck = NOT_STUCK;
    nodes[i].deadlock = 0;
  }
  uint32_t mark = 0;
  for (size_t i = 0; i < count; i++) {
    if (nodes[i].deadlock) continue;
    size_t end = walk(nodes, i, ++mark);
    if (end < WAITS_IN_VAIN && nodes[end].deadlock == mark) judge_cycle(nodes, end);
    else if (end < WAITS_IN_VAIN && nodes[end].stuck == NOT_STUCK) end = WAITS_FOR_NOBODY;
    judge_path(nodes, i, mark, end);
  }
  return number_deadlocks(nodes, count);
}

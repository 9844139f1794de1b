/* Who waits for whom, one thread for at most one other: which of them can never go on. Pure: of
 * numbers alone. Context: any; locks: none. */
#ifndef AGENT_WAIT_GRAPH_H
#define AGENT_WAIT_GRAPH_H

#include <stddef.h>
#include <stdint.h>

#include "thread_dump.h"

#define WAITS_FOR_NOBODY SIZE_MAX /* it may go on */
#define WAITS_IN_VAIN (SIZE_MAX - 1) /* for one that has ended */

struct wait_node {
  size_t holder; /* index of another node or its own, or one of the above */
  enum thread_stuck stuck;
  uint32_t deadlock; /* 1 ..: of the cycle, or of the vain wait, that it is in or behind; 0: none */
};

/* Fills in stuck and deadlock; returns how many deadlocks there are. Numbered in the order of the
 * lowest index in each. */
uint32_t wait_graph_judge(struct wait_node *nodes, size_t count);

#endif

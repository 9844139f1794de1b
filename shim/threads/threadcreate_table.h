/* How many threads each stack created, and how many of those have ended: (stack -> counts), never
 * removed. Context of the writers: host thread; locks: none. */
#ifndef SHIM_THREADCREATE_TABLE_H
#define SHIM_THREADCREATE_TABLE_H

#include <stdbool.h>
#include <stdint.h>

void threadcreate_table_created(
    uint32_t stack); /* before the thread may run. A stack id of stack_table.h; a full table is
                        counted as a loss */
void threadcreate_table_failed(uint32_t stack); /* takes that back */
void threadcreate_table_ended(uint32_t stack);

struct threadcreate_view {
  uint32_t stack;
  uint64_t created, ended; /* ended <= created */
};
/* Entries are numbered 0 .. THREADCREATE_STACKS_MAX - 1; false: that one is not in use. Context:
 * agent. */
enum { THREADCREATE_STACKS_MAX = 1 << 12 };
bool threadcreate_table_read(uint32_t index, struct threadcreate_view *out);

/* Every thread, also those whose stack could not be kept. */
void threadcreate_totals(uint64_t *created, uint64_t *ended);

#endif

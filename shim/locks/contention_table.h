/* Contention by stack: how often threads waited and how long, of which kind; never removed.
 *
 * Counts are estimates of all events (each sample counts for as many as it stands for), so they are
 * fractions: kept in 1/65536. Context of the writers: any host thread, signal handlers, a lock's
 * critical section; locks: none; may map memory.
 */
#ifndef SHIM_CONTENTION_TABLE_H
#define SHIM_CONTENTION_TABLE_H

#include <stdbool.h>
#include <stdint.h>

enum contention_kind {
  CONTENTION_BLOCK, /* the stack of who waited */
  CONTENTION_MUTEX /* the stack of who released what others waited for */
};
enum { CONTENTION_COUNT_UNIT = 1 << 16, CONTENTION_ENTRIES_MAX = 1 << 16 };

/* The entry of a stack (frames as in stack_table.h), >= 1; 0: there is no room (counted in
 * contention_lost_table_full, contention_lost_no_memory). */
uint32_t contention_table_entry(enum contention_kind kind, const uint64_t *frames,
                                uint32_t frame_count);
/* count in 1/65536, delay in ns. entry 0 is ignored. */
void contention_table_add(uint32_t entry, uint64_t count, uint64_t delay);

struct contention_view {
  enum contention_kind kind;
  uint32_t stack; /* id in stack_table.h; leaf: the function that waited or released
                     (pthread_cond_wait, ...), then its caller */
  double count; /* events */
  uint64_t delay; /* ns */
};
/* Entries are numbered 1 .. contention_table_count(). False: that one is not in use. Context:
 * agent. */
uint32_t contention_table_count(void);
bool contention_table_read(uint32_t entry, struct contention_view *out);
uint32_t contention_table_count_of(enum contention_kind kind); /* stacks of one kind */
uint64_t contention_table_bytes(void);

#endif

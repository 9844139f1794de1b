/* What symbolizing takes, in one account: objects' tables, windows on their files, names, maps of
 * JIT code. It is at most PPROFAGENT_SYMBOL_MEMORY at any time, and half of what the host could
 * still take before the kernel refuses it memory or kills it (memory_headroom.h).
 * Context: agent threads; locks: none.
 */
#ifndef AGENT_SYMBOL_MEMORY_H
#define AGENT_SYMBOL_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

enum {
  SYMBOL_MEMORY_DEFAULT = 64 << 20,
  SYMBOL_MEMORY_LEAST = 16 << 20 /* half of it is a stack */
};

/* Before the first use; the default otherwise. */
void symbol_memory_set_budget(uint64_t bytes);
uint64_t symbol_memory_budget(void);
/* Asks how much the host can spare now. */
void symbol_memory_look(void);

/* False: it would be too much. */
bool symbol_memory_take(uint64_t bytes);
void symbol_memory_give(uint64_t bytes);
uint64_t symbol_memory_used(void);
uint64_t symbol_memory_peak(void); /* most that was used at once */
/* What may still be taken. */
uint64_t symbol_memory_left(void);
/* After a fork: what was taken is the parent's. */
void symbol_memory_forget(void);

#endif

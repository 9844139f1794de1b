/* What the program announces to debuggers of code that it makes (the GDB JIT interface: qemu, php,
 * LLVM): in-memory ELF objects, in lists that begin at a variable __jit_debug_descriptor of each
 * object that makes code. All of it is the program's memory, which it may change or free at any
 * time: it is read as own_memory.h reads. Nothing is called back, and no breakpoint set: what is
 * announced is seen when somebody looks.
 * Context: agent threads; locks: its own. */
#ifndef AGENT_JIT_INTERFACE_H
#define AGENT_JIT_INTERFACE_H

#include <stddef.h>
#include <stdint.h>

#include "shim/stacks/announcements.h"

struct jit_object {
  uint64_t entry; /* of the list: its address */
  uint64_t address, size; /* the ELF object */
};

enum { JIT_OBJECTS_MAX = 1 << 16 };

struct jit_list {
  struct jit_object *objects; /* the newest of each list first; NULL: none, or no memory */
  size_t count, capacity;
  struct announcement_head heads[ANNOUNCEMENT_LISTS_MAX]; /* as they were before */
  uint32_t head_count;
};

void jit_interface_read(struct jit_list *out);
void jit_list_release(struct jit_list *list);

#endif

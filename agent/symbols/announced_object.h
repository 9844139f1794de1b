/* One object of the JIT interface: what it says of functions, as names and as unwind entries. It is
 * of the form that the program's JIT compiler gave it: relocatable (a symbol is so far from its
 * section), or not. Context: agent threads; locks: none. */
#ifndef AGENT_ANNOUNCED_OBJECT_H
#define AGENT_ANNOUNCED_OBJECT_H

#include <elf.h>
#include <stdbool.h>

#include "jit_interface.h"

struct announced_object {
  struct jit_object at;
  bool relocatable;
  Elf64_Shdr *sections;
  unsigned section_count, names_index; /* the second: of the section with their names */
};

/* False: it is no ELF object of this machine's, or it cannot be read. Else to be closed. */
bool announced_object_open(struct announced_object *object, const struct jit_object *at);
void announced_object_close(struct announced_object *object);

/* Each function that has a name. The name is valid during the call. take: false to end. At most so
 * many bytes are read; false: there were more. */
struct announced_function {
  uint64_t start, end;
  const char *name;
};
typedef bool announced_function_taker(void *taker, const struct announced_function *function);
bool announced_object_functions(const struct announced_object *object, uint64_t bytes_max,
                                announced_function_taker *take, void *taker);

/* Tells registered_frames.h of its unwind entries, under that key. False: there are none. */
bool announced_object_register(const struct announced_object *object, uint64_t key);

#endif

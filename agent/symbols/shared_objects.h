/* Objects whose symbols have been read, for all requests: tables stay from one to the next, so that
 * the next reads only what it asks for. They go, those that were not used for longest first, when
 * the memory for symbols is short, and all but a part of it when nobody asks any more.
 * Context: agent threads; locks: the symbolizer's.
 */
#ifndef AGENT_SHARED_OBJECTS_H
#define AGENT_SHARED_OBJECTS_H

#include <stdbool.h>
#include <stdint.h>

#include "mappings.h"
#include "object_symbols.h"

struct shared_object {
  struct shared_object *next;
  char *key;
  struct object_symbols *symbols;
  uint64_t last_use;
  bool idle; /* its files are closed */
};

/* key: says which object it is. NULL: no memory. *opened: it was read now. */
struct shared_object *shared_objects_get(const char *key, const struct mapping *map, bool *opened);
/* Closes one; NULL: nothing. */
void shared_objects_drop(struct shared_object *object);
/* Closes all but keep; false: there was none. */
bool shared_objects_drop_others(const struct shared_object *keep);
/* No request is left. */
void shared_objects_idle(void);
/* After a fork: they are the parent's, in an unknown state. */
void shared_objects_forget(void);

/* Changes when one is closed: pointers to it are not to be used then. */
uint64_t shared_objects_generation(void);

#endif

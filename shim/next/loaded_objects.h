/* The objects that the loader has loaded, in its search order.
 * Context: any, once the loader has relocated this library; locks: none. What was loaded at start
 * stays where it is in the list. */
#ifndef SHIM_LOADED_OBJECTS_H
#define SHIM_LOADED_OBJECTS_H

#include <link.h>
#include <stdbool.h>

/* The first of the list that this library is in: a dlmopen has a list of its own. NULL: the loader
 * keeps none. */
const struct link_map *loaded_objects_first(void);

bool loaded_object_is_own(const struct link_map *map);

/* By what they call themselves: in this library the address of a function of theirs is that of a
 * stub (libc_binding.h). */
bool loaded_object_is_libc(const struct link_map *map);
bool loaded_object_is_loader(const struct link_map *map);

#endif

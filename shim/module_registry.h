/* Every loaded object in which a sampled stack has had a frame, remembered after dlclose.
 *
 * An epoch is a number that rises when an address range that belonged to one module is seen to belong to another; a stack's epoch
 * says which of the two its addresses mean. A module that is loaded again where it was keeps its entry.
 */
#ifndef SHIM_MODULE_REGISTRY_H
#define SHIM_MODULE_REGISTRY_H

#include <stdbool.h>
#include <stdint.h>

struct module_view {
  uint64_t start, end;    /* mapped range, [start, end) */
  uint64_t bias;          /* runtime address - address in the file's program headers */
  const char *path;       /* the loader's name for it; "" for the main program, "linux-vdso.so.1" for the vdso */
  const uint8_t *build_id;/* GNU build-id bytes, or NULL */
  uint32_t build_id_size;
  uint32_t first_epoch;   /* the address range meant this module from this epoch on, until a later entry overlaps it */
};

/* Entries are numbered 1 .. module_registry_count(). Context: any; locks: none. */
uint32_t module_registry_count(void);
bool module_registry_read(uint32_t index, struct module_view *out);
uint32_t module_registry_epoch(void);
uint64_t module_registry_bytes(void);

/* Makes sure that the object that contains pc is in the registry. Context: malloc hook, signal; locks: none. */
struct dl_find_object;
void module_registry_note(const struct dl_find_object *found);

/* To be called after modules may have been unmapped: forgets cached unwind rules of those that are gone.
 * Context: any; locks: none. */
void module_registry_check_unloaded(void);

#endif

/* Every loaded object in which a sampled stack has had a frame, remembered after dlclose.
 *
 * A module that is seen where another one was gets a number, its first_epoch, above all before it;
 * the others have 1. A stack with frames in such a range carries the number of the module that was
 * there (its epoch), any other stack 1. A module that is loaded again where it was keeps its entry
 * and its number, so plugins that come and go add nothing.
 */
#ifndef SHIM_MODULE_REGISTRY_H
#define SHIM_MODULE_REGISTRY_H

#include <stdbool.h>
#include <stdint.h>

struct module_view {
  uint64_t start, end; /* mapped range, [start, end) */
  uint64_t bias; /* runtime address - address in the file's program headers */
  const char
      *path; /* the loader's name for it; "" for the main program, "linux-vdso.so.1" for the vdso */
  const uint8_t *build_id; /* GNU build-id bytes, or NULL */
  uint32_t build_id_size;
  uint32_t first_epoch; /* of two that overlap, an epoch means the one with the highest first_epoch
                           that is not above it */
  uint64_t identity; /* module_identity.h, where there is no build-id; 0: not known, or it cannot be
                        unloaded */
  bool current; /* it is what the range means now, as far as is known */
};

/* Entries are numbered 1 .. module_registry_count(). Context: any; locks: none. */
uint32_t module_registry_count(void);
bool module_registry_read(uint32_t index, struct module_view *out);
/* The epoch of a stack that was taken just now; 0: the range means a module that could not be
 * remembered. */
uint32_t module_registry_epoch_of(const uint64_t *frames, uint32_t frame_count);
uint64_t module_registry_bytes(void);

/* Makes sure that the object that contains pc is in the registry. Context: malloc hook, signal;
 * locks: none. */
struct dl_find_object;
void module_registry_note(const struct dl_find_object *found);

/* To be called after modules may have been unmapped: forgets cached unwind rules of those that are
 * gone. Context: any; locks: none. */
void module_registry_check_unloaded(void);

#endif

/* A captured stack into the stack table. Context: malloc hook, signal; locks: none; may map memory.
 */
#ifndef SHIM_CAPTURED_STACK_H
#define SHIM_CAPTURED_STACK_H

#include <stdint.h>

#include "module_registry.h"
#include "stack_capture.h"
#include "stack_table.h"

/* Its id there; 0: the table is full, or there is no memory. */
static inline uint32_t captured_stack_intern(const struct captured_stack *stack) {
  uint32_t epoch = module_registry_epoch_of(stack->frames, stack->frame_count);
  return stack_table_intern(stack->frames, stack->frame_count, epoch);
}

#endif

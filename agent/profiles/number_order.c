#include "number_order.h"

#include <string.h>

#include "agent/runtime/agent_memory.h"

bool number_order_sort(uint32_t *order, uint32_t count, number_order_swapped *swapped,
                       const void *things) {
  uint32_t *merged = agent_malloc((count + (size_t)1) * sizeof *merged);
  if (!merged) return false;
  for (uint64_t width = 1; width < count; width *= 2) {
    for (uint64_t start = 0; start < count; start += 2 * width) {
      uint64_t a = start, a_end = start + width < count ? start + width : count, b = a_end;
      uint64_t b_end = start + 2 * width < count ? start + 2 * width : count;
      for (uint64_t to = start; to < b_end; to++) {
        bool from_b = a == a_end || (b < b_end && swapped(things, order[a], order[b]));
        merged[to] = order[from_b ? b++ : a++];
      }
    }
    memcpy(order, merged, count * sizeof *order);
  }
  agent_free(merged);
  return true;
}

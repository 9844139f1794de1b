/* Things in an order of their own, by their numbers: libc's qsort may allocate from the program's
 * heap. Merge sort: equal ones stay as they were, and no input makes it slow.
 * Context: agent threads; locks: none. */
#ifndef AGENT_NUMBER_ORDER_H
#define AGENT_NUMBER_ORDER_H

#include <stdbool.h>
#include <stdint.h>

/* Whether thing b belongs above thing a, which stands above it now. */
typedef bool number_order_swapped(const void *things, uint32_t a, uint32_t b);

/* The numbers in `order`, all of them of things, rearranged. False: out of memory. */
bool number_order_sort(uint32_t *order, uint32_t count, number_order_swapped *swapped,
                       const void *things);

#endif

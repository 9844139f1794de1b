/* How much of an address range is in memory, from /proc/self/pagemap: nothing is asked of the
 * program's threads. A huge page counts with what of it lies in the range.
 * Context: agent threads; locks: none (one owner). */
#ifndef AGENT_RESIDENT_PAGES_H
#define AGENT_RESIDENT_PAGES_H

#include <stdbool.h>
#include <stdint.h>

struct resident_pages;

/* NULL: the kernel refuses (the process has given up root), there is no /proc, or no memory. */
struct resident_pages *resident_pages_open(void);
void resident_pages_close(struct resident_pages *pages); /* NULL is fine */

/* Bytes of start .. end, whole pages, that are in memory. False: not known; also when
 * RESIDENT_PAGES_BYTES_MAX of addresses have been looked at, which takes some tenths of a second.
 */
#define RESIDENT_PAGES_BYTES_MAX ((uint64_t)256 << 30)
bool resident_pages_count(struct resident_pages *pages, uintptr_t start, uintptr_t end,
                          uint64_t *bytes);

#endif

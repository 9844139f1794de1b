/* Whether memory of loaded objects can be read: their headers may say anything of where their
 * tables are, and what is mapped may be protected, or lie behind the end of its file. The kernel is
 * asked each time, because a program may protect at any moment what it does not need any more.
 * Context: malloc hook, signal, agent; locks: none; a system call a page. */
#ifndef SHIM_READABLE_PAGES_H
#define SHIM_READABLE_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { READABLE_PAGE = 4096 };

/* Every byte from start on; not more than a few hundred pages. False too once no more calls may be
 * made (confinement.h). */
bool readable_pages_cover(uintptr_t start, size_t size);

/* For what another thread may unmap between the question and the reading: copies by the kernel's
 * hand. The number of bytes that could be read. Context: agent. */
size_t readable_pages_copy(uintptr_t start, void *out, size_t size);

#endif

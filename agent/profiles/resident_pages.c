#include "resident_pages.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "agent/runtime/agent_memory.h"

/* Documentation/admin-guide/mm/pagemap.rst */
#define IN_MEMORY ((uint64_t)1 << 63)
enum { PAGE = 4096, PAGES_AT_ONCE = 8192 };

struct resident_pages {
  int descriptor;
  uint64_t left; /* bytes of addresses that may still be looked at */
  uint64_t entries[PAGES_AT_ONCE];
};

struct resident_pages *resident_pages_open(void) {
  struct resident_pages *pages = agent_malloc(sizeof *pages);
  if (!pages) return NULL;
  pages->left = RESIDENT_PAGES_BYTES_MAX;
  pages->descriptor = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (pages->descriptor >= 0) return pages;
  agent_free(pages);
  return NULL;
}

void resident_pages_close(struct resident_pages *pages) {
  if (!pages) return;
  close(pages->descriptor);
  agent_free(pages);
}

bool resident_pages_count(struct resident_pages *pages, uintptr_t start, uintptr_t end,
                          uint64_t *bytes) {
  *bytes = 0;
  if (end - start > pages->left) return false;
  pages->left -= end - start;
  for (uintptr_t page = start / PAGE; page < end / PAGE;) {
    uint64_t wanted = end / PAGE - page;
    if (wanted > PAGES_AT_ONCE) wanted = PAGES_AT_ONCE;
    ssize_t got = pread(pages->descriptor, pages->entries, wanted * sizeof *pages->entries,
                        (off_t)(page * sizeof *pages->entries));
    if (got < 0 && errno == EINTR) continue;
    if (got < (ssize_t)sizeof *pages->entries) return false;
    uint64_t count = (uint64_t)got / sizeof *pages->entries;
    for (uint64_t i = 0; i < count; i++)
      if (pages->entries[i] & IN_MEMORY) *bytes += PAGE;
    page += count;
  }
  return true;
}

#include "readable_pages.h"

#include "confinement.h"
#include "raw_syscall.h"

bool readable_pages_cover(uintptr_t start, size_t size) {
  enum { ADDRESS_BITS = 47, PAGES_MAX = 512 };
  if (size == 0) return true;
  uintptr_t last = start + size - 1, page = start / READABLE_PAGE;
  if (last < start || last >> ADDRESS_BITS || last / READABLE_PAGE - page >= PAGES_MAX) return false;
  if (confinement_forbids_calls()) return false;
  for (; page <= last / READABLE_PAGE; page++)
    if (!raw_is_readable(page * READABLE_PAGE)) return false;
  return true;
}

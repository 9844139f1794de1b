/* Another preloaded library of the kind that agents meet: it wraps malloc and dlsym itself, and
 * allocates in its constructor. */
#define _GNU_SOURCE
#include <dlfcn.h>

#include "workload.h"

static void *(*next_malloc)(size_t);
static void *(*next_dlsym)(void *, const char *);
static char early[65536];
static size_t early_used;

void *dlsym(void *handle, const char *name) {
  if (!next_dlsym)
    next_dlsym = (void *(*)(void *, const char *))dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.34");
  if (!next_dlsym)
    next_dlsym = (void *(*)(void *, const char *))dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
  free(keep(malloc(10))); /* as wrappers do */
  return next_dlsym(handle, name);
}

void *malloc(size_t size) {
  static __thread int inside;
  if (!next_malloc) {
    if (inside) {
      void *p = early + early_used; /* never freed: the host's free would not know it */
      early_used += (size + 15) & ~(size_t)15;
      return p;
    }
    inside = 1;
    void *(*found)(size_t) = (void *(*)(size_t))dlvsym(RTLD_NEXT, "malloc", "GLIBC_2.2.5");
    next_malloc = found ? found : (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
    inside = 0;
  }
  return next_malloc(size);
}

void free(void *pointer) {
  static void (*next_free)(void *);
  if ((char *)pointer >= early && (char *)pointer < early + sizeof early) return;
  if (!next_free) next_free = (void (*)(void *))dlvsym(RTLD_NEXT, "free", "GLIBC_2.2.5");
  if (next_free) next_free(pointer);
}

__attribute__((constructor)) static void constructor(void) {
  for (size_t i = 1; i < 1000; i++) free(keep(malloc(i)));
  keep(malloc(100));
}

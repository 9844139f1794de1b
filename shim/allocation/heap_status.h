/* Whether the profiles of memory are on, and why not. */
#ifndef SHIM_HEAP_STATUS_H
#define SHIM_HEAP_STATUS_H

/* NULL when heap profiling is on, else one sentence for the index page and /debug/pprof/health.
 * Context: any. */
const char *heap_off_reason(void);
/* The same of the mmap profile. */
const char *mmap_off_reason(void);

/* The object that serves the program's malloc: a path such as
 * "/lib/x86_64-linux-gnu/libjemalloc.so.2". Context: any. */
const char *heap_allocator_path(void);

#endif

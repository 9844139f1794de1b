/* A library that is loaded and unloaded, or bound to libc's own malloc (RTLD_DEEPBIND). */
#include "workload.h"

FRAME void *plugin_allocate(size_t size) { return keep(malloc(size)); }
FRAME void plugin_release(void *pointer) { free(pointer); }

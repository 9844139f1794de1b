/* Whether an unlock will release a mutex, from the fields that glibc's own initializers make part of its ABI (bits/struct_mutex.h); only read.
 * Context: any thread; locks: none; a system call where the mutex's type lets an unlock fail. */
#ifndef SHIM_MUTEX_OWNER_H
#define SHIM_MUTEX_OWNER_H

#include <stdbool.h>

/* A pthread_mutex_t or a mtx_t, which are the same. False: a recursive one is held more than once, or the caller does not hold it. */
bool mutex_unlock_releases(const void *mutex);

#endif

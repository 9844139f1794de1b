/* How much memory the process may still take before the kernel refuses it to the program, or kills
 * the program for it: the machine's available memory, the memory cgroups that it is in (both
 * versions), RLIMIT_AS, RLIMIT_DATA. File pages that the kernel would drop count as free. Context:
 * agent threads. */
#ifndef AGENT_MEMORY_HEADROOM_H
#define AGENT_MEMORY_HEADROOM_H

#include <stdint.h>

/* Bytes; UINT64_MAX: nothing limits it, or nothing is known (no /proc). A snapshot: take a part of
 * it. */
uint64_t memory_headroom(void);

/* The same, for tests: proc stands for /proc, cgroups for /sys/fs/cgroup. */
uint64_t memory_headroom_below(const char *proc, const char *cgroups);

#endif

/* Names of JIT-compiled code, from the text file /tmp/perf-PID.map that runtimes (node, java,
 * luajit, .NET) write for perf: "START SIZE NAME" in hex, one function a line. Of the lines for an
 * address the latest counts; one that begins where an earlier one began replaces it.
 *
 * Only places are kept in memory; names are read from the file when they are asked for, which stays
 * open. Context: agent threads; locks: the caller's. */
#ifndef AGENT_PERF_MAP_H
#define AGENT_PERF_MAP_H

#include <stdint.h>

struct perf_map;

enum {
  PERF_MAP_STALE = 1, /* the file is older than the process: another one had its number */
  PERF_MAP_LIMIT = 2 /* the oldest lines are left out: too many, or no memory */
};

/* Reads the file at path. It must be a regular file that belongs to this process's user or root and
 * has no second name (anybody may write into /tmp), and have been written since the process started
 * (started_nanos, wall clock; 0: not known). Lines that make no sense are skipped. NULL: there is
 * none. memory: how many bytes it may take, at its peak. *losses: of the above. */
struct perf_map *perf_map_read(const char *path, int64_t started_nanos, uint64_t memory,
                               unsigned *losses);
void perf_map_release(struct perf_map *map);
uint64_t perf_map_bytes(const struct perf_map *map);

/* The function that holds address, or NULL; *start is where it begins. The name is valid until the
 * next call. */
const char *perf_map_find(struct perf_map *map, uint64_t address, uint64_t *start);

/* Of the process, "/tmp/perf-PID.map" under the pid that it has in its own pid namespace. */
enum { PERF_MAP_PATH_SIZE = 40 };
void perf_map_default_path(char path[PERF_MAP_PATH_SIZE]);

#endif

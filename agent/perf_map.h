/* Names of JIT-compiled code, from the text file /tmp/perf-PID.map that runtimes (node, java, luajit, .NET) write for perf:
 * "START SIZE NAME" in hex, one function a line, later lines override earlier ones. Context: agent threads; locks: the caller's.
 */
#ifndef AGENT_PERF_MAP_H
#define AGENT_PERF_MAP_H

#include <stdint.h>

struct perf_map;

/* Reads the file at path. It must be a regular file that belongs to this process's user or root (anybody may write into /tmp).
 * Lines that make no sense are skipped. NULL: there is none. */
struct perf_map *perf_map_read(const char *path);
void perf_map_release(struct perf_map *map);

/* The function that holds address, or NULL; *start is where it begins. */
const char *perf_map_find(const struct perf_map *map, uint64_t address, uint64_t *start);

/* Of the process, "/tmp/perf-PID.map" under the pid that it has in its own pid namespace. */
enum { PERF_MAP_PATH_SIZE = 40 };
void perf_map_default_path(char path[PERF_MAP_PATH_SIZE]);

#endif

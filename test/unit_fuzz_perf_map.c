/* links: agent/symbols/perf_map.c test/agent_memory_libc.c */
/* flags: -DPERF_MAP_PIECES_MAX=600 */
/* fuzz: bytes */
/* The text of a /tmp/perf-PID.map, changed once more while it is open: every name that is found is
 * a piece of a line, begins where it says, and is the same when it is asked for again. */
#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

#include "fuzz.h"
#include "agent/symbols/perf_map.h"

extern int64_t agent_memory_fail_after;
static char path[] = "/tmp/pprofagent-fuzz-XXXXXX";

static void remove_file(void) { unlink(path); }

static void write_all(int descriptor, const uint8_t *bytes, size_t size) {
  if (ftruncate(descriptor, 0) != 0 || pwrite(descriptor, bytes, size, 0) != (ssize_t)size) abort();
}

static void look_up(struct perf_map *map, uint64_t address) {
  uint64_t start, again;
  const char *found = perf_map_find(map, address, &start);
  if (!found) return;
  if (start > address || strchr(found, '\n')) abort();
  char *copy = strdup(found);
  found = perf_map_find(map, address, &again);
  if (!found || strcmp(found, copy) != 0 || again != start) abort();
  free(copy);
}

static void fuzz_one(const uint8_t *bytes, size_t size) {
  static int descriptor = -1;
  struct fuzz_input input = {bytes, bytes + size};
  unsigned how = fuzz_byte(&input), losses;
  if (descriptor < 0) {
    descriptor = mkstemp(path);
    atexit(remove_file);
  }
  write_all(descriptor, input.at, fuzz_left(&input));
  agent_memory_fail_after = how & 1 ? how >> 4 : INT64_MAX;
  struct perf_map *map = perf_map_read(path, 0, how & 2 ? how << 6 : UINT64_MAX, &losses);
  agent_memory_fail_after = INT64_MAX;
  if (!map) return;
  for (uint64_t address = 0; address < 24; address++) look_up(map, address << (how >> 2 & 15));
  for (const uint8_t *at = input.at; at < input.end; at++) /* where its lines say */
    if ((at == input.at || at[-1] == '\n') && input.end - at > 17) {
      char number[18] = "";
      memcpy(number, at, 17);
      look_up(map, strtoull(number, NULL, 16));
    }
  write_all(descriptor, bytes, size / 2);
  uint64_t start;
  for (uint64_t address = 0; address < 24; address++) perf_map_find(map, address, &start);
  perf_map_release(map);
}

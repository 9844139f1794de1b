#include "memory_headroom.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "agent_memory.h"
#include "process_info.h"

enum { FILE_LIMIT = 64 << 10, PATH_SIZE = 4352 };

static void lower(uint64_t *least, uint64_t limit, uint64_t used) {
  uint64_t left = limit > used ? limit - used : 0;
  if (left < *least) *least = left;
}

static char *read_below(const char *directory, const char *name) {
  char path[PATH_SIZE];
  size_t size;
  if ((size_t)snprintf(path, sizeof path, "%s/%s", directory, name) >= sizeof path) return NULL;
  return process_read_file(path, FILE_LIMIT, &size);
}

/* The number behind `key` at the start of a line; key "": the file's first word. */
static bool number_in(const char *text, const char *key, uint64_t *out) {
  size_t length = strlen(key);
  while (strncmp(text, key, length) != 0) {
    text = strchr(text, '\n');
    if (!text++) return false;
  }
  char *end;
  *out = strtoull(text + length, &end, 10);
  return end != text + length;
}

static bool number_below(const char *directory, const char *name, const char *key, uint64_t *out) {
  char *text = read_below(directory, name);
  bool found = text && number_in(text, key, out);
  agent_free(text);
  return found;
}

struct cgroup_files {
  const char *controller; /* as in /proc/self/cgroup */
  const char *mounts[2]; /* below the cgroups' directory */
  const char *limit, *used, *reclaimable;
};

static const struct cgroup_files versions[] = {
    {"", {"", "/unified"}, "memory.max", "memory.current", "inactive_file "},
    {"memory",
     {"/memory", NULL},
     "memory.limit_in_bytes",
     "memory.usage_in_bytes",
     "total_inactive_file "},
};

static void lower_by_cgroup(uint64_t *least, const struct cgroup_files *files,
                            const char *directory) {
  uint64_t limit, used, reclaimable = 0;
  if (!number_below(directory, files->limit, "", &limit)) return; /* "max", or no such group here */
  if (!number_below(directory, files->used, "", &used)) return;
  number_below(directory, "memory.stat", files->reclaimable, &reclaimable);
  lower(least, limit, used > reclaimable ? used - reclaimable : 0);
}

/* The group and all above it. In a container the path may be the host's, and the mount's root the
 * container's own group: then only that is found. */
static void lower_by_path(uint64_t *least, const struct cgroup_files *files, const char *cgroups,
                          const char *path, size_t length) {
  for (size_t i = 0; i < 2 && files->mounts[i]; i++)
    for (size_t upto = length;; upto--) {
      if (upto > 0 && upto < length && path[upto] != '/') continue;
      char directory[PATH_SIZE];
      int size = snprintf(directory, sizeof directory, "%s%s%.*s", cgroups, files->mounts[i],
                          (int)upto, path);
      if ((size_t)size < sizeof directory) lower_by_cgroup(least, files, directory);
      if (upto == 0) break;
    }
}

/* Lines of proc/self/cgroup: NUMBER:CONTROLLERS:PATH; version 2 names no controllers. */
static void lower_by_cgroups(uint64_t *least, const char *proc, const char *cgroups) {
  char *text = read_below(proc, "self/cgroup");
  for (char *line = text; line && *line;) {
    char *end = line + strcspn(line, "\n"), *controllers = memchr(line, ':', (size_t)(end - line));
    char *path = controllers ? memchr(controllers + 1, ':', (size_t)(end - controllers - 1)) : NULL;
    for (size_t i = 0; path && i < sizeof versions / sizeof *versions; i++) {
      size_t length = strlen(versions[i].controller);
      if ((size_t)(path - controllers - 1) == length &&
          memcmp(controllers + 1, versions[i].controller, length) == 0)
        lower_by_path(least, &versions[i], cgroups, path + 1, (size_t)(end - path - 1));
    }
    line = *end ? end + 1 : end;
  }
  agent_free(text);
}

/* statm: pages of the address space, ..., the sixth: of data and stacks. */
static void lower_by_limits(uint64_t *least, const char *proc) {
  struct rlimit space, data;
  if (getrlimit(RLIMIT_AS, &space) != 0 || getrlimit(RLIMIT_DATA, &data) != 0) return;
  if (space.rlim_cur == RLIM_INFINITY && data.rlim_cur == RLIM_INFINITY) return;
  char *text = read_below(proc, "self/statm");
  if (!text) *least = 0; /* there is a limit, and nobody says how much of it is left */
  uint64_t pages[6] = {0}, page = (uint64_t)sysconf(_SC_PAGESIZE);
  char *at = text;
  for (size_t i = 0; at && i < 6; i++) pages[i] = strtoull(at, &at, 10);
  if (text && space.rlim_cur != RLIM_INFINITY) lower(least, space.rlim_cur, pages[0] * page);
  if (text && data.rlim_cur != RLIM_INFINITY) lower(least, data.rlim_cur, pages[5] * page);
  agent_free(text);
}

uint64_t memory_headroom_below(const char *proc, const char *cgroups) {
  uint64_t least = UINT64_MAX, kilobytes;
  struct sysinfo info;
  if (number_below(proc, "meminfo", "MemAvailable:", &kilobytes))
    lower(&least, kilobytes * 1024, 0);
  else if (sysinfo(&info) == 0) /* what is free, without the files' pages that could be dropped */
    lower(&least, (uint64_t)info.freeram * info.mem_unit, 0);
  lower_by_cgroups(&least, proc, cgroups);
  lower_by_limits(&least, proc);
  return least;
}

uint64_t memory_headroom(void) { return memory_headroom_below("/proc", "/sys/fs/cgroup"); }

/* links: test/agent_memory_libc.c */
/* memory_headroom.h: the least of what the machine, both kinds of memory cgroup and the limits
 * leave. */
#include "agent/runtime/memory_headroom.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"

#define GB (UINT64_C(1) << 30)

static char root[] = "/tmp/headroom-XXXXXX";

static void put(const char *path, const char *text) {
  char full[512], *slash;
  snprintf(full, sizeof full, "%s/%s", root, path);
  for (slash = full + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
    *slash = 0;
    mkdir(full, 0700);
    *slash = '/';
  }
  FILE *file = fopen(full, "w");
  CHECK(file);
  if (!file) return;
  fputs(text, file);
  fclose(file);
}

static uint64_t headroom(void) {
  char proc[64], cgroups[64];
  snprintf(proc, sizeof proc, "%s/proc", root);
  snprintf(cgroups, sizeof cgroups, "%s/cgroup", root);
  return memory_headroom_below(proc, cgroups);
}

/* As after a chroot: what is free of the machine, and nothing where there is a limit. */
static void test_nothing_to_read(void) {
  struct sysinfo info;
  CHECK(sysinfo(&info) == 0);
  CHECK(headroom() > 0 && headroom() <= (uint64_t)info.totalram * info.mem_unit);
  struct rlimit data, limit = {.rlim_cur = 100000 * GB, .rlim_max = RLIM_INFINITY};
  getrlimit(RLIMIT_DATA, &data);
  setrlimit(RLIMIT_DATA, &limit);
  CHECK(headroom() == 0);
  setrlimit(RLIMIT_DATA, &data);
}

static void test_version_2(void) {
  put("proc/meminfo", "MemTotal: 9 kB\nMemAvailable:    4194304 kB\n");
  CHECK(headroom() == 4 * GB);
  put("proc/self/cgroup", "0::/a/b\n");
  put("cgroup/a/b/memory.max", "max\n");
  put("cgroup/a/b/memory.current", "1\n");
  CHECK(headroom() == 4 * GB);
  put("cgroup/a/memory.max", "3221225472\n"); /* of a group above */
  put("cgroup/a/memory.current", "2147483648\n");
  CHECK(headroom() == GB);
  put("cgroup/a/memory.stat",
      "anon 5\ninactive_file 1073741824\nactive_file 7\n"); /* can be dropped */
  CHECK(headroom() == 2 * GB);
  put("cgroup/a/b/memory.max", "1000\n"); /* the nearest is the tightest, and full */
  put("cgroup/a/b/memory.current", "1001\n");
  CHECK(headroom() == 0);
}

static void test_version_1(void) {
  put("proc/self/cgroup", "3:cpu:/x\n4:memory:/docker/1\n0::/\n");
  put("cgroup/memory/memory.limit_in_bytes",
      "2147483648\n"); /* the path is the host's, as in a container */
  put("cgroup/memory/memory.usage_in_bytes", "1073741824\n");
  CHECK(headroom() == GB);
  put("cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  CHECK(headroom() == 4 * GB);
  put("proc/self/cgroup", "4:memory"); /* cut */
  CHECK(headroom() == 4 * GB);
}

static void test_limits(void) {
  const uint64_t space_limit = 100000 * GB; /* above what the sanitizer has reserved */
  char statm[96];
  uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
  snprintf(statm, sizeof statm, "%llu 10 5 1 0 %llu 0\n",
           (unsigned long long)((space_limit - GB) / page),
           (unsigned long long)((space_limit - 2 * GB) / page));
  put("proc/self/statm", statm);
  struct rlimit space, data, limit = {.rlim_cur = space_limit, .rlim_max = RLIM_INFINITY};
  getrlimit(RLIMIT_DATA, &data);
  setrlimit(RLIMIT_DATA, &limit);
  CHECK(headroom() == 2 * GB);
  setrlimit(RLIMIT_DATA, &data);
  getrlimit(RLIMIT_AS, &space);
  setrlimit(RLIMIT_AS, &limit);
  CHECK(headroom() == GB);
  setrlimit(RLIMIT_AS, &space);
}

int main(void) {
  CHECK(mkdtemp(root));
  test_nothing_to_read();
  test_version_2();
  test_version_1();
  test_limits();
  char command[64];
  snprintf(command, sizeof command, "rm -r %s", root);
  CHECK(system(command) == 0);
  return failures != 0;
}

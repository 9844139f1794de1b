/* flags: -O1 -fno-optimize-sibling-calls */
/* Opens the library at argument 1, which allocates blocks of 100001 and 100002 bytes; closes it;
 * puts what argument 2 names in its place (by `rename`, or by `rewrite` of the same file, with the
 * time of the old one: argument 3; `same`: leaves it as it is), opens it again, where it was
 * before, and lets it allocate 200001 and 200002. With -DFIRST=f -DSECOND=g: such a library. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "workload.h"

#ifdef FIRST
FRAME void *FIRST(size_t size) { return keep(malloc(size)); }
#ifdef PADDING
FRAME int padding(int x) { return x * 3 + 1; }
#endif
FRAME void *SECOND(size_t size) { return keep(malloc(size)); }
void run(size_t size) {
  keep(FIRST(size));
  keep(SECOND(size + 1));
}
#else
static void *use(const char *path, size_t size) {
  void *library = dlopen(path, RTLD_NOW);
  CHECK(library != NULL);
  void (*run)(size_t) = (void (*)(size_t))dlsym(library, "run");
  Dl_info info;
  CHECK(run != NULL && dladdr((void *)(uintptr_t)run, &info));
  run(size);
  say("base %p\n", info.dli_fbase);
  return library;
}

static void rewrite(const char *path, const char *by) {
  static char bytes[1 << 20];
  struct stat before;
  int from = open(by, O_RDONLY);
  CHECK(from >= 0 && stat(path, &before) == 0);
  int to = open(path, O_WRONLY | O_TRUNC);
  CHECK(to >= 0);
  ssize_t size = read(from, bytes, sizeof bytes);
  CHECK(size > 0 && write(to, bytes, (size_t)size) == size);
  struct timespec times[2] = {before.st_atim, before.st_mtim};
  CHECK(futimens(to, times) == 0);
  close(from);
  close(to);
}

int main(int argc, char **argv) {
  CHECK(argc > 3);
  dlclose(use(argv[1], 100001));
  ready();
  if (strcmp(argv[3], "rename") == 0) CHECK(rename(argv[2], argv[1]) == 0);
  if (strcmp(argv[3], "rewrite") == 0) rewrite(argv[1], argv[2]);
  use(argv[1], 200001);
  ready();
  return 0;
}
#endif

/* flags: -O1 */
/* The agent (argument 1) is opened instead of preloaded; its functions are called through the
 * handle. */
#include <dlfcn.h>

#include "workload.h"

int main(int argc, char **argv) {
  CHECK(argc > 1);
  void *agent = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  CHECK(agent != NULL);
  void *(*allocate)(size_t) = (void *(*)(size_t))dlsym(agent, "malloc");
  void *(*resize)(void *, size_t, size_t) =
      (void *(*)(void *, size_t, size_t))dlsym(agent, "reallocarray");
  void (*release)(void *) = (void (*)(void *))dlsym(agent, "free");
  int (*close_library)(void *) = (int (*)(void *))dlsym(agent, "dlclose");
  CHECK(allocate && resize && release && close_library);
  void *block = resize(allocate(10), 10, 20);
  CHECK(block != NULL);
  release(block);
  CHECK(close_library(dlopen("libm.so.6", RTLD_NOW)) == 0);
  puts("ok");
  fflush(stdout);
  return 0;
}

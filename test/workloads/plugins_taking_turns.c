/* flags: -O1 */
/* Two libraries (arguments 1, 2) opened in turn, each where the other was, argument 3 times; each
 * calls its own allocating function once. With -DNAME=f: such a library. */
#include <dlfcn.h>

#include "workload.h"

#ifdef NAME
FRAME void *NAME(void) { return keep(malloc(100)); }
void run(void) { free(NAME()); }
#else
int main(int argc, char **argv) {
  CHECK(argc > 3);
  for (int i = 0, rounds = atoi(argv[3]); i < rounds; i++) {
    void *library = dlopen(argv[1 + i % 2], RTLD_NOW);
    CHECK(library != NULL);
    ((void (*)(void))dlsym(library, "run"))();
    dlclose(library);
  }
  ready();
  return 0;
}
#endif

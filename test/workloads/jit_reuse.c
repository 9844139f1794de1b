/* Code made at run time where a plugin's function was until dlclose: argument 1 is the plugin. Both
 * allocate; /tmp/perf-PID.map names the second one jit_function. x86-64. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "workload.h"

typedef void *(*allocate_function)(size_t);

int main(int argc, char **argv) {
  CHECK(argc > 1);
  void *plugin = dlopen(argv[1], RTLD_NOW);
  CHECK(plugin != NULL);
  allocate_function allocate = (allocate_function)dlsym(plugin, "plugin_allocate");
  for (int i = 0; i < 10; i++) keep(allocate(1000));
  uintptr_t at = (uintptr_t)allocate, page = at & ~(uintptr_t)4095;
  dlclose(plugin);
  /* calls malloc(rdi) */
  unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0x48, 0xb8, 0,    0,    0,
                          0,    0,    0,    0,    0,    0xff, 0xd0, 0x5d, 0xc3};
  void *target = (void *)(uintptr_t)malloc;
  memcpy(code + 6, &target, sizeof target);
  size_t size = 2 * 4096;
  void *memory = mmap((void *)page, size, PROT_READ | PROT_WRITE | PROT_EXEC,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  CHECK(memory == (void *)page);
  memcpy((void *)at, code, sizeof code);
  char path[64];
  snprintf(path, sizeof path, "/tmp/perf-%d.map", (int)getpid());
  FILE *map = fopen(path, "w");
  fprintf(map, "%lx %zx jit_function\n", (unsigned long)at, sizeof code);
  fclose(map);
  for (int i = 0; i < 10; i++) keep(((allocate_function)at)(2000));
  ready();
  unlink(path);
  return 0;
}

/* Code made at run time, at 0x200000000, which calls malloc; argument 1: the sizes to allocate, one
 * a round, separated by commas; argument 2, if any: /tmp/perf-PID.map is written here, with so many
 * lines of other functions between the code's old name and its new one; argument 3, if any: the
 * code is in a file of /dev/shm, `kept` until the end or `unlinked` at once. x86-64. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>

#include "workload.h"

static void write_map(const char *path, unsigned long at, size_t size, long others) {
  FILE *map = fopen(path, "w");
  CHECK(map != NULL);
  fprintf(map, "%lx %zx old_name\n", at, size);
  for (long i = 0; i < others; i++)
    fprintf(map, "%lx 20 JS:*function%ld /srv/application/source/file.js:%ld:1\n",
            0x300000000 + i * 64, i, i);
  fprintf(map, "%lx %zx new_name\n", at, size);
  CHECK(fclose(map) == 0);
}

int main(int argc, char **argv) {
  unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0x48, 0xb8, 0,    0,   0, 0,
                          0,    0,    0,    0,    0xff, 0xd0, 0x5d, 0xc3}; /* calls malloc(rdi) */
  void *target = (void *)(uintptr_t)malloc;
  char path[64];
  CHECK(argc > 1);
  memcpy(code + 6, &target, sizeof target);
  char file[] = "/dev/shm/perf_map.XXXXXX";
  int descriptor = argc > 3 ? mkstemp(file) : -1;
  int flags = MAP_FIXED | (argc > 3 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);
  CHECK(argc <= 3 || (descriptor >= 0 && ftruncate(descriptor, 4096) == 0));
  if (argc > 3 && strcmp(argv[3], "unlinked") == 0) CHECK(unlink(file) == 0);
  unsigned char *at =
      mmap((void *)0x200000000, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, flags, descriptor, 0);
  CHECK(at != MAP_FAILED);
  memcpy(at, code, sizeof code);
  snprintf(path, sizeof path, "/tmp/perf-%d.map", (int)getpid());
  if (argc > 2) write_map(path, (unsigned long)at, sizeof code, atol(argv[2]));
  for (char *size = strtok(argv[1], ","); size != NULL; size = strtok(NULL, ",")) {
    keep(((void *(*)(size_t))at)((size_t)atol(size)));
    if (!ready()) break;
  }
  unlink(path);
  if (argc > 3) unlink(file);
  return 0;
}

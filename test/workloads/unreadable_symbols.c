/* A library that can no longer be read where only the loader had to: its symbols and their names,
 * protected or unmapped after loading. unreadable_symbols LIBRARY none | protect | unmap
 * (-DLIBRARY: the library, with some pages of them.) */
#define _GNU_SOURCE
#include <stdlib.h>

#ifdef LIBRARY

#define ONE(n)                                          \
  int a_name_that_takes_room_among_the_names_##n(void); \
  int a_name_that_takes_room_among_the_names_##n(void) { return 1##n; }
#define TEN(n) ONE(n##0) ONE(n##1) ONE(n##2) ONE(n##3) ONE(n##4) ONE(n##5) ONE(n##6) ONE(n##7)
#define MANY(n) TEN(n##0) TEN(n##1) TEN(n##2) TEN(n##3) TEN(n##4) TEN(n##5) TEN(n##6) TEN(n##7)
MANY(1)
MANY(2)
MANY(3)
MANY(4)

void *allocate(void);
void *allocate(void) {
  void *volatile block = malloc(300001);
  return block;
}

#else

#include <dlfcn.h>
#include <link.h>
#include <sys/mman.h>

#include "workload.h"

enum { PAGE = 4096 };

int main(int count, char **arguments) {
  CHECK(count == 3);
  void *library = dlopen(arguments[1], RTLD_NOW);
  CHECK(library);
  void *(*allocate)(void) = (void *(*)(void))dlsym(library, "allocate");
  struct link_map *map;
  CHECK(allocate && dlinfo(library, RTLD_DI_LINKMAP, &map) == 0);
  uintptr_t symbols = 0, strings = 0, size = 0;
  for (const ElfW(Dyn) *entry = map->l_ld; entry->d_tag != DT_NULL; entry++) {
    if (entry->d_tag == DT_SYMTAB) symbols = entry->d_un.d_ptr;
    if (entry->d_tag == DT_STRTAB) strings = entry->d_un.d_ptr;
    if (entry->d_tag == DT_STRSZ) size = entry->d_un.d_val;
  }
  uintptr_t from = (symbols + PAGE - 1) / PAGE * PAGE, to = (strings + size) / PAGE * PAGE;
  CHECK(from < strings && strings + PAGE < to);
  if (strcmp(arguments[2], "protect") == 0)
    CHECK(mprotect((void *)from, to - from, PROT_NONE) == 0);
  if (strcmp(arguments[2], "unmap") == 0) CHECK(munmap((void *)from, to - from) == 0);
  say("%d\n", allocate() != NULL);
  return 0;
}

#endif

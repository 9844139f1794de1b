/* A program may ask for mallocx, free_sized or operator new by a weak reference or by dlsym, and take another path when they are there. So a
 * name of ours that no other object defines is struck from this library's symbol table in memory, before the program is bound: the
 * loader passes over undefined entries.
 *
 * The one code of ours that runs so early is the resolver of an IFUNC: it is called while this library is relocated, when the libraries
 * it needs are done and the program itself is not. It therefore calls nothing outside this file and dynamic_symbols.c: what it called
 * might be bound to the program (test_elf.py checks that no such reference exists). */
#include <elf.h>
#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "dynamic_symbols.h"
#include "interposed.h"

extern ElfW(Dyn) _DYNAMIC[] __attribute__((visibility("hidden")));
extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));

static long change_protection(uintptr_t start, uintptr_t size, long protection) {
  long result;
#if defined(__x86_64__)
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "0"((long)SYS_mprotect), "D"(start), "S"(size), "d"(protection)
                   : "rcx", "r11", "memory");
#endif
  return result;
}

static bool defined_elsewhere(const char *name) {
  for (const struct link_map *map = _r_debug.r_map; map; map = map->l_next) {
    struct dynamic_symbols table;
    if (map->l_ld != _DYNAMIC && map->l_ld && dynamic_symbols_open(&table, map->l_addr, map->l_ld) &&
        dynamic_symbols_find_index(&table, name) != STN_UNDEF)
      return true;
  }
  return false;
}

/* All or nothing a family: the first name decides. Adds the entries to strike. */
static size_t collect_absent(const struct dynamic_symbols *own, const char *const *names, size_t count, ElfW(Sym) **absent) {
  size_t found = 0;
  if (defined_elsewhere(names[0])) return 0;
  for (size_t i = 0; i < count; i++) {
    uint32_t index = dynamic_symbols_find_index(own, names[i]);
    if (index != STN_UNDEF) absent[found++] = (ElfW(Sym) *)&own->symbols[index];
  }
  return found;
}

static void strike(ElfW(Sym) **absent, size_t count) {
  enum { PAGE = 4096 };
  uintptr_t low = UINTPTR_MAX, high = 0;
  for (size_t i = 0; i < count; i++) {
    if ((uintptr_t)absent[i] < low) low = (uintptr_t)absent[i];
    if ((uintptr_t)(absent[i] + 1) > high) high = (uintptr_t)(absent[i] + 1);
  }
  low &= ~(uintptr_t)(PAGE - 1);
  if (count == 0 || change_protection(low, high - low, PROT_READ | PROT_WRITE) != 0) return;
  for (size_t i = 0; i < count; i++) {
    absent[i]->st_value = 0;
    absent[i]->st_shndx = SHN_UNDEF;
  }
  change_protection(low, high - low, PROT_READ);
}

static void nothing(void) {}

#define X(type, name, parameters) #name,
static const char *const cxx_names[] = {INTERPOSED_CXX(X)};
static const char *const jemalloc_names[] = {INTERPOSED_JEMALLOC(X)};
static const char *const tcmalloc_names[] = {INTERPOSED_TCMALLOC(X)};
static const char *const optional_names[] = {INTERPOSED_OPTIONAL(X)};
#undef X
#define COUNT(array) (sizeof(array) / sizeof *(array))

static void (*strike_while_relocating(void))(void) {
  struct dynamic_symbols own;
  if (_r_debug.r_map && dynamic_symbols_open(&own, (uintptr_t)&__ehdr_start, _DYNAMIC)) {
    ElfW(Sym) *absent[COUNT(cxx_names) + COUNT(jemalloc_names) + COUNT(tcmalloc_names) + COUNT(optional_names)];
    size_t count = collect_absent(&own, cxx_names, COUNT(cxx_names), absent);
    count += collect_absent(&own, jemalloc_names, COUNT(jemalloc_names), absent + count);
    count += collect_absent(&own, tcmalloc_names, COUNT(tcmalloc_names), absent + count);
    for (size_t i = 0; i < COUNT(optional_names); i++) count += collect_absent(&own, &optional_names[i], 1, absent + count);
    strike(absent, count);
  }
  return nothing;
}

/* Nobody calls the function; the pointer's IRELATIVE relocation is what runs the resolver. */
static void struck(void) __attribute__((ifunc("strike_while_relocating")));
__attribute__((used, retain)) static void (*const volatile struck_pointer)(void) = struck;

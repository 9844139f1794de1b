#include "loaded_objects.h"

#include <elf.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>

#include "dynamic_symbols.h"
#include "shim/base/raw_syscall.h"

extern ElfW(Dyn) _DYNAMIC[] __attribute__((visibility("hidden")));

bool loaded_object_is_own(const struct link_map *map) { return map->l_ld == _DYNAMIC; }

/* No function of libc's: this is how they are found. */
static bool has_prefix(const char *text, const char *prefix) {
  while (*prefix && *text == *prefix) text++, prefix++;
  return !*prefix;
}

static const char *soname_of(const struct link_map *map) {
  struct dynamic_symbols symbols;
  bool has = map->l_ld && dynamic_symbols_open(&symbols, map->l_addr, map->l_ld) && symbols.soname;
  return has ? symbols.soname : "";
}

bool loaded_object_is_libc(const struct link_map *map) {
  return has_prefix(soname_of(map), "libc.so.");
}

bool loaded_object_is_loader(const struct link_map *map) {
  const char *soname = soname_of(map);
  return has_prefix(soname, "ld-linux") || has_prefix(soname, "ld64.so") ||
         has_prefix(soname, "ld.so");
}

/* What the kernel has told the program at its start; 0: not to be had. */
static uintptr_t auxiliary_value(uint64_t type) {
  ElfW(auxv_t) entries[64];
  long descriptor =
      raw_syscall4(SYS_openat, AT_FDCWD, (long)"/proc/self/auxv", O_RDONLY | O_CLOEXEC, 0);
  if (descriptor < 0) return 0;
  long size = raw_syscall4(SYS_read, descriptor, (long)entries, sizeof entries, 0);
  raw_syscall4(SYS_close, descriptor, 0, 0, 0);
  for (long i = 0; (i + 1) * (long)sizeof *entries <= size; i++)
    if (entries[i].a_type == type) return entries[i].a_un.a_val;
  return 0;
}

/* Until the loader has relocated this library its variable is reached by the loader's own file
 * only. */
static const struct r_debug *find_in_loader(void) {
  uintptr_t base = auxiliary_value(AT_BASE), own_phdrs = base ? 0 : auxiliary_value(AT_PHDR);
  if (!base && own_phdrs) base = own_phdrs - sizeof(ElfW(Ehdr)); /* started as a program */
  const ElfW(Ehdr) *header = (const ElfW(Ehdr) *)base;
  if (!header || header->e_phoff != sizeof *header) return NULL;
  const ElfW(Phdr) *phdrs = (const ElfW(Phdr) *)((uintptr_t)header + header->e_phoff);
  for (int i = 0; i < header->e_phnum; i++) {
    struct dynamic_symbols symbols;
    uintptr_t bias = (uintptr_t)header; /* it is linked at 0 */
    if (phdrs[i].p_type == PT_DYNAMIC &&
        dynamic_symbols_open(&symbols, bias, (const ElfW(Dyn) *)(bias + phdrs[i].p_vaddr)))
      return dynamic_symbols_find_data(&symbols, "_r_debug");
  }
  return NULL;
}

const struct link_map *loaded_objects_first(void) {
  enum { HAS_NEXT = 2 }; /* r_version from glibc 2.35 on, once there is a second list */
  const struct r_debug *debug = (const struct r_debug *)&_r_debug;
  __asm__("" : "+r"(debug)); /* the compiler takes it for granted that it is not NULL */
  if (!debug) debug = find_in_loader();
  if (!debug) return NULL;
  for (const struct r_debug_extended *space = (const struct r_debug_extended *)debug; space;
       space = space->base.r_version >= HAS_NEXT ? space->r_next : NULL)
    for (const struct link_map *map = space->base.r_map; map; map = map->l_next)
      if (loaded_object_is_own(map)) return space->base.r_map;
  return debug->r_map;
}

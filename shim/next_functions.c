#include "next_functions.h"

#include <elf.h>
#include <link.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/single_threaded.h>
#include <unistd.h>

#include "dynamic_symbols.h"
#include "interposed.h"
#include "startup.h"

struct real_functions real;
struct real_lock_functions real_locks;
struct next_allocator next_allocator;
struct new_counts new_counts;

extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));
extern ElfW(Dyn) _DYNAMIC[] __attribute__((visibility("hidden")));

struct symbol_source {
  struct dynamic_symbols symbols;
  const char *path;
  bool is_program;
};

static bool is_this_library(const struct dl_phdr_info *info) {
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *phdr = &info->dlpi_phdr[i];
    if (phdr->p_type == PT_LOAD && (uintptr_t)&__ehdr_start - info->dlpi_addr - phdr->p_vaddr < phdr->p_memsz) return true;
  }
  return false;
}

static bool source_open(const struct dl_phdr_info *info, struct dynamic_symbols *symbols) {
  for (int i = 0; i < info->dlpi_phnum; i++)
    if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
      return dynamic_symbols_open(symbols, info->dlpi_addr, (const ElfW(Dyn) *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr));
  return false;
}

enum { SOURCES_MAX = 512 };
struct source_list {
  size_t count, own; /* own: index of the first object after this library */
  struct symbol_source items[SOURCES_MAX];
};

static int collect_source(struct dl_phdr_info *info, size_t size, void *data) {
  (void)size;
  struct source_list *list = data;
  if (is_this_library(info)) {
    list->own = list->count;
    return 0;
  }
  struct symbol_source *source = &list->items[list->count];
  bool is_program = list->count == 0;
  if (list->count < SOURCES_MAX && source_open(info, &source->symbols)) {
    source->path = info->dlpi_name;
    source->is_program = is_program;
    list->count++;
  }
  return 0;
}

/* The loader's list is in search order for all that was loaded at start. It is kept in .bss: too big for a host's small stack. */
static struct source_list sources;

static const struct symbol_source *find_from(size_t first, size_t limit, const char *name, void **address) {
  for (size_t i = first; i < limit; i++)
    if ((*address = dynamic_symbols_find(&sources.items[i].symbols, name))) return &sources.items[i];
  *address = NULL;
  return NULL;
}

static void copy_path(char *out, size_t size, const struct symbol_source *source) {
  const char *path = source->path;
  if (source->is_program && (!path || !*path)) path = (const char *)getauxval(AT_EXECFN);
  size_t length = path ? strnlen(path, size - 1) : 0;
  memcpy(out, path ? path : "", length);
  out[length] = 0;
}

static bool is_cxx_runtime(const char *path) {
  const char *base = strrchr(path, '/');
  base = base ? base + 1 : path;
  return strncmp(base, "libstdc++.so", 12) == 0 || strncmp(base, "libc++.so", 9) == 0 || strncmp(base, "libc++abi.so", 12) == 0;
}

/* The loader's list as debuggers see it: dl_iterate_phdr, which takes the loader's lock, costs an exec four pages of libc more.
 * Context: nobody else may load anything meanwhile. False: this library is not in the list (dlmopen). */
static bool collect_from_link_map(void) {
  bool found = false;
  size_t count = 0;
  for (const struct link_map *map = _r_debug.r_map; map && count < SOURCES_MAX; map = map->l_next) {
    struct symbol_source *source = &sources.items[count];
    if (map->l_ld == _DYNAMIC) {
      sources.own = count;
      found = true;
    } else if (map->l_ld && dynamic_symbols_open(&source->symbols, map->l_addr, map->l_ld)) {
      source->path = map->l_name;
      source->is_program = count == 0;
      count++;
    }
  }
  sources.count = count;
  return found;
}

/* One form of operator new or delete, and whose it is. */
static void *find_form(const char *name, const struct symbol_source *allocator, uint64_t *counts) {
  void *address;
  const struct symbol_source *owner = find_from(sources.own, sources.count, name, &address);
  if (!owner) return NULL;
  *counts = owner == allocator ? ~(uint64_t)0 : 0;
  if (owner != allocator && !is_cxx_runtime(owner->path)) next_allocator.cxx_is_known = false;
  return address;
}

/* valgrind's own way to be asked (valgrind.h, RUNNING_ON_VALGRIND): instructions that do nothing on a processor. */
static bool runs_under_valgrind(void) {
#if defined(__x86_64__)
  volatile uint64_t request[6] = {0x1001};
  uint64_t result;
  __asm__ volatile("rolq $3, %%rdi; rolq $13, %%rdi; rolq $61, %%rdi; rolq $51, %%rdi; xchgq %%rbx, %%rbx"
                   : "=d"(result)
                   : "a"(request), "0"(0ull)
                   : "cc", "memory");
  return result != 0;
#else
  return false;
#endif
}

void next_functions_resolve(void) {
  next_allocator.valgrind = runs_under_valgrind();
  if (!__libc_single_threaded || !collect_from_link_map()) {
    sources.count = 0;
    dl_iterate_phdr(collect_source, &sources);
  }
  void *address;
  const struct symbol_source *allocator = find_from(sources.own, sources.count, "malloc", &address);
  if (allocator) copy_path(next_allocator.path, sizeof next_allocator.path, allocator);
  const struct symbol_source *earlier = find_from(0, sources.own, "malloc", &address);
  if (earlier) {
    copy_path(next_allocator.earlier_path, sizeof next_allocator.earlier_path, earlier);
    next_allocator.earlier_is_program = earlier->is_program;
  }
  next_allocator.tsan = find_from(0, sources.count, "__tsan_init", &address) != NULL;
  next_allocator.asan = next_allocator.tsan || find_from(0, sources.count, "__asan_init", &address) != NULL ||
                        find_from(0, sources.count, "__msan_init", &address) != NULL;

#define X(type, name, parameters)                                                              \
  if (find_from(sources.own, sources.count, #name, &address)) real.name = (real_##name##_function)address;
  INTERPOSED_ALWAYS(X)
  INTERPOSED_RARE(X)
  INTERPOSED_OPTIONAL(X)
#undef X
  /* Opened at run time instead of preloaded, this library is the last: the definitions before it are forwarded to. */
#define X(type, name, parameters)                                                              \
  if (real.name == startup_##name && find_from(0, sources.own, #name, &address)) real.name = (real_##name##_function)address;
  INTERPOSED_ALWAYS(X)
#undef X
#define X(type, name, parameters)                                                              \
  if (!real.name && find_from(0, sources.own, #name, &address)) real.name = (real_##name##_function)address;
  INTERPOSED_RARE(X)
#undef X
  next_allocator.cxx_is_known = true;
#define X(type, name, parameters) \
  real.name = (real_##name##_function)find_form(#name, allocator, &new_counts.name);
  INTERPOSED_CXX(X)
#undef X
#define X(type, name, parameters)                                                              \
  if (find_from(sources.own, sources.count, #name, &address)) real.name = (real_##name##_function)address;
  const struct symbol_source *jemalloc = find_from(sources.own, sources.count, "mallocx", &address);
  if (jemalloc) {
    INTERPOSED_JEMALLOC(X)
    next_allocator.jemalloc_is_next = jemalloc == allocator;
  }
  const struct symbol_source *tcmalloc = find_from(sources.own, sources.count, "tc_malloc", &address);
  if (tcmalloc) {
    INTERPOSED_TCMALLOC(X)
    next_allocator.tcmalloc_is_next = tcmalloc == allocator;
  }
#undef X
}

void next_functions_resolve_locks(void) {
  void *address;
  /* Found before us: this library was opened at run time. */
#define FIND(name) \
  if (find_from(sources.own, sources.count, #name, &address) || find_from(0, sources.own, #name, &address)) \
    __atomic_store_n((void **)&real_locks.name, address, __ATOMIC_RELEASE);
#define X(type, name, parameters) FIND(name)
  INTERPOSED_LOCKS(X)
  INTERPOSED_COND(X)
  NEXT_ALSO(X)
#undef X
#define X(type, name, parameters)                                                                                        \
  for (size_t i = sources.count; i-- > 0;)                                                                               \
    if ((address = dynamic_symbols_find_version(&sources.items[i].symbols, #name, "GLIBC_2.2.5")))                       \
      __atomic_store_n((void **)&real_locks.name##_old, address, __ATOMIC_RELEASE);
  INTERPOSED_COND_OLD(X)
#undef X
#define X(type, name, parameters) FIND(name)
  NEXT_ONLY(X)
#undef X
#undef FIND
}

struct late_search {
  const char *name;
  void *found;
};

static int search_late(struct dl_phdr_info *info, size_t size, void *data) {
  (void)size;
  struct late_search *search = data;
  struct dynamic_symbols symbols;
  if (!is_this_library(info) && source_open(info, &symbols)) search->found = dynamic_symbols_find(&symbols, search->name);
  return search->found != NULL;
}

void *next_function_find_late(const char *name) {
  struct late_search search = {name, NULL};
  dl_iterate_phdr(search_late, &search);
  return search.found;
}

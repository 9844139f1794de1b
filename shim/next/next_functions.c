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
#include "loaded_objects.h"
#include "startup.h"

struct real_functions real;
struct real_lock_functions real_locks;
struct next_allocator next_allocator;
struct new_counts new_counts;

extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));

struct object {
  struct dynamic_symbols symbols;
  const char *path;
  bool is_program;
};

static bool is_this_library(const struct dl_phdr_info *info) {
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *phdr = &info->dlpi_phdr[i];
    if (phdr->p_type == PT_LOAD &&
        (uintptr_t)&__ehdr_start - info->dlpi_addr - phdr->p_vaddr < phdr->p_memsz)
      return true;
  }
  return false;
}

static bool object_open(const struct dl_phdr_info *info, struct dynamic_symbols *symbols) {
  for (int i = 0; i < info->dlpi_phnum; i++)
    if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
      return dynamic_symbols_open(
          symbols, info->dlpi_addr,
          (const ElfW(Dyn) *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr));
  return false;
}

/* ---- the objects in the loader's order, which is that of a search among all that was loaded at
 * start; any number, nothing is kept of them ---- */

enum part { BEFORE_US, AFTER_US };
typedef void (*object_taker)(const struct object *object, void *search);

struct walk {
  enum part part, at;
  object_taker take;
  void *search;
  bool is_first;
};

/* Others may load something meanwhile, or have loaded this library at run time: only under the
 * loader's lock. Else the list as debuggers see it, since that lock costs an exec four pages of
 * libc more. Constant after next_functions_resolve, like the next. */
static bool ask_loader;
static const struct link_map *last_at_start;

static int walk_step(struct dl_phdr_info *info, size_t size, void *data) {
  (void)size;
  struct walk *walk = data;
  struct object object = {.path = info->dlpi_name, .is_program = walk->is_first};
  walk->is_first = false;
  if (is_this_library(info)) walk->at = AFTER_US;
  else if (walk->at == walk->part && object_open(info, &object.symbols))
    walk->take(&object, walk->search);
  return 0;
}

static void walk_objects(enum part part, object_taker take, void *search) {
  struct walk walk = {part, BEFORE_US, take, search, true};
  if (ask_loader) {
    dl_iterate_phdr(walk_step, &walk);
    return;
  }
  for (const struct link_map *map = loaded_objects_first(); map; map = map->l_next) {
    struct object object = {.path = map->l_name, .is_program = walk.is_first};
    walk.is_first = false;
    if (loaded_object_is_own(map)) walk.at = AFTER_US;
    else if (walk.at == part && map->l_ld &&
             dynamic_symbols_open(&object.symbols, map->l_addr, map->l_ld))
      take(&object, search);
    if (map == last_at_start) break;
  }
}

static void copy_path(char *out, size_t size, const struct object *object) {
  const char *path = object->path;
  if (object->is_program && (!path || !*path)) path = (const char *)getauxval(AT_EXECFN);
  size_t length = path ? strnlen(path, size - 1) : 0;
  memcpy(out, path ? path : "", length);
  out[length] = 0;
}

static bool is_cxx_runtime(const char *path) {
  const char *base = strrchr(path, '/');
  base = base ? base + 1 : path;
  return strncmp(base, "libstdc++.so", 12) == 0 || strncmp(base, "libc++.so", 9) == 0 ||
         strncmp(base, "libc++abi.so", 12) == 0;
}

/* valgrind's own way to be asked (valgrind.h, RUNNING_ON_VALGRIND): instructions that do nothing on
 * a processor. */
static bool runs_under_valgrind(void) {
#if defined(__x86_64__)
  volatile uint64_t request[6] = {0x1001};
  uint64_t result;
  __asm__ volatile(
      "rolq $3, %%rdi; rolq $13, %%rdi; rolq $61, %%rdi; rolq $51, %%rdi; xchgq %%rbx, %%rbx"
      : "=d"(result)
      : "a"(request), "0"(0ull)
      : "cc", "memory");
  return result != 0;
#else
  return false;
#endif
}

/* ---- the search; an object is known by its symbol table ---- */

struct form_owner { /* of one form of operator new or delete */
  const void *object;
  bool is_cxx_runtime;
};

/* Each object is asked for all of these. */
#define SOUGHT(X)        \
  INTERPOSED_ALWAYS(X)   \
  INTERPOSED_RARE(X)     \
  INTERPOSED_OPTIONAL(X) \
  NEXT_ALLOCATOR(X)      \
  INTERPOSED_CXX(X)      \
  X(, mallocx, )         \
  X(, tc_malloc, )       \
  X(, __tsan_init, )     \
  X(, __asan_init, )     \
  X(, __msan_init, )

struct name_hashes {
#define X(type, name, parameters) uint32_t name;
  SOUGHT(X)
#undef X
};

static void hash_names(struct name_hashes *out) {
#define X(type, name, parameters) out->name = dynamic_symbols_hash(#name);
  SOUGHT(X)
#undef X
}

struct search {
  struct name_hashes hashes;
  const void *allocator, *jemalloc, *tcmalloc;
  struct {
#define X(type, name, parameters) struct form_owner name;
    INTERPOSED_CXX(X)
#undef X
  } forms;
};

static void *find(const struct object *object, const char *name) {
  return dynamic_symbols_find(&object->symbols, name);
}

#define FIND(name) dynamic_symbols_find_hashed(&object->symbols, #name, search->hashes.name)

/* The first definition is the one. */
#define TAKE(missing, name) \
  if ((missing) && (address = FIND(name))) real.name = (real_##name##_function)address;

static void note_sanitizers(const struct object *object, const struct search *search) {
  next_allocator.tsan |= FIND(__tsan_init) != NULL;
  next_allocator.asan |= next_allocator.tsan || FIND(__asan_init) || FIND(__msan_init);
}

static void take_next(const struct object *object, void *data) {
  struct search *search = data;
  const void *self = object->symbols.symbols;
  void *address;
  note_sanitizers(object, search);
  if (!search->allocator && FIND(malloc)) {
    search->allocator = self;
    copy_path(next_allocator.path, sizeof next_allocator.path, object);
  }
  if (!search->jemalloc && FIND(mallocx)) search->jemalloc = self;
  if (!search->tcmalloc && FIND(tc_malloc)) search->tcmalloc = self;
#define X(type, name, parameters) TAKE(real.name == startup_##name, name)
  INTERPOSED_ALWAYS(X)
#undef X
#define X(type, name, parameters) TAKE(!real.name, name)
  INTERPOSED_RARE(X)
  INTERPOSED_OPTIONAL(X)
  NEXT_ALLOCATOR(X)
#undef X
#define X(type, name, parameters)                                                 \
  if (!real.name && (address = FIND(name))) {                                     \
    real.name = (real_##name##_function)address;                                  \
    search->forms.name = (struct form_owner){self, is_cxx_runtime(object->path)}; \
  }
  INTERPOSED_CXX(X)
#undef X
}

/* Opened at run time instead of preloaded, this library is the last: the definitions before it are
 * forwarded to. */
static void take_earlier(const struct object *object, void *data) {
  const struct search *search = data;
  void *address;
  note_sanitizers(object, search);
  if (!*next_allocator.earlier_path && FIND(malloc)) {
    copy_path(next_allocator.earlier_path, sizeof next_allocator.earlier_path, object);
    next_allocator.earlier_is_program = object->is_program;
  }
#define X(type, name, parameters) TAKE(real.name == startup_##name, name)
  INTERPOSED_ALWAYS(X)
#undef X
#define X(type, name, parameters) TAKE(!real.name, name)
  INTERPOSED_RARE(X)
  NEXT_ALLOCATOR(X)
#undef X
}

static void take_vendor(const struct object *object, void *data) {
  const struct search *search = data;
  void *address;
#define X(type, name, parameters) \
  if (!real.name && (address = find(object, #name))) real.name = (real_##name##_function)address;
  if (search->jemalloc) {
    INTERPOSED_JEMALLOC(X)
  }
  if (search->tcmalloc) {
    INTERPOSED_TCMALLOC(X)
  }
#undef X
}

/* Nothing may be called here but by way of shim/next/libc_binding.h: a program's own strnlen may
 * not be ready yet (MemorySanitizer's is not). */
void next_functions_resolve(void) {
  struct search search = {0};
  hash_names(&search.hashes);
  next_allocator.valgrind = runs_under_valgrind();
  ask_loader = !__libc_single_threaded;
  for (const struct link_map *map = loaded_objects_first(); map && !ask_loader; map = map->l_next)
    last_at_start = map;
  walk_objects(AFTER_US, take_next, &search);
  walk_objects(BEFORE_US, take_earlier, &search);
  if (!search.allocator) ask_loader = true; /* opened at run time */
  next_allocator.cxx_is_known = true;
#define X(type, name, parameters)                                                      \
  if (search.forms.name.object) {                                                      \
    new_counts.name = search.forms.name.object == search.allocator ? ~(uint64_t)0 : 0; \
    if (!new_counts.name && !search.forms.name.is_cxx_runtime)                         \
      next_allocator.cxx_is_known = false;                                             \
  }
  INTERPOSED_CXX(X)
#undef X
  if (!search.jemalloc && !search.tcmalloc) return;
  walk_objects(AFTER_US, take_vendor, &search);
  next_allocator.jemalloc_is_next = search.jemalloc && search.jemalloc == search.allocator;
  next_allocator.tcmalloc_is_next = search.tcmalloc && search.tcmalloc == search.allocator;
}

static void *find_old(const struct object *object, const char *name) {
  return dynamic_symbols_find_version(&object->symbols, name, "GLIBC_2.2.5");
}

struct named {
  const char *name;
  void *(*find)(const struct object *object, const char *name);
  void *found;
};

static void take_named(const struct object *object, void *data) {
  struct named *named = data;
  if (!named->found) named->found = named->find(object, named->name);
}

static long refuse(void) { return -1; }

static void *find_now(const char *name, void *(*find_in)(const struct object *, const char *)) {
  struct named named = {name, find_in, NULL};
  walk_objects(AFTER_US, take_named, &named);
  if (!named.found) walk_objects(BEFORE_US, take_named, &named);
  return named.found ? named.found : (void *)refuse; /* before relocation, and without /proc */
}

void *next_function_find_now(const char *name) { return find_now(name, find); }
void *next_function_find_now_old(const char *name) { return find_now(name, find_old); }

bool next_functions_may_change(void) { return ask_loader; }

/* ---- the locks ---- */

static void take_locks(const struct object *object, void *data) {
  struct real_lock_functions *found = data;
  void *address;
#define X(type, name, parameters)                      \
  if (!found->name && (address = find(object, #name))) \
    found->name = (real_##name##_function)address;
  INTERPOSED_LOCKS(X)
  INTERPOSED_COND(X)
  NEXT_ALSO(X)
  NEXT_ONLY(X)
#undef X
#define X(type, name, parameters)                                \
  if (!found->name##_old && (address = find_old(object, #name))) \
    found->name##_old = (real_##name##_function)address;
  INTERPOSED_COND_OLD(X)
#undef X
}

void next_functions_resolve_locks(void) {
  struct real_lock_functions found = {0};
  walk_objects(AFTER_US, take_locks, &found);
  walk_objects(BEFORE_US, take_locks, &found);
#define X(type, name, parameters) __atomic_store_n(&real_locks.name, found.name, __ATOMIC_RELEASE);
  INTERPOSED_LOCKS(X)
  INTERPOSED_COND(X)
  NEXT_ALSO(X)
#undef X
#define X(type, name, parameters) \
  __atomic_store_n(&real_locks.name##_old, found.name##_old, __ATOMIC_RELEASE);
  INTERPOSED_COND_OLD(X)
#undef X
#define X(type, name, parameters) __atomic_store_n(&real_locks.name, found.name, __ATOMIC_RELEASE);
  NEXT_ONLY(X)
#undef X
}

struct late_search {
  const char *name;
  void *found;
};

static int search_late(struct dl_phdr_info *info, size_t size, void *data) {
  (void)size;
  struct late_search *search = data;
  struct dynamic_symbols symbols;
  if (!is_this_library(info) && object_open(info, &symbols))
    search->found = dynamic_symbols_find(&symbols, search->name);
  return search->found != NULL;
}

void *next_function_find_late(const char *name) {
  struct late_search search = {name, NULL};
  dl_iterate_phdr(search_late, &search);
  return search.found;
}

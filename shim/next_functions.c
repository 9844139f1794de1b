#include "next_functions.h"

#include <elf.h>
#include <link.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include "interposed.h"
#include "startup.h"

/* Until resolution the hot-path pointers hold functions that start the library and then forward; nothing tests "initialised?". */
struct real_functions real = {
    .free = startup_free,
    .malloc = startup_malloc,
    .calloc = startup_calloc,
    .realloc = startup_realloc,
    .posix_memalign = startup_posix_memalign,
    .aligned_alloc = startup_aligned_alloc,
    .memalign = startup_memalign,
    .valloc = startup_valloc,
    .pvalloc = startup_pvalloc,
    .dlclose = startup_dlclose,
    .unshare = startup_unshare,
    .setns = startup_setns,
    .pthread_exit = startup_pthread_exit,
};

struct next_allocator next_allocator;

#define X(type, name, parameters) +1
enum { OPTIONAL_NAMES_MAX = 0 INTERPOSED_OPTIONAL(X) INTERPOSED_CXX(X) INTERPOSED_JEMALLOC(X) INTERPOSED_TCMALLOC(X) };
#undef X

extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));

/* One loaded object's dynamic symbol table. */
struct symbol_source {
  uintptr_t bias;
  const ElfW(Sym) * symbols;
  const char *strings;
  const uint32_t *gnu_hash;
  const uint32_t *sysv_hash;
  const uint16_t *versions;
  const char *path;
  bool is_program;
};

static uint32_t gnu_hash_of(const char *name) {
  uint32_t hash = 5381;
  for (; *name; name++) hash = hash * 33 + (unsigned char)*name;
  return hash;
}

static uint32_t sysv_hash_of(const char *name) {
  uint32_t hash = 0;
  for (; *name; name++) {
    hash = (hash << 4) + (unsigned char)*name;
    hash ^= (hash >> 24) & 0xf0;
  }
  return hash & 0x0fffffff;
}

static bool symbol_matches(const struct symbol_source *source, uint32_t index, const char *name) {
  const ElfW(Sym) *symbol = &source->symbols[index];
  unsigned type = symbol->st_info & 0xf, bind = symbol->st_info >> 4;
  return symbol->st_shndx != SHN_UNDEF && symbol->st_value != 0 && (type == STT_FUNC || type == STT_NOTYPE) &&
         (bind == STB_GLOBAL || bind == STB_WEAK) && (!source->versions || !(source->versions[index] & 0x8000)) &&
         strcmp(source->strings + symbol->st_name, name) == 0;
}

/* gABI and GNU hash table lookups: https://flapenguin.me/elf-dt-gnu-hash describes the second. */
static uint32_t source_find_index(const struct symbol_source *source, const char *name) {
  if (source->gnu_hash) {
    const uint32_t *table = source->gnu_hash;
    uint32_t bucket_count = table[0], first = table[1], bloom_words = table[2], shift = table[3];
    const ElfW(Addr) *bloom = (const ElfW(Addr) *)(table + 4);
    const uint32_t *buckets = (const uint32_t *)(bloom + bloom_words), *chain = buckets + bucket_count;
    enum { WORD_BITS = sizeof(ElfW(Addr)) * 8 };
    uint32_t hash = gnu_hash_of(name);
    if (bucket_count == 0 || bloom_words == 0) return STN_UNDEF;
    ElfW(Addr) word = bloom[(hash / WORD_BITS) % bloom_words];
    if (!(word >> (hash % WORD_BITS) & word >> ((hash >> shift) % WORD_BITS) & 1)) return STN_UNDEF;
    for (uint32_t index = buckets[hash % bucket_count]; index >= first; index++) {
      uint32_t entry = chain[index - first];
      if ((entry | 1) == (hash | 1) && symbol_matches(source, index, name)) return index;
      if (entry & 1) break;
    }
  } else if (source->sysv_hash) {
    const uint32_t *table = source->sysv_hash, *buckets = table + 2, *chain = buckets + table[0];
    if (table[0] == 0) return STN_UNDEF;
    for (uint32_t index = buckets[sysv_hash_of(name) % table[0]]; index != STN_UNDEF; index = chain[index])
      if (symbol_matches(source, index, name)) return index;
  }
  return STN_UNDEF;
}

static void *source_find(const struct symbol_source *source, const char *name) {
  uint32_t index = source_find_index(source, name);
  return index == STN_UNDEF ? NULL : (void *)(source->bias + source->symbols[index].st_value);
}

static bool source_open(const struct dl_phdr_info *info, struct symbol_source *source) {
  memset(source, 0, sizeof *source);
  source->bias = info->dlpi_addr;
  source->path = info->dlpi_name;
  const ElfW(Dyn) *dynamic = NULL;
  for (int i = 0; i < info->dlpi_phnum; i++)
    if (info->dlpi_phdr[i].p_type == PT_DYNAMIC) dynamic = (const ElfW(Dyn) *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
  if (!dynamic) return false;
  for (; dynamic->d_tag != DT_NULL; dynamic++) {
    /* glibc has relocated these in place but for the vdso's, which are still file addresses. */
    uintptr_t value = dynamic->d_un.d_ptr;
    if (value < info->dlpi_addr) value += info->dlpi_addr;
    if (dynamic->d_tag == DT_SYMTAB) source->symbols = (const ElfW(Sym) *)value;
    if (dynamic->d_tag == DT_STRTAB) source->strings = (const char *)value;
    if (dynamic->d_tag == DT_GNU_HASH) source->gnu_hash = (const uint32_t *)value;
    if (dynamic->d_tag == DT_HASH) source->sysv_hash = (const uint32_t *)value;
    if (dynamic->d_tag == DT_VERSYM) source->versions = (const uint16_t *)value;
  }
  return source->symbols && source->strings;
}

enum { SOURCES_MAX = 512 };
struct source_list {
  struct symbol_source items[SOURCES_MAX];
  size_t count, own; /* own: index of the first object after this library */
};

static int collect_source(struct dl_phdr_info *info, size_t size, void *data) {
  (void)size;
  struct source_list *list = data;
  bool is_own = false;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *phdr = &info->dlpi_phdr[i];
    if (phdr->p_type == PT_LOAD && (uintptr_t)&__ehdr_start - info->dlpi_addr - phdr->p_vaddr < phdr->p_memsz) is_own = true;
  }
  if (is_own) {
    list->own = list->count;
    return 0;
  }
  struct symbol_source *source = &list->items[list->count];
  bool is_program = list->count == 0;
  if (list->count < SOURCES_MAX && source_open(info, source)) {
    source->is_program = is_program;
    list->count++;
  }
  return 0;
}

/* The loader's list is in search order for all that was loaded at start. It is kept in .bss: too big for a host's small stack. */
static struct source_list sources;

static const struct symbol_source *find_from(size_t first, size_t limit, const char *name, void **address) {
  for (size_t i = first; i < limit; i++)
    if ((*address = source_find(&sources.items[i], name))) return &sources.items[i];
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

/* ---- hiding what nobody else defines ---- */

extern ElfW(Dyn) _DYNAMIC[] __attribute__((visibility("hidden")));

/* A program may ask for mallocx or free_sized by a weak reference or dlsym, and take another path when it is there. So a name of ours
 * that no later object defines is struck from this library's symbol table in memory: the loader passes over undefined entries. */
static void hide_own_symbols(const char *const *names, size_t count) {
  struct dl_phdr_info info = {.dlpi_addr = (uintptr_t)&__ehdr_start, .dlpi_name = ""};
  struct symbol_source own;
  ElfW(Phdr) dynamic = {.p_type = PT_DYNAMIC, .p_vaddr = (uintptr_t)_DYNAMIC - info.dlpi_addr};
  info.dlpi_phdr = &dynamic;
  info.dlpi_phnum = 1;
  if (count == 0 || !source_open(&info, &own)) return;
  uintptr_t low = UINTPTR_MAX, high = 0;
  ElfW(Sym) *found[OPTIONAL_NAMES_MAX];
  size_t found_count = 0;
  for (size_t i = 0; i < count; i++) {
    uint32_t index = source_find_index(&own, names[i]);
    if (index == STN_UNDEF) continue;
    ElfW(Sym) *symbol = (ElfW(Sym) *)&own.symbols[index];
    found[found_count++] = symbol;
    if ((uintptr_t)symbol < low) low = (uintptr_t)symbol;
    if ((uintptr_t)(symbol + 1) > high) high = (uintptr_t)(symbol + 1);
  }
  uintptr_t page = getauxval(AT_PAGESZ), start = low & ~(page - 1);
  if (found_count == 0 || mprotect((void *)start, high - start, PROT_READ | PROT_WRITE) != 0) return;
  for (size_t i = 0; i < found_count; i++) {
    found[i]->st_value = 0;
    found[i]->st_shndx = SHN_UNDEF;
  }
  mprotect((void *)start, high - start, PROT_READ);
}

void next_functions_resolve(void) {
  dl_iterate_phdr(collect_source, &sources);
  void *address;
  const struct symbol_source *allocator = find_from(sources.own, sources.count, "malloc", &address);
  if (allocator) copy_path(next_allocator.path, sizeof next_allocator.path, allocator);
  const struct symbol_source *earlier = find_from(0, sources.own, "malloc", &address);
  if (earlier) {
    copy_path(next_allocator.earlier_path, sizeof next_allocator.earlier_path, earlier);
    next_allocator.earlier_is_program = earlier->is_program;
  }
  next_allocator.asan = find_from(0, sources.count, "__asan_init", &address) != NULL ||
                        find_from(0, sources.count, "__tsan_init", &address) != NULL ||
                        find_from(0, sources.count, "__msan_init", &address) != NULL;

#define X(type, name, parameters)                                                              \
  if (find_from(sources.own, sources.count, #name, &address)) real.name = (real_##name##_function)address;
  INTERPOSED_ALWAYS(X)
  INTERPOSED_OPTIONAL(X)
  const struct symbol_source *cxx = find_from(sources.own, sources.count, "_Znwm", &address);
  if (cxx) {
    INTERPOSED_CXX(X)
    next_allocator.has_cxx = true;
    next_allocator.cxx_calls_malloc = is_cxx_runtime(cxx->path);
    next_allocator.cxx_is_allocator = cxx == allocator;
  }
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

  const char *absent[OPTIONAL_NAMES_MAX];
  size_t absent_count = 0;
#define X(type, name, parameters) \
  if (!real.name) absent[absent_count++] = #name;
  INTERPOSED_OPTIONAL(X)
  INTERPOSED_CXX(X)
  INTERPOSED_JEMALLOC(X)
  INTERPOSED_TCMALLOC(X)
#undef X
  hide_own_symbols(absent, absent_count);
}

struct late_search {
  const char *name;
  void *found;
};

static int search_late(struct dl_phdr_info *info, size_t size, void *data) {
  (void)size;
  struct late_search *search = data;
  struct symbol_source source;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *phdr = &info->dlpi_phdr[i];
    if (phdr->p_type == PT_LOAD && (uintptr_t)&__ehdr_start - info->dlpi_addr - phdr->p_vaddr < phdr->p_memsz) return 0;
  }
  if (source_open(info, &source)) search->found = source_find(&source, search->name);
  return search->found != NULL;
}

void *next_function_find_late(const char *name) {
  struct late_search search = {name, NULL};
  dl_iterate_phdr(search_late, &search);
  return search.found;
}

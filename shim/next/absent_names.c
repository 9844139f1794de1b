/* A program may ask for mallocx, free_sized or operator new by a weak reference or by dlsym, and
 * take another path when they are there. So a name of ours that no other object defines is struck
 * from this library's hash table of symbols in memory, before the program is bound. So are the
 * names of what the library offers by itself where another object has something of those names. The
 * table lies among what becomes read-only after relocation (layout.ld).
 *
 * The one code of ours that runs so early, which also makes this library's pointers ready
 * (put_stand_ins), is the resolver of an IFUNC: it is called while this library is relocated, when
 * the libraries it needs are done and the program itself is not. It therefore calls nothing outside
 * this file and dynamic_symbols.c: what it called might be bound to the program (test_elf.py checks
 * that no such reference exists). */
#include <elf.h>
#include <link.h>
#include <stddef.h>
#include <stdint.h>

#include "dynamic_symbols.h"
#include "interposed.h"
#include "startup.h"

extern ElfW(Dyn) _DYNAMIC[] __attribute__((visibility("hidden")));
extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));

typedef char absent_name[40]; /* in place: the loader has nothing to relocate */

/* All or nothing: the first name decides. */
struct family {
  const absent_name *names;
  uint32_t count, hash; /* the first name's */
  bool is_defined_elsewhere;
};

static void look_elsewhere(struct family *families, size_t count) {
  for (const struct link_map *map = _r_debug.r_map; map; map = map->l_next) {
    struct dynamic_symbols table;
    if (map->l_ld == _DYNAMIC || !map->l_ld ||
        !dynamic_symbols_open(&table, map->l_addr, map->l_ld))
      continue;
    for (struct family *each = families; each < families + count; each++)
      if (!each->is_defined_elsewhere)
        each->is_defined_elsewhere =
            dynamic_symbols_find_index_hashed(&table, *each->names, each->hash) != STN_UNDEF;
  }
}

/* An entry of the hash table's chains is the name's hash, but for the lowest bit, which ends a
 * chain: with another bit changed no lookup of that name stops here. */
static void strike(const struct dynamic_symbols *own, const struct family *family) {
  uint32_t *words = (uint32_t *)own->gnu_hash, first = words[1];
  uint32_t *chain = words + 4 + words[2] * (sizeof(ElfW(Addr)) / sizeof *words) + words[0];
  for (uint32_t i = 0; i < family->count; i++) {
    uint32_t index = dynamic_symbols_find_index(own, family->names[i]);
    if (index != STN_UNDEF) chain[index - first] ^= 2;
  }
}

/* Until resolution the hot-path pointers hold functions that start the library and then forward;
 * nothing tests "initialised?". They are not put there by the linker, whose file has addresses yet
 * to be relocated where NULL must be until then (interposed.h). */
static void put_stand_ins(void) {
  real.free = startup_free;
  real.malloc = startup_malloc;
  real.calloc = startup_calloc;
  real.realloc = startup_realloc;
  real.posix_memalign = startup_posix_memalign;
  real.aligned_alloc = startup_aligned_alloc;
  real.memalign = startup_memalign;
  real.valloc = startup_valloc;
  real.pvalloc = startup_pvalloc;
  real.dlclose = startup_dlclose;
  real.unshare = startup_unshare;
  real.setns = startup_setns;
  real.prctl = startup_prctl;
  real.syscall = startup_syscall;
  real.pthread_exit = startup_pthread_exit;
  real.thrd_exit = startup_thrd_exit;
}

static void nothing(void) {}

#define X(type, name, parameters) #name,
static const absent_name cxx_names[] = {INTERPOSED_CXX(X)};
static const absent_name jemalloc_names[] = {INTERPOSED_JEMALLOC(X)};
static const absent_name tcmalloc_names[] = {INTERPOSED_TCMALLOC(X)};
static const absent_name frame_names[] = {INTERPOSED_FRAMES(X)};
static const absent_name optional_names[] = {INTERPOSED_OPTIONAL(X)};
static const absent_name own_names[] = {OWN_FUNCTIONS(X)};
#undef X
#define COUNT(array) (sizeof(array) / sizeof *(array))

static struct family family_of(const absent_name *names, size_t count) {
  return (struct family){names, (uint32_t)count, dynamic_symbols_hash(*names), false};
}

static void strike_absent(const struct dynamic_symbols *own) {
  enum { OWN = 4, OPTIONAL, FAMILIES = OPTIONAL + COUNT(optional_names) };
  struct family families[FAMILIES];
  families[0] = family_of(cxx_names, COUNT(cxx_names));
  families[1] = family_of(jemalloc_names, COUNT(jemalloc_names));
  families[2] = family_of(tcmalloc_names, COUNT(tcmalloc_names));
  families[3] = family_of(frame_names, COUNT(frame_names));
  families[OWN] = family_of(own_names, COUNT(own_names));
  for (size_t i = OPTIONAL; i < FAMILIES; i++)
    families[i] = family_of(&optional_names[i - OPTIONAL], 1);
  look_elsewhere(families, FAMILIES);
  for (size_t i = 0; i < FAMILIES; i++)
    if (families[i].is_defined_elsewhere == (i == OWN)) strike(own, &families[i]);
}

static void (*act_while_relocating(void))(void) {
  struct dynamic_symbols own;
  put_stand_ins();
  if (_r_debug.r_map && dynamic_symbols_open(&own, (uintptr_t)&__ehdr_start, _DYNAMIC) &&
      own.gnu_hash)
    strike_absent(&own);
  return nothing;
}

/* Nobody calls the function; the pointer's IRELATIVE relocation is what runs the resolver. */
static void struck(void) __attribute__((ifunc("act_while_relocating")));
__attribute__((used, retain)) static void (*const volatile struck_pointer)(void) = struck;

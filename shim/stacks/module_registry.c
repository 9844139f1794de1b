#include "module_registry.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include "shim/base/confinement.h"
#include "shim/base/counters.h"
#include "module_identity.h"
#include "shim/base/raw_syscall.h"
#include "readable_pages.h"
#include "stack_capture.h"
#include "shim/base/table_memory.h"
#include "shim/base/thread_state.h"

/* Written by the thread that reserved the index, then published by the release store of `ready`;
 * constants afterwards, but for `current`. Never removed. */
struct module_entry {
  struct module_view view;
  _Atomic bool ready;
  uintptr_t build_id_at; /* where it lies in the object itself */
  _Atomic bool current; /* what the range means now, as far as is known; cleared when another module
                           is seen there or it is unloaded */
};

enum { MODULES_MAX = 2048, BUILD_ID_MAX = 64 };

/* In .bss, touched as used. */
static struct module_entry modules[MODULES_MAX];
static _Atomic uint32_t module_count;
static _Atomic uint32_t highest_epoch = 1;

/* Ranges that have meant more than one module. Widened when there are too many: more stacks then
 * carry an epoch, which harms nothing. Each bound is written before the count that covers it
 * (release) and only ever moves outwards. */
enum { CONTESTED_MAX = 64 };
static struct { _Atomic uintptr_t start, end; } contested[CONTESTED_MAX];
static _Atomic uint32_t contested_count;

static void contest(uintptr_t start, uintptr_t end) {
  uint32_t count = atomic_load_explicit(&contested_count, memory_order_acquire),
           last = count < CONTESTED_MAX ? count : CONTESTED_MAX - 1;
  for (uint32_t i = 0; i < count; i++)
    if (atomic_load_explicit(&contested[i].start, memory_order_relaxed) <= start &&
        atomic_load_explicit(&contested[i].end, memory_order_relaxed) >= end)
      return;
  if (count < CONTESTED_MAX) {
    atomic_store_explicit(&contested[last].start, start, memory_order_relaxed);
    atomic_store_explicit(&contested[last].end, end, memory_order_relaxed);
    /* Two threads at once may write the same slot: one range is then noted when that module is next
     * seen to change. */
    atomic_compare_exchange_strong_explicit(&contested_count, &count, count + 1,
                                            memory_order_release, memory_order_relaxed);
    return;
  }
  if (atomic_load_explicit(&contested[last].start, memory_order_relaxed) > start)
    atomic_store_explicit(&contested[last].start, start, memory_order_relaxed);
  if (atomic_load_explicit(&contested[last].end, memory_order_relaxed) < end)
    atomic_store_explicit(&contested[last].end, end, memory_order_relaxed);
}

static bool is_contested(uint64_t pc, uint32_t count) {
  for (uint32_t i = 0; i < count; i++)
    if (pc >= atomic_load_explicit(&contested[i].start, memory_order_relaxed) &&
        pc < atomic_load_explicit(&contested[i].end, memory_order_relaxed))
      return true;
  return false;
}
TABLE_MEMORY(texts, 16); /* paths and build-ids: 4 MB */

uint32_t module_registry_count(void) {
  uint32_t count = atomic_load_explicit(&module_count, memory_order_acquire);
  return count < MODULES_MAX ? count : MODULES_MAX;
}

static struct module_entry *entry_at(uint32_t index) {
  if (index == 0 || index > module_registry_count()) return NULL;
  struct module_entry *entry = &modules[index - 1];
  return atomic_load_explicit(&entry->ready, memory_order_acquire) ? entry : NULL;
}

bool module_registry_read(uint32_t index, struct module_view *out) {
  const struct module_entry *entry = entry_at(index);
  if (entry) {
    *out = entry->view;
    out->current = atomic_load_explicit(&entry->current, memory_order_acquire);
  }
  return entry != NULL;
}

uint32_t module_registry_epoch_of(const uint64_t *frames, uint32_t frame_count) {
  uint32_t ranges = atomic_load_explicit(&contested_count, memory_order_acquire), epoch = 1;
  if (ranges == 0) return 1;
  for (uint32_t i = 0; i < frame_count; i++) {
    if (!is_contested(frames[i] - 1, ranges)) continue;
    const struct module_entry *found = NULL;
    for (uint32_t index = module_registry_count(); index > 0 && !found; index--) {
      const struct module_entry *entry = entry_at(index);
      if (entry && frames[i] - 1 >= entry->view.start && frames[i] - 1 < entry->view.end &&
          atomic_load_explicit(&entry->current, memory_order_acquire))
        found = entry;
    }
    if (!found && atomic_load_explicit(&module_count, memory_order_relaxed) >= MODULES_MAX)
      return 0;
    if (!found) continue; /* no module: code made at run time */
    if (found->view.first_epoch > epoch) epoch = found->view.first_epoch;
  }
  return epoch;
}

uint64_t module_registry_bytes(void) {
  return table_memory_mapped(&texts) + module_registry_count() * sizeof(struct module_entry);
}

struct note {
  const uint8_t *bytes;
  uint32_t size;
};

/* In one PT_NOTE segment. What is returned can be read. */
static struct note find_build_id_note(uintptr_t at, uintptr_t limit) {
  enum { NOTES_MAX = 64, NAME = 4 };
  for (int i = 0; i < NOTES_MAX && limit - at >= sizeof(ElfW(Nhdr)) + NAME; i++) {
    const ElfW(Nhdr) *note = (const ElfW(Nhdr) *)at;
    if (!readable_pages_cover(at, sizeof *note + NAME)) break;
    uintptr_t name = at + sizeof *note;
    uintptr_t description = name + (((uintptr_t)note->n_namesz + 3) & ~(uintptr_t)3);
    uintptr_t next = description + (((uintptr_t)note->n_descsz + 3) & ~(uintptr_t)3);
    if (description > limit || note->n_descsz > limit - description) break;
    if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == NAME &&
        memcmp((const char *)name, "GNU", NAME) == 0) {
      uint32_t size = note->n_descsz < BUILD_ID_MAX ? note->n_descsz : BUILD_ID_MAX;
      if (!readable_pages_cover(description, size)) break;
      return (struct note){(const uint8_t *)description, size};
    }
    if (next > limit) break;
    at = next;
  }
  return (struct note){NULL, 0};
}

/* The object is executing, but its headers may lie, and need not be mapped any more. */
static struct note find_build_id(uintptr_t start, uintptr_t end, uintptr_t bias) {
  const ElfW(Ehdr) *header = (const ElfW(Ehdr) *)start;
  struct note none = {NULL, 0};
  if (end - start < sizeof *header || !readable_pages_cover(start, sizeof *header) ||
      memcmp(header->e_ident, ELFMAG, SELFMAG) != 0)
    return none;
  size_t size = header->e_phnum * sizeof(ElfW(Phdr));
  if (header->e_phoff > end - start || size > end - start - header->e_phoff ||
      !readable_pages_cover(start + header->e_phoff, size))
    return none;
  const ElfW(Phdr) *phdr = (const ElfW(Phdr) *)(start + header->e_phoff);
  for (int i = 0; i < header->e_phnum; i++) {
    uintptr_t at = bias + phdr[i].p_vaddr, limit = at + phdr[i].p_memsz;
    if (phdr[i].p_type != PT_NOTE || at < start || limit > end || limit < at || at % 4) continue;
    struct note found = find_build_id_note(at, limit);
    if (found.size > 0) return found;
  }
  return none;
}

static void *copy_text(const void *bytes, size_t size) {
  bool full;
  uint32_t position = table_memory_allocate(&texts, size, &full);
  void *copy = position == UINT32_MAX ? NULL : table_memory_at(&texts, position);
  if (copy) memcpy(copy, bytes, size);
  return copy;
}

/* A program may have unmapped or protected what it does not need any more after loading, or
 * truncated the file. The kernel is asked, as stack_capture.c asks it. */
static bool is_readable(uint64_t address) {
  enum { NO_SUCH_WAY = -1, MASK_SIZE = 8 };
  uint64_t word = address & ~(uint64_t)(MASK_SIZE - 1);
  return raw_syscall4(SYS_rt_sigprocmask, NO_SUCH_WAY, (long)word, 0, MASK_SIZE) == -EINVAL;
}

/* At most a page. */
static bool read_memory(uint64_t address, void *out, size_t size) {
  enum { PAGE = 4096 };
  uint64_t last = address + size - 1;
  if (confinement_forbids_calls() || !is_readable(address)) return false;
  if (address / PAGE != last / PAGE && !is_readable(last)) return false;
  memcpy(out, (const void *)(uintptr_t)address, size);
  return true;
}

static bool same_module(const struct module_view *view, uintptr_t bias, uintptr_t end,
                        const char *path, struct note build_id) {
  return view->bias == bias && view->end == end && strcmp(view->path, path) == 0 &&
         view->build_id_size == build_id.size &&
         (build_id.size == 0 || memcmp(view->build_id, build_id.bytes, build_id.size) == 0);
}

/* Whether it is what was seen there before: its build-id lies where it did. Unusual rules are
 * looked up at each capture, so this asks for one page, not for each on the way to the note. */
static bool is_known(uintptr_t start, uintptr_t end, uintptr_t bias, const char *path) {
  for (uint32_t index = module_registry_count(); index > 0; index--) {
    const struct module_entry *entry = entry_at(index);
    if (!entry || entry->view.start != start || !entry->view.build_id_size ||
        !atomic_load_explicit(&entry->current, memory_order_acquire))
      continue;
    struct note there = {(const uint8_t *)entry->build_id_at, entry->view.build_id_size};
    return readable_pages_cover(entry->build_id_at, there.size) &&
           same_module(&entry->view, bias, end, path, there);
  }
  return false;
}

void module_registry_note(const struct dl_find_object *found) {
  uintptr_t start = (uintptr_t)found->dlfo_map_start, end = (uintptr_t)found->dlfo_map_end;
  uintptr_t bias = found->dlfo_link_map->l_addr;
  const char *path = found->dlfo_link_map->l_name;
  if (is_known(start, end, bias, path)) return;
  struct note build_id = find_build_id(start, end, bias);

  for (uint32_t index = module_registry_count(); index > 0; index--) {
    struct module_entry *entry = entry_at(index);
    if (entry && entry->view.start == start &&
        atomic_load_explicit(&entry->current, memory_order_acquire) &&
        same_module(&entry->view, bias, end, path, build_id))
      return;
  }
  uint64_t identity = build_id.size || !*path
                          ? 0
                          : module_identity(start, end, bias, read_memory); /* once a load */
  /* Reached once per new pc, so a scan is cheap enough. */
  struct module_entry *same = NULL;
  bool overlaps = false;
  for (uint32_t index = module_registry_count(); index > 0; index--) {
    struct module_entry *entry = entry_at(index);
    if (!entry || entry->view.start >= end || entry->view.end <= start) continue;
    if (!same && entry->view.start == start && entry->view.identity == identity &&
        same_module(&entry->view, bias, end, path, build_id))
      same = entry;
    else overlaps = true;
  }
  if (same && atomic_load_explicit(&same->current, memory_order_acquire)) return;
  if (overlaps) {
    contest(start, end);
    for (uint32_t index = module_registry_count(); index > 0; index--) {
      struct module_entry *entry = entry_at(index);
      if (entry && entry != same && entry->view.start < end && entry->view.end > start)
        atomic_store_explicit(&entry->current, false, memory_order_release);
    }
    stack_capture_forget_rules();
  }
  if (same) { /* loaded again where it was */
    atomic_store_explicit(&same->current, true, memory_order_release);
    return;
  }

  size_t path_size = strnlen(path, 4095) + 1;
  char *path_copy = copy_text(path, path_size);
  uint8_t *build_id_copy = build_id.size ? copy_text(build_id.bytes, build_id.size) : NULL;
  uint32_t index =
      path_copy ? atomic_load_explicit(&module_count, memory_order_relaxed) : MODULES_MAX;
  while (index < MODULES_MAX &&
         !atomic_compare_exchange_weak_explicit(&module_count, &index, index + 1,
                                                memory_order_acq_rel, memory_order_relaxed)) {}
  if (index >= MODULES_MAX) {
    COUNT_LOSS(modules_lost);
    return;
  }
  path_copy[path_size - 1] = 0;
  modules[index].view = (struct module_view){
      .start = start,
      .end = end,
      .bias = bias,
      .path = path_copy,
      .build_id = build_id_copy,
      .build_id_size = build_id_copy ? build_id.size : 0,
      .identity = identity,
      .first_epoch =
          overlaps ? atomic_fetch_add_explicit(&highest_epoch, 1, memory_order_acq_rel) + 1 : 1};
  modules[index].build_id_at = (uintptr_t)build_id.bytes;
  atomic_store_explicit(&modules[index].current, true, memory_order_relaxed);
  atomic_store_explicit(&modules[index].ready, true, memory_order_release);
  stack_capture_object_appears();
}

void module_registry_check_unloaded(void) {
  bool any = false;
  for (uint32_t index = module_registry_count(); index > 0; index--) {
    struct module_entry *entry = entry_at(index);
    if (!entry || !atomic_load_explicit(&entry->current, memory_order_acquire)) continue;
    struct dl_find_object found;
    if (_dl_find_object((void *)(uintptr_t)entry->view.start, &found) == 0 &&
        (uintptr_t)found.dlfo_map_start == entry->view.start &&
        found.dlfo_link_map->l_addr == entry->view.bias)
      continue;
    atomic_store_explicit(&entry->current, false, memory_order_release);
    any = true;
  }
  if (any) stack_capture_forget_rules();
}

#include "unwind_rule.h"

#include <dlfcn.h>
#include <link.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/auxv.h>

#include "shim/base/at_fork.h"
#include "shim/base/confinement.h"
#include "module_registry.h"
#include "shim/base/raw_syscall.h"
#include "readable_pages.h"
#include "registered_frames.h"

/* Of a program whose segments have gaps between them (-z max-page-size, lld's and Rust's layouts)
 * the loader knows only the one with the code; the unwind tables are then in another. */
static bool find_program_segment(uintptr_t address, uintptr_t bias, uintptr_t *start,
                                 uintptr_t *end) {
  const ElfW(Phdr) *phdr = (const ElfW(Phdr) *)getauxval(AT_PHDR);
  unsigned long left = phdr ? getauxval(AT_PHNUM) : 0;
  if (!readable_pages_cover((uintptr_t)phdr, left * sizeof *phdr)) return false;
  for (; left > 0; left--, phdr++) {
    if (phdr->p_type != PT_LOAD || address - (bias + phdr->p_vaddr) >= phdr->p_memsz) continue;
    *start = bias + phdr->p_vaddr;
    *end = *start + phdr->p_memsz;
    return *end > *start;
  }
  return false;
}

bool unwind_rule_find_next(uintptr_t pc, struct announcements_answer *answer,
                           struct cfi_rule *rule) {
  struct dl_find_object found;
  if (_dl_find_object((void *)pc, &found) != 0) return registered_frames_find(pc, answer, rule);
  module_registry_note(&found);
  uintptr_t tables = (uintptr_t)found.dlfo_eh_frame;
  uintptr_t code_start = (uintptr_t)found.dlfo_map_start, start = code_start;
  uintptr_t code_end = (uintptr_t)found.dlfo_map_end, end = code_end;
  if (!tables || (tables - start >= end - start &&
                  !find_program_segment(tables, found.dlfo_link_map->l_addr, &start, &end)))
    return false;
  /* Of code elsewhere it has nothing to say; those who read the code rely on it. */
  return cfi_find_rule(pc, found.dlfo_eh_frame, start, end, rule) && rule->start >= code_start &&
         rule->end <= code_end;
}

bool unwind_rule_find(uintptr_t pc, struct cfi_rule *rule) {
  struct announcements_answer answer = {false, false};
  return unwind_rule_find_next(pc, &answer, rule);
}

bool unwind_rule_is_settled(uintptr_t pc) {
  struct dl_find_object found;
  return !confinement_forbids_calls() && _dl_find_object((void *)pc, &found) == 0;
}

bool unwind_rule_may_be_code(uintptr_t pc) {
  struct dl_find_object found;
  if (_dl_find_object((void *)pc, &found) != 0) return true;
  uintptr_t start = (uintptr_t)found.dlfo_map_start, bias = found.dlfo_link_map->l_addr;
  uintptr_t size = (uintptr_t)found.dlfo_map_end - start;
  const ElfW(Ehdr) *header = (const ElfW(Ehdr) *)start;
  /* Where there is none at the start, that is the segment with the code (find_program_segment). */
  if (size < sizeof *header || !readable_pages_cover(start, sizeof *header)) return false;
  if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) return true;
  if (header->e_phentsize != sizeof(ElfW(Phdr)) || header->e_phoff > size ||
      header->e_phnum * sizeof(ElfW(Phdr)) > size - header->e_phoff ||
      !readable_pages_cover(start + header->e_phoff, header->e_phnum * sizeof(ElfW(Phdr))))
    return false;
  const ElfW(Phdr) *phdr = (const ElfW(Phdr) *)(start + header->e_phoff);
  for (int i = 0; i < header->e_phnum; i++)
    if (phdr[i].p_type == PT_LOAD && pc - (bias + phdr[i].p_vaddr) < phdr[i].p_memsz)
      return phdr[i].p_flags & PF_X;
  return false;
}

/* ---- agent against dlclose ----
 *
 * Each side writes its own word, then reads the other's (seq_cst), so at least one of them sees the
 * other. */
static _Atomic uint32_t borrowers; /* threads that look at what nothing keeps loaded */
static _Atomic uint32_t unloading; /* calls of dlclose that are under way */
/* Written by those that unmap modules, before and after. A reader that sees the number after may
 * read; one that read meanwhile is told by it afterwards. */
static _Atomic uint64_t generation;

uint64_t unwind_rule_generation(void) {
  return atomic_load_explicit(&generation, memory_order_acquire);
}

enum { LENDER_NAPS_MAX = 20000, BORROWER_NAPS_MAX = 4000 };

bool unwind_rule_try_borrow(void) {
  atomic_fetch_add(&borrowers, 1);
  if (atomic_load(&unloading) == 0) return true;
  atomic_fetch_sub(&borrowers, 1);
  return false;
}

bool unwind_rule_borrow_begin(void) {
  for (uint32_t naps = 0; naps < BORROWER_NAPS_MAX; naps++) {
    if (unwind_rule_try_borrow()) return true;
    raw_nap();
  }
  return false;
}

void unwind_rule_borrow_end(void) { atomic_fetch_sub(&borrowers, 1); }

void unwind_rule_unload_begin(void) {
  atomic_fetch_add(&unloading, 1);
  atomic_fetch_add_explicit(&generation, 1, memory_order_release);
  for (uint32_t naps = 0; naps < LENDER_NAPS_MAX && atomic_load(&borrowers); naps++) {
    if (confinement_forbids_calls()) return; /* there is no agent */
    raw_nap();
  }
}

void unwind_rule_unload_end(void) {
  atomic_fetch_add_explicit(&generation, 1, memory_order_release);
  atomic_fetch_sub(&unloading, 1);
}

AT_FORK void unwind_rule_forget_borrower(void) {
  if (atomic_load(&borrowers)) atomic_store(&borrowers, 0);
  if (atomic_load(&unloading)) atomic_store(&unloading, 0);
}

/* fuzz: rounds */
/* Unwind sections that say anything: this program's own with bytes changed at random, and such as a
 * generator makes, valid in form and with numbers, registers, lengths, encodings and expressions as
 * no compiler writes them, also with pages between that cannot be read. They are read only within
 * their bounds (the address sanitizer watches the ends), never for ever, and what comes out can be
 * followed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "shim/stacks/cfi.h"
#include "fuzz_budget.h"
#include "generated_cfi.h"

static uint64_t state;
uint64_t generated_random(void) {
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}
#define next generated_random

/* An address that the tables made up must not become one that is read: offsets of a CFA are small
 * here or wrap, blocks lie within the section. */
static bool read_nothing(void *reader, uintptr_t address, uintptr_t *value) {
  (void)reader;
  *value = address * 3;
  return address & 8;
}

static void follow(const struct cfi_rule *rule, uintptr_t pc) {
  struct cfi_context context = {pc, next(), next(), read_nothing, NULL};
  uintptr_t value, cfa = next();
  if (rule->end <= rule->start || pc < rule->start || pc >= rule->end) abort();
  if (rule->base == CFI_BASE_EXPRESSION)
    cfi_evaluate(rule->cfa_block, rule->cfa_block_size, &context, NULL, &value);
  cfi_recover(&rule->fp, cfa, 1, &context, &value);
  cfi_recover(&rule->sp, cfa, 1, &context, &value);
  cfi_recover(&rule->return_address, cfa, 1, &context, &value);
}

/* Each returns how many of *rounds, the usual number, were understood; *rounds: how many there
 * were. */
static long changed_bytes(long *rounds) {
  struct dl_find_object found;
  if (_dl_find_object((void *)(uintptr_t)changed_bytes, &found) != 0) return 0;
  const ElfW(Ehdr) *header = found.dlfo_map_start;
  const ElfW(Phdr) *phdr = (const ElfW(Phdr) *)((const char *)header + header->e_phoff);
  uintptr_t hdr = (uintptr_t)found.dlfo_eh_frame, end = 0;
  for (int i = 0; i < header->e_phnum; i++) {
    uintptr_t start = found.dlfo_link_map->l_addr + phdr[i].p_vaddr;
    if (phdr[i].p_type == PT_LOAD && hdr - start < phdr[i].p_memsz) end = start + phdr[i].p_memsz;
  }
  size_t size = end - hdr; /* .eh_frame_hdr and what follows, .eh_frame among it */
  uint8_t *copy = malloc(size);
  long understood = 0, round = 0;
  for (; fuzz_goes_on(round, *rounds); round++) {
    if (round % 64 == 0) memcpy(copy, (const void *)hdr, size);
    uint64_t changes = 1 + next() % 8;
    if (round % 64 != 0)
      for (uint64_t i = 0; i < changes; i++)
        copy[next() % (next() & 1 ? size : 200)] = (uint8_t)next();
    uintptr_t pc = (uintptr_t)copy + ((uintptr_t)changed_bytes - hdr) + next() % 4096 - 2048;
    struct cfi_rule rule;
    if (!cfi_find_rule(pc, copy, (uintptr_t)copy, (uintptr_t)copy + size, &rule)) continue;
    understood++;
    follow(&rule, pc);
  }
  free(copy);
  *rounds = round;
  return understood;
}

/* One that is generated, at the very end of its memory. */
static long generated(long *rounds) {
  long understood = 0, round = 0;
  for (; fuzz_goes_on(round, *rounds); round++) {
    struct generated_cfi made;
    generated_cfi_make(&made);
    uint8_t *copy = malloc(made.size);
    memcpy(copy, made.bytes, made.size);
    uintptr_t pc = (uintptr_t)copy + made.code + next() % made.code_size;
    struct cfi_rule rule;
    if (cfi_find_rule(pc, copy, (uintptr_t)copy, (uintptr_t)copy + made.size, &rule)) {
      understood++;
      follow(&rule, pc);
    }
    free(copy);
  }
  *rounds = round;
  return understood;
}

/* The same across two pages, of which one or both cannot be read. */
static long unreadable(long *rounds) {
  enum { PAGE = 4096 };
  uint8_t *pages = mmap(NULL, 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) abort();
  long understood = 0, round = 0;
  for (; fuzz_goes_on(round, *rounds); round++) {
    struct generated_cfi made;
    generated_cfi_make(&made);
    uint8_t *copy = pages + PAGE - next() % made.size / 4 * 4;
    mprotect(pages, 3 * PAGE, PROT_READ | PROT_WRITE);
    memcpy(copy, made.bytes, made.size);
    bool first = next() % 3 != 0, second = next() % 3 != 0;
    mprotect(pages, PAGE, first ? PROT_READ : PROT_NONE);
    mprotect(pages + PAGE, 2 * PAGE, second ? PROT_READ : PROT_NONE);
    uintptr_t pc = (uintptr_t)copy + made.code + next() % made.code_size, start = (uintptr_t)pages;
    struct cfi_rule rule;
    if (!cfi_find_rule(pc, copy, start, start + 3 * PAGE, &rule)) continue;
    understood++;
    follow(&rule, pc);
  }
  munmap(pages, 3 * PAGE);
  *rounds = round;
  return understood;
}

static void random_expressions(long rounds) {
  for (long round = 0; fuzz_goes_on(round, rounds); round++) {
    uint32_t size = 1 + next() % 24;
    uint8_t *code = malloc(size);
    for (uint32_t i = 0; i < size; i++) code[i] = (uint8_t)next();
    struct cfi_context context = {1, 2, 3, read_nothing, NULL};
    uintptr_t value, cfa = 5;
    cfi_evaluate(code, size, &context, next() & 1 ? &cfa : NULL, &value);
    free(code);
  }
}

static bool is_enough(const char *what, long make(long *rounds), long rounds) {
  fuzz_part(0.25);
  long understood = make(&rounds);
  printf("%s: %ld of %ld were understood\n", what, understood, rounds);
  return understood >= rounds / 100; /* else the test tests nothing */
}

int main(void) {
  enum { ROUNDS = 300000 };
  state = fuzz_seed(88172645463325252u);
  /* Half of the rounds change bytes that the function in question does not need. */
  bool good = is_enough("changed", changed_bytes, ROUNDS);
  good &= is_enough("generated", generated, ROUNDS);
  good &= is_enough("unreadable", unreadable, ROUNDS / 10);
  fuzz_part(0.25);
  random_expressions(ROUNDS);
  return good ? 0 : 1;
}

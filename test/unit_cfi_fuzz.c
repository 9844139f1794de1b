/* links: shim/cfi.c */
/* Damaged unwind sections: a copy of this program's own, bytes changed at random, read only within its bounds (the address sanitizer
 * watches the copy's ends) and never for ever. Argument: rounds. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../shim/cfi.h"

static uint64_t state = 88172645463325252ull;
static uint64_t next(void) {
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

static bool read_nothing(void *reader, uintptr_t address, uintptr_t *value) {
  (void)reader;
  *value = address * 3;
  return address & 8;
}

int main(int argc, char **argv) {
  long rounds = argc > 1 ? atol(argv[1]) : 300000;
  struct dl_find_object found;
  if (_dl_find_object((void *)(uintptr_t)main, &found) != 0) return 1;
  const ElfW(Ehdr) *header = found.dlfo_map_start;
  const ElfW(Phdr) *phdr = (const ElfW(Phdr) *)((const char *)header + header->e_phoff);
  uintptr_t hdr = (uintptr_t)found.dlfo_eh_frame, end = 0;
  for (int i = 0; i < header->e_phnum; i++) {
    uintptr_t start = found.dlfo_link_map->l_addr + phdr[i].p_vaddr;
    if (phdr[i].p_type == PT_LOAD && hdr - start < phdr[i].p_memsz) end = start + phdr[i].p_memsz;
  }
  size_t size = end - hdr; /* .eh_frame_hdr and what follows, .eh_frame among it */
  uint8_t *copy = malloc(size);
  long understood = 0;
  for (long round = 0; round < rounds; round++) {
    if (round % 64 == 0) memcpy(copy, (const void *)hdr, size);
    uint64_t changes = 1 + next() % 8;
    if (round % 64 != 0)
      for (uint64_t i = 0; i < changes; i++) copy[next() % (next() & 1 ? size : 200)] = (uint8_t)next();
    uintptr_t pc = (uintptr_t)copy + ((uintptr_t)main - hdr) + next() % 4096 - 2048;
    struct cfi_rule rule;
    if (!cfi_find_rule(pc, copy, (uintptr_t)copy, (uintptr_t)copy + size, &rule)) continue;
    understood++;
    struct cfi_context context = {pc, next(), next(), read_nothing, NULL};
    uintptr_t value;
    if (rule.base == CFI_BASE_EXPRESSION) cfi_evaluate(rule.cfa_block, &context, NULL, &value);
    if (rule.fp.place == CFI_EXPRESSION) cfi_evaluate(rule.fp.block, &context, &pc, &value);
  }
  free(copy);
  /* Half of the rounds change bytes that the function in question does not need. */
  if (understood < rounds / 100) printf("only %ld of %ld lookups were understood: the test tests nothing\n", understood, rounds);
  /* Expressions of random bytes. */
  for (long round = 0; round < rounds; round++) {
    uint8_t *code = malloc(12);
    for (int i = 1; i < 12; i++) code[i] = (uint8_t)next();
    code[0] = 11; /* the block's size */
    struct cfi_context context = {1, 2, 3, read_nothing, NULL};
    uintptr_t value, cfa = 5;
    cfi_evaluate(code, &context, &cfa, &value);
    free(code);
  }
  return understood < rounds / 100;
}

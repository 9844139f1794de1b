/* Where a function's return address is, read from its code on: functions of which it is known at
 * each of their instructions, and bytes by chance, up to a page that cannot be read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "shim/stacks/epilogue.h"
#include "shim/base/instruction.h"

enum { PAGE = 4096 };

static int failures;
static uint8_t *pages; /* one that can be read, one that cannot */

static uint64_t state = 88172645463325252ull;
static uint64_t next(void) {
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

/* At the end of what can be read. */
static uintptr_t place(const uint8_t *code, size_t size) {
  uint8_t *at = pages + PAGE - size;
  mprotect(pages, PAGE, PROT_READ | PROT_WRITE);
  memcpy(at, code, size);
  return (uintptr_t)at;
}

/* slots: before each instruction, the distance of the return address from rsp; from rbp where it is
 * that minus FROM_FP, from rbx; UNKNOWN: not to be found. */
enum { FROM_FP = 100000, FROM_RBX = 150000, UNKNOWN = 200000 };
enum { CODE_MAX = 64, INSTRUCTIONS_MAX = 24 };
struct function {
  const char *name;
  size_t size;
  uint8_t code[CODE_MAX];
  int64_t slots[INSTRUCTIONS_MAX];
};

static const struct function functions[] = {
    {"frame",
     14, /* push rbp; mov rbp,rsp; push rbx; sub rsp,24; leave; ret ... */
     {0x55, 0x48, 0x89, 0xe5, 0x53, 0x48, 0x83, 0xec, 24, 0x90, 0x90, 0x90, 0xc9, 0xc3},
     {0, 8, FROM_FP + 8, FROM_FP + 8, FROM_FP + 8, FROM_FP + 8, FROM_FP + 8, FROM_FP + 8, 0}},
    {"pushes",
     15, /* push rbx; push r12; sub rsp,40; nop; add rsp,40; pop r12; pop rbx; ret */
     {0x53, 0x41, 0x54, 0x48, 0x83, 0xec, 40, 0x48, 0x83, 0xc4, 40, 0x41, 0x5c, 0x5b, 0xc3},
     {0, 8, 16, 56, 16, 8, 0}},
    {"loop",
     9, /* je 2f; sub rdi,1; jmp back; 2: ret */
     {0x74, 6, 0x48, 0x83, 0xef, 1, 0xeb, 0xf8, 0xc3},
     {0, 0, 0, 0}},
    {"restored",
     16, /* mov rbp,[rsp+8]; lea rsp,[rsp+16]; call +0; ret */
     {0x48, 0x8b, 0x6c, 0x24, 8, 0x48, 0x8d, 0x64, 0x24, 16, 0xe8, 0, 0, 0, 0, 0xc3},
     {16, 16, 0, 0}},
    {"unknown", 4, {0x48, 0x29, 0xc4, 0xc3}, {UNKNOWN, 0}}, /* sub rsp,rax; ret */
    {"rounded",
     6, /* and rsp,-32; leave; ret */
     {0x48, 0x83, 0xe4, 0xe0, 0xc9, 0xc3},
     {FROM_FP + 8, FROM_FP + 8, 0}},
    {"kept in rbx",
     17, /* mov rbx,rsp; sub rsp,64; and rsp,-64; nop; mov rsp,rbx; pop rbx; ret */
     {0x48, 0x89, 0xe3, 0x48, 0x83, 0xec, 64, 0x48, 0x83, 0xe4, 0xc0, 0x90, 0x48, 0x89, 0xdc, 0x5b,
      0xc3},
     {8, FROM_RBX + 8, FROM_RBX + 8, FROM_RBX + 8, FROM_RBX + 8, 8, 0}},
    /* 1: je 3f; nine times jne 2f; nop; 2: and then jmp 1b; 3: pop rax; ... */
    {"left at its top",
     37,
     {0x74, 29,   0x75, 1,    0x90, 0x75, 1,    0x90, 0x75, 1,    0x90, 0x75, 1,
      0x90, 0x75, 1,    0x90, 0x75, 1,    0x90, 0x75, 1,    0x90, 0x75, 1,    0x90,
      0x75, 1,    0x90, 0xeb, 0xe1, 0x58, 0x48, 0x83, 0xc4, 8,    0xc3},
     {16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 8, 0}},
    {"jump", 2, {0xff, 0xe1}, {UNKNOWN}}, /* jmp rcx */
    {"dead", 5, {0x75, 2, 0x0f, 0x0b, 0xc3}, {0, UNKNOWN, 0}}, /* jne 1f; ud2; 1: ret */
    /* another function begins */
    {"next", 6, {0x90, 0xf3, 0x0f, 0x1e, 0xfa, 0xc3}, {UNKNOWN, 0, 0}},
};

static void check(const struct function *function) {
  uintptr_t start = place(function->code, function->size);
  size_t at = 0;
  for (int n = 0; at < function->size; n++) {
    struct epilogue found;
    struct instruction i;
    bool is = epilogue_find(start + at, 200, &(uint32_t){0}, at % 2, &found);
    int64_t slot = is ? found.return_slot + (found.from_fp    ? FROM_FP
                                             : found.from_rbx ? FROM_RBX
                                                              : 0)
                      : UNKNOWN;
    if (slot != function->slots[n]) {
      printf("%s, instruction %d: %ld instead of %ld\n", function->name, n, (long)slot,
             (long)function->slots[n]);
      failures++;
    }
    if (!instruction_decode((const uint8_t *)start + at, function->size - at, &i)) abort();
    at += i.length;
  }
}

static void by_chance(long rounds) {
  static const uint8_t often[] = {0xc3, 0x55, 0x5d, 0xc9, 0x48, 0x83, 0xec, 0xc4, 0x74, 0xeb, 0xe8};
  long found_count = 0;
  for (long round = 0; round < rounds; round++) {
    uint8_t code[CODE_MAX];
    size_t size = 1 + next() % sizeof code;
    for (size_t i = 0; i < size; i++)
      code[i] = next() & 1 ? often[next() % sizeof often] : (uint8_t)next();
    struct epilogue found;
    found_count += epilogue_find(place(code, size), 2000, &(uint32_t){0}, false, &found);
  }
  if (found_count < rounds / 100) printf("only %ld of %ld\n", found_count, rounds), failures++;
}

int main(void) {
  pages = mmap(NULL, 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) return 1;
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) check(&functions[i]);
  struct epilogue found;
  if (epilogue_find(0x1e, 100, &(uint32_t){0}, false, &found) ||
      epilogue_find((uintptr_t)pages + PAGE, 100, &(uint32_t){0}, false, &found) ||
      epilogue_find((uintptr_t)pages + PAGE, 100, &(uint32_t){0}, true, &found))
    printf("found where nothing is\n"), failures++;
  by_chance(100000);
  return failures != 0;
}

/* Code made at run time whose frames neither a frame pointer nor the code itself tells, and its
 * unwind table. */
#ifndef MADE_CODE_H
#define MADE_CODE_H

#include <poll.h>
#include <sys/mman.h>

#include "workload.h"

enum { PAGE = 4096 };

static inline int line_waits(void) {
  struct pollfd input = {.fd = 0, .events = POLLIN};
  return poll(&input, 1, 0) == 1;
}

typedef void made_function(void (*callback)(void));

/* push rbp; push rbx; sub rsp,24; mov ebp,1234567; mov ecx,20000; 1: sub ecx,1; jne 1b; call rdi;
 * add rsp,24; pop rbx; pop rbp; pop rcx; jmp rcx */
static const uint8_t code[] = {0x55, 0x53, 0x48, 0x83, 0xec, 24,   0xbd, 0x87, 0xd6, 0x12, 0x00,
                               0xb9, 0x20, 0x4e, 0x00, 0x00, 0x83, 0xe9, 0x01, 0x75, 0xfb, 0xff,
                               0xd7, 0x48, 0x83, 0xc4, 24,   0x5b, 0x5d, 0x59, 0xff, 0xe1};

enum {
  ADVANCE = 0x40,
  OFFSET = 0x80,
  RESTORE = 0xc0,
  DEF_CFA = 0x0c,
  CFA_OFFSET = 0x0e,
  IN_REGISTER = 0x09,
  RCX = 2,
  RBX = 3,
  RBP = 6,
  RSP = 7,
  RA = 16
};
/* 0x1b: of its pointers, relative to where they are, of four bytes */
static const uint8_t common_entry[] = {1, 'z',  'R',     0,   1, 0x78,        RA,
                                       1, 0x1b, DEF_CFA, RSP, 8, OFFSET | RA, 1};
/* a row a line */
/* clang-format off */
static const uint8_t rows[] = {0, ADVANCE | 1, CFA_OFFSET, 16, OFFSET | RBP, 2,
                               ADVANCE | 1, CFA_OFFSET, 24, OFFSET | RBX, 3,
                               ADVANCE | 4, CFA_OFFSET, 48,
                               ADVANCE | 21, CFA_OFFSET, 24,
                               ADVANCE | 1, CFA_OFFSET, 16, RESTORE | RBX,
                               ADVANCE | 1, CFA_OFFSET, 8, RESTORE | RBP,
                               ADVANCE | 1, CFA_OFFSET, 0, IN_REGISTER, RA, RCX};
/* clang-format on */

static inline uint8_t *put(uint8_t *at, const void *bytes, size_t size) {
  return (uint8_t *)memcpy(at, bytes, size) + size;
}

static inline uint8_t *put_u32(uint8_t *at, uint32_t value) {
  return put(at, &value, sizeof value);
}

/* An .eh_frame of one function; its size. */
static inline size_t make_table(uint8_t *table, const uint8_t *function, uint32_t size) {
  uint8_t *at = put_u32(put_u32(table, 4 + sizeof common_entry), 0);
  at = put(at, common_entry, sizeof common_entry);
  at = put_u32(at, 4 + 4 + 4 + sizeof rows);
  at = put_u32(at, (uint32_t)(at - table));
  at = put_u32(at, (uint32_t)(function - at));
  at = put_u32(at, size);
  return (size_t)(put_u32(put(at, rows, sizeof rows), 0) - table);
}

/* A page of code, and one with its table. */
static inline uint8_t *make(void) {
  uint8_t *memory =
      mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED);
  memcpy(memory, code, sizeof code);
  make_table(memory + PAGE, memory, sizeof code);
  CHECK(mprotect(memory, PAGE, PROT_READ | PROT_EXEC) == 0);
  return memory;
}

static inline void unmake(uint8_t *memory) { CHECK(munmap(memory, 2 * PAGE) == 0); }

#endif

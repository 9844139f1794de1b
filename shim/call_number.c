#include "call_number.h"

#include "instruction.h"

enum {
  RAX = 0,
  RCX = 1,
  AH = 4,
  R11 = REGISTER_R11,
  DIRECT = 3 /* the mode whose rm is a register */
};
enum { FUNCTION_MAX = 64 << 10 }; /* bytes that a handler reads: some 100 us */

/* Of a byte register without REX 4 is ah. */
static bool is_eax(uint8_t number, bool byte) { return number == RAX || (byte && number == AH); }

static bool rm_spares_eax(const struct instruction *i, bool byte) {
  return i->mode != DIRECT || !is_eax(i->rm, byte);
}

/* `op r/m,r`, `op r,r/m` and their like, by the opcode's low bits: 0 and 2 are of bytes, 2 and 3
 * write the register. */
static bool arithmetic_spares_eax(const struct instruction *i) {
  bool byte = !(i->opcode & 1);
  if (i->opcode >> 3 == 7) return true; /* cmp */
  if ((i->opcode & 7) > 3) return false;
  return i->opcode & 2 ? !is_eax(i->reg, byte) : rm_spares_eax(i, byte);
}

static bool one_byte_spares_eax(const struct instruction *i) {
  uint8_t op = i->opcode, kind = i->reg & 7;
  if (op < 0x40) return arithmetic_spares_eax(i);
  if (op >= 0x50 && op <= 0x57) return true; /* push */
  if (op >= 0x58 && op <= 0x5f) return i->reg != RAX;
  if (op >= 0x70 && op <= 0x7f) return true; /* jumps, when they are not taken */
  if (op >= 0xb0 && op <= 0xbf) return !is_eax(i->reg, op < 0xb8);
  switch (op) {
    case 0x68: case 0x6a: case 0x84: case 0x85: case 0xa8: case 0xa9: return true; /* push, test */
    case 0x63: case 0x69: case 0x6b: case 0x8b: case 0x8d: return i->reg != RAX;
    case 0x8a: return !is_eax(i->reg, true);
    case 0x80: case 0x81: case 0x83: return kind == 7 || rm_spares_eax(i, op == 0x80);
    case 0x88: case 0xc0: case 0xd0: case 0xd2: case 0xc6: return rm_spares_eax(i, true);
    case 0x89: case 0xc1: case 0xd1: case 0xd3: case 0xc7: return rm_spares_eax(i, false);
    case 0x90: return i->length == 1; /* nop; with REX it may be xchg */
    case 0xf6: case 0xf7: return kind < 2; /* test */
    case 0xff: return kind == 6 || (kind < 2 && rm_spares_eax(i, false));
    default: return false;
  }
}

static bool two_bytes_spare_eax(const struct instruction *i) {
  uint8_t op = i->opcode;
  if (op >= 0x80 && op <= 0x8f) return true;                   /* jumps, when they are not taken */
  if (op >= 0x40 && op <= 0x4f) return i->reg != RAX;          /* cmov */
  if (op >= 0x90 && op <= 0x9f) return rm_spares_eax(i, true); /* set */
  switch (op) {
    case 0xb6: case 0xb7: case 0xbe:
    case 0xbf: return i->reg != RAX;                          /* movzx, movsx */
    case 0x1e: return i->mode == DIRECT && (i->reg & 7) == 7; /* endbr64; there is a rdsspd %eax */
    case 0x1f: return true;                                   /* nop */
    case 0x10: case 0x11: case 0x12: case 0x13: case 0x14: case 0x16: case 0x17: case 0x28:
    case 0x29: case 0x57: case 0x6c: case 0x6e: case 0x6f: case 0x70: case 0x7f: case 0xd6:
    case 0xef: return true; /* between xmm and memory */
    default: return false;
  }
}

static bool spares_eax(const struct instruction *i) {
  if (i->vector) return false;
  return i->map == MAP_ONE_BYTE ? one_byte_spares_eax(i)
                                : i->map == MAP_0F && two_bytes_spare_eax(i);
}

/* Whether the instruction decides what the whole of eax is, in a way that can be told. */
static bool sets_number(const struct instruction *i, struct call_number *out) {
  if (i->vector || i->map != MAP_ONE_BYTE || i->half) return false;
  bool direct = i->has_modrm && i->mode == DIRECT;
  *out = (struct call_number){.value = (uint32_t)i->immediate};
  if (i->opcode == 0xb8) return i->reg == RAX && !i->wide;
  if (i->opcode == 0xc7) return direct && (i->reg & 7) == 0 && i->rm == RAX;
  out->value = 0;
  if (i->opcode == 0x31 || i->opcode == 0x33) return direct && i->reg == RAX && i->rm == RAX;
  out->in_register = true;
  out->value = i->opcode == 0x89 ? i->reg : i->rm;
  if (out->value == RAX || out->value == RCX || out->value == R11)
    return false; /* a system call writes these */
  return direct && ((i->opcode == 0x89 && i->rm == RAX) || (i->opcode == 0x8b && i->reg == RAX));
}

static bool jumps(const struct instruction *i) {
  if (i->vector) return false;
  if (i->map == MAP_0F) return i->opcode >= 0x80 && i->opcode <= 0x8f;
  if (i->map != MAP_ONE_BYTE) return false;
  return (i->opcode >= 0x70 && i->opcode <= 0x7f) || (i->opcode >= 0xe0 && i->opcode <= 0xe3) ||
         i->opcode == 0xe8 || i->opcode == 0xe9 || i->opcode == 0xeb;
}

/* What eax is at `at`, and where the instruction that says so begins. */
static bool find_write(const uint8_t *function, size_t at, struct call_number *out, size_t *from) {
  bool known = false;
  struct instruction i;
  struct call_number number;
  size_t offset = 0;
  for (; offset < at; offset += i.length) {
    if (!instruction_decode(function + offset, at - offset, &i)) return false;
    if (sets_number(&i, &number)) {
      known = !number.in_register ||
              offset + i.length == at; /* else the register may have been written since */
      *out = number;
      *from = offset;
    } else if (!spares_eax(&i)) {
      known = false;
    }
  }
  return known && offset == at;
}

bool call_number_find(const uint8_t *function, size_t size, size_t at, struct call_number *out) {
  struct instruction i;
  size_t from;
  if (size > FUNCTION_MAX || at >= size || size - at < 2 || function[at] != 0x0f ||
      function[at + 1] != 0x05)
    return false;
  if (!find_write(function, at, out, &from)) return false;
  for (size_t offset = 0; offset < size; offset += i.length) {
    if (!instruction_decode(function + offset, size - offset, &i)) return false;
    size_t target = offset + i.length + (size_t)(intptr_t)i.immediate;
    if (jumps(&i) && target > from && target <= at) return false;
  }
  return true;
}

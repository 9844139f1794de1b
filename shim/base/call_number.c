#include "call_number.h"

#include "instruction.h"

enum {
  RAX = 0,
  RCX = 1,
  RSP = REGISTER_RSP,
  RBP = REGISTER_RBP,
  R11 = REGISTER_R11,
  HIGH_BYTES = 4, /* of a byte register without REX: 4 is ah, 7 is bh */
  DIRECT = 3 /* the mode whose rm is a register */
};
enum { FUNCTION_MAX = 64 << 10 }; /* bytes that a handler reads: some 100 us */

/* ---- what leaves a register alone ---- */

static bool is_of(uint8_t number, bool byte, uint32_t target) {
  return number == target || (byte && target < HIGH_BYTES && number == target + HIGH_BYTES);
}

static bool rm_spares(const struct instruction *i, bool byte, uint32_t target) {
  return i->mode != DIRECT || !is_of(i->rm, byte, target);
}

/* `op r/m,r`, `op r,r/m` and their like, by the opcode's low bits: 0 and 2 are of bytes, 2 and 3
 * write the register. */
static bool arithmetic_spares(const struct instruction *i, uint32_t target) {
  bool byte = !(i->opcode & 1);
  if (i->opcode >> 3 == 7) return true; /* cmp */
  if ((i->opcode & 7) > 3) return target != RAX;
  return i->opcode & 2 ? !is_of(i->reg, byte, target) : rm_spares(i, byte, target);
}

static bool one_byte_spares(const struct instruction *i, uint32_t target) {
  uint8_t op = i->opcode, kind = i->reg & 7;
  if (op < 0x40) return arithmetic_spares(i, target);
  if (op >= 0x50 && op <= 0x57) return target != RSP; /* push */
  if (op >= 0x58 && op <= 0x5f) return i->reg != target;
  if (op >= 0x70 && op <= 0x7f) return true; /* jumps, when they are not taken */
  if (op >= 0xb0 && op <= 0xbf) return !is_of(i->reg, op < 0xb8, target);
  switch (op) {
    case 0x68:
    case 0x6a: return target != RSP; /* push */
    case 0x84:
    case 0x85:
    case 0xa8:
    case 0xa9: return true; /* test */
    case 0x63:
    case 0x69:
    case 0x6b:
    case 0x8b:
    case 0x8d: return i->reg != target;
    case 0x8a: return !is_of(i->reg, true, target);
    case 0x80:
    case 0x81:
    case 0x83: return kind == 7 || rm_spares(i, op == 0x80, target);
    case 0x88:
    case 0xc0:
    case 0xd0:
    case 0xd2:
    case 0xc6: return rm_spares(i, true, target);
    case 0x89:
    case 0xc1:
    case 0xd1:
    case 0xd3:
    case 0xc7: return rm_spares(i, false, target);
    case 0x90: return i->length == 1; /* nop; with REX it may be xchg */
    case 0xf6:
    case 0xf7: return kind < 2; /* test */
    case 0xff: return (kind == 6 && target != RSP) || (kind < 2 && rm_spares(i, false, target));
    default: return false;
  }
}

static bool two_bytes_spare(const struct instruction *i, uint32_t target) {
  uint8_t op = i->opcode;
  if (op >= 0x80 && op <= 0x8f) return true; /* jumps, when not taken */
  if (op >= 0x40 && op <= 0x4f) return i->reg != target; /* cmov */
  if (op >= 0x90 && op <= 0x9f) return rm_spares(i, true, target); /* set */
  switch (op) {
    case 0xb6:
    case 0xb7:
    case 0xbe:
    case 0xbf: return i->reg != target; /* movzx, movsx */
    case 0x1e: return i->mode == DIRECT && (i->reg & 7) == 7; /* endbr64; there is a rdsspd %eax */
    case 0x1f: return true; /* nop */
    case 0x10:
    case 0x11:
    case 0x12:
    case 0x13:
    case 0x14:
    case 0x16:
    case 0x17:
    case 0x28:
    case 0x29:
    case 0x57:
    case 0x6c:
    case 0x6e:
    case 0x6f:
    case 0x70:
    case 0x7f:
    case 0xd6:
    case 0xef: return true; /* between xmm and memory */
    default: return false;
  }
}

static bool spares(const struct instruction *i, uint32_t target) {
  if (i->vector) return false;
  return i->map == MAP_ONE_BYTE ? one_byte_spares(i, target)
                                : i->map == MAP_0F && two_bytes_spare(i, target);
}

/* Of an instruction that `spares` knows: whether it writes no memory but for a push. */
static bool spares_memory(const struct instruction *i) {
  uint8_t op = i->opcode;
  if (!i->has_modrm || i->mode == DIRECT) return true;
  if (i->map != MAP_ONE_BYTE)
    return (op >= 0x40 && op <= 0x4f) || (op >= 0xb6 && op <= 0xbf) || op == 0x1f || op == 0x10 ||
           op == 0x28 || op == 0x6e || op == 0x6f;
  if (op < 0x40) return op >> 3 == 7 || op & 2;
  switch (op) {
    case 0x63:
    case 0x69:
    case 0x6b:
    case 0x84:
    case 0x85:
    case 0x8a:
    case 0x8b:
    case 0x8d:
    case 0xf6:
    case 0xf7: return true;
    case 0x80:
    case 0x81:
    case 0x83: return (i->reg & 7) == 7; /* cmp */
    case 0xff: return (i->reg & 7) == 6; /* push */
    default: return false;
  }
}

static bool is_frame_memory(const struct instruction *i) {
  return i->has_modrm && i->based && (i->rm == RSP || i->rm == RBP);
}

/* Whether the instruction decides what the whole of the register is (as a 32-bit one), in a way
 * that can be told. */
static bool sets(const struct instruction *i, uint32_t target, struct call_number *out) {
  if (i->vector || i->map != MAP_ONE_BYTE || i->half) return false;
  bool direct = i->has_modrm && i->mode == DIRECT;
  *out = (struct call_number){.place = NUMBER_CONSTANT, .value = (uint32_t)i->immediate};
  if (i->opcode >= 0xb8 && i->opcode <= 0xbf) return i->reg == target && !i->wide;
  if (i->opcode == 0xc7) return direct && (i->reg & 7) == 0 && i->rm == target;
  out->value = 0;
  if (i->opcode == 0x31 || i->opcode == 0x33) return direct && i->reg == target && i->rm == target;
  if (i->opcode == 0x8b && i->reg == target && is_frame_memory(i)) {
    *out = (struct call_number){NUMBER_IN_MEMORY, i->rm, i->displacement};
    return true;
  }
  bool stores = i->opcode == 0x89 && i->rm == target, loads = i->opcode == 0x8b && i->reg == target;
  *out = (struct call_number){.place = NUMBER_IN_REGISTER, .value = stores ? i->reg : i->rm};
  if (out->value == RAX || out->value == RCX || out->value == R11)
    return false; /* a system call writes these */
  return direct && (stores || loads);
}

/* ---- the way there ---- */

struct range {
  size_t from, end;
};

/* What the register is at `at`, and the instruction that says so. */
static bool find_write(const uint8_t *function, size_t at, uint32_t target, struct call_number *out,
                       struct range *write) {
  bool known = false;
  struct instruction i;
  struct call_number number;
  size_t offset = 0;
  for (; offset < at; offset += i.length) {
    if (!instruction_decode(function + offset, at - offset, &i)) return false;
    if (sets(&i, target, &number)) {
      known = true;
      *out = number;
      *write = (struct range){offset, offset + i.length};
    } else if (!spares(&i, target) ||
               (known && out->place == NUMBER_IN_MEMORY && !spares_memory(&i))) {
      known = false;
    }
  }
  return known && offset == at;
}

/* Whether what out->value is at `from` it was at the function's entry; and NUMBER_AT_ENTRY's other
 * conditions. */
static bool is_of_entry(const uint8_t *function, size_t from, size_t at, struct call_number *out) {
  enum { WORD = 8 };
  struct instruction i;
  out->place = NUMBER_AT_ENTRY;
  out->displacement = WORD;
  for (size_t offset = 0; offset < at; offset += i.length) {
    if (!instruction_decode(function + offset, at - offset, &i)) return false;
    if (offset < from && !spares(&i, out->value)) return false;
    if (!spares(&i, RSP) || !spares(&i, RBP)) return false;
    if (spares_memory(&i)) continue;
    bool stores = i.map == MAP_ONE_BYTE && i.opcode == 0x89 && i.based && i.rm == RSP;
    if (!stores || i.displacement < WORD || i.displacement > INT32_MAX - WORD) return false;
    if (out->displacement < i.displacement + WORD) out->displacement = i.displacement + WORD;
  }
  return true;
}

static bool jumps(const struct instruction *i) {
  if (i->vector) return false;
  if (i->map == MAP_0F) return i->opcode >= 0x80 && i->opcode <= 0x8f;
  if (i->map != MAP_ONE_BYTE) return false;
  return (i->opcode >= 0x70 && i->opcode <= 0x7f) || (i->opcode >= 0xe0 && i->opcode <= 0xe3) ||
         i->opcode == 0xe8 || i->opcode == 0xe9 || i->opcode == 0xeb;
}

/* Whether something in the function jumps to [first, last], or it is not understood. */
static bool is_jumped_to(const uint8_t *function, size_t size, size_t first, size_t last) {
  struct instruction i;
  for (size_t offset = 0; offset < size; offset += i.length) {
    if (!instruction_decode(function + offset, size - offset, &i)) return true;
    size_t target = offset + i.length + (size_t)(intptr_t)i.immediate;
    if (jumps(&i) && target >= first && target <= last) return true;
  }
  return false;
}

bool call_number_find(const uint8_t *function, size_t size, size_t at, struct call_number *out) {
  struct range write;
  if (size > FUNCTION_MAX || at >= size || size - at < 2 || function[at] != 0x0f ||
      function[at + 1] != 0x05)
    return false;
  if (!find_write(function, at, RAX, out, &write)) return false;
  size_t first = write.from + 1;
  if (out->place != NUMBER_CONSTANT && write.end != at) { /* its source may be written since */
    if (out->place == NUMBER_IN_MEMORY || !is_of_entry(function, write.from, at, out)) return false;
    first = 0;
  }
  return !is_jumped_to(function, size, first, at);
}

bool call_argument_find(const uint8_t *function, size_t size, size_t at, size_t target,
                        uint32_t in_register, struct call_number *out, size_t *from) {
  enum { CALL = 0xe8 };
  struct instruction i;
  struct range write;
  if (size > FUNCTION_MAX || at >= size || !instruction_decode(function + at, size - at, &i) ||
      i.map != MAP_ONE_BYTE || i.opcode != CALL || i.half ||
      at + i.length + (size_t)(intptr_t)i.immediate != target)
    return false;
  if (!find_write(function, at, in_register, out, &write) || out->place == NUMBER_IN_REGISTER)
    return false;
  *from = write.from;
  return !is_jumped_to(function, size, write.from + 1, at);
}

#include "instruction.h"

#include <string.h>

struct cursor {
  const uint8_t *at, *end;
  bool bad;
};

static uint8_t take_byte(struct cursor *cursor) {
  if (cursor->at >= cursor->end) {
    cursor->bad = true;
    return 0;
  }
  return *cursor->at++;
}

static int32_t take_signed(struct cursor *cursor, int size) {
  int32_t value = 0;
  if (cursor->end - cursor->at < size) {
    cursor->bad = true;
    return 0;
  }
  if (size == 1) value = (int8_t)*cursor->at;
  else if (size == 2) value = (int16_t)(cursor->at[0] | cursor->at[1] << 8);
  else if (size >= 4) memcpy(&value, cursor->at, sizeof value);
  cursor->at += size;
  return value;
}

/* ---- what follows an opcode ---- */

enum operands {
  NONE = 0,
  MODRM = 1,
  BYTE = 2,
  WORD = 4,
  LONG = 8 /* 4 bytes, or 2 after 66 */,
  JUMP = 16 /* 4 bytes */,
  OFFSET = 32 /* 8 bytes */,
  INVALID = 64
};

static int one_byte_operands(uint8_t op) {
  if (op < 0x40) {
    static const uint8_t arithmetic[8] = {MODRM, MODRM, MODRM, MODRM, BYTE, LONG, INVALID, INVALID};
    return arithmetic[op & 7];
  }
  switch (op >> 4) {
    case 0x5:
    case 0x9: return op == 0x9a ? INVALID : NONE;
    case 0x7: return BYTE;
    case 0xb: return op < 0xb8 ? BYTE : LONG;
    default: break;
  }
  switch (op) {
    case 0x63: return MODRM;
    case 0x68: return LONG;
    case 0x69: return MODRM | LONG;
    case 0x6a: return BYTE;
    case 0x6b: return MODRM | BYTE;
    case 0x6c:
    case 0x6d:
    case 0x6e:
    case 0x6f: return NONE;
    case 0x80:
    case 0x83:
    case 0xc0:
    case 0xc1:
    case 0xc6: return MODRM | BYTE;
    case 0x81:
    case 0xc7: return MODRM | LONG;
    case 0x82: return INVALID;
    case 0xa0:
    case 0xa1:
    case 0xa2:
    case 0xa3: return OFFSET;
    case 0xa8: return BYTE;
    case 0xa9: return LONG;
    case 0xc2:
    case 0xca: return WORD;
    case 0xc8: return WORD | BYTE;
    case 0xcd: return BYTE;
    case 0xce:
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xea: return INVALID;
    case 0xe8:
    case 0xe9: return JUMP;
    default: break;
  }
  if (op >= 0x84 && op <= 0x8f) return MODRM;
  if ((op >= 0xd0 && op <= 0xd3) || (op >= 0xd8 && op <= 0xdf) || op == 0xf6 || op == 0xf7 ||
      op >= 0xfe)
    return MODRM;
  if (op >= 0xe0 && op <= 0xe7) return BYTE;
  if (op == 0xeb) return BYTE;
  return op == 0x60 || op == 0x61 ? INVALID : NONE;
}

static int operands_after_0f(uint8_t op) {
  if (op >= 0x80 && op <= 0x8f) return JUMP;
  if ((op >= 0x70 && op <= 0x73) || op == 0xa4 || op == 0xac || op == 0xba || op == 0xc2 ||
      (op >= 0xc4 && op <= 0xc6))
    return MODRM | BYTE;
  if ((op >= 0x04 && op <= 0x0c) || (op >= 0x30 && op <= 0x37) || op == 0x77 ||
      (op >= 0xa0 && op <= 0xa2) || (op >= 0xa8 && op <= 0xaa) || (op >= 0xc8 && op <= 0xcf))
    return NONE;
  return MODRM;
}

static int operands_of(const struct instruction *i) {
  switch (i->map) {
    case MAP_ONE_BYTE: return one_byte_operands(i->opcode);
    case MAP_0F: return operands_after_0f(i->opcode);
    case MAP_0F3A: return MODRM | BYTE;
    default: return MODRM;
  }
}

/* ---- prefixes and opcode ---- */

struct prefixes {
  uint8_t rex; /* W 8, R 4, X 2, B 1 */
  bool half, short_address, segment;
};

/* The prefixes that hold an opcode map and the bits of REX in a form of their own. */
static bool take_vector_opcode(struct cursor *cursor, uint8_t first, struct prefixes *prefixes,
                               struct instruction *out) {
  uint8_t bits = take_byte(cursor);
  prefixes->rex = (uint8_t)(~bits >> 5 & (first == 0xc5 ? 4 : 7));
  out->map = first == 0xc5 ? MAP_0F : bits & (first == 0xc4 ? 0x1f : 7);
  if (first == 0xc4) take_byte(cursor);
  if (first == 0x62) {
    take_byte(cursor);
    take_byte(cursor);
  }
  out->vector = true;
  out->opcode = take_byte(cursor);
  return out->map >= MAP_0F && out->map <= MAP_0F3A;
}

static bool take_opcode(struct cursor *cursor, struct prefixes *prefixes, struct instruction *out) {
  uint8_t byte;
  for (;;) {
    byte = take_byte(cursor);
    if (byte == 0x66) prefixes->half = true;
    else if (byte == 0x67) prefixes->short_address = true;
    else if (byte == 0x64 || byte == 0x65) prefixes->segment = true; /* fs, gs; others are flat */
    else if (byte != 0xf0 && byte != 0xf2 && byte != 0xf3 && byte != 0x2e && byte != 0x36 &&
             byte != 0x3e && byte != 0x26)
      break;
  }
  if (byte == 0xc4 || byte == 0xc5 || byte == 0x62)
    return take_vector_opcode(cursor, byte, prefixes, out);
  if ((byte & 0xf0) == 0x40) {
    prefixes->rex = byte & 15;
    byte = take_byte(cursor);
  }
  out->wide = prefixes->rex & 8;
  if (byte == 0x0f) {
    byte = take_byte(cursor);
    out->map = byte == 0x38 ? MAP_0F38 : byte == 0x3a ? MAP_0F3A : MAP_0F;
    if (out->map != MAP_0F) byte = take_byte(cursor);
  }
  out->opcode = byte;
  return true;
}

static void take_modrm(struct cursor *cursor, const struct prefixes *prefixes,
                       struct instruction *out) {
  enum { NO_INDEX = 4 };
  uint8_t byte = take_byte(cursor), base = byte & 7, rex = prefixes->rex, index = NO_INDEX;
  out->has_modrm = true;
  out->mode = byte >> 6;
  out->reg = (uint8_t)((byte >> 3 & 7) | (rex & 4) << 1);
  out->rm = (uint8_t)(base | (rex & 1) << 3);
  if (out->mode == 3) return;
  if (base == 4) {
    out->has_sib = true;
    out->sib = take_byte(cursor);
    base = out->sib & 7;
    index = (uint8_t)((out->sib >> 3 & 7) | (rex & 2) << 2);
    if (out->mode == 0 && base == 5) out->displacement = take_signed(cursor, 4);
  } else if (out->mode == 0 && base == 5) {
    out->displacement = take_signed(cursor, 4);
  }
  if (out->mode == 1) out->displacement = take_signed(cursor, 1);
  if (out->mode == 2) out->displacement = take_signed(cursor, 4);
  bool has_base = base == (out->rm & 7) && (out->mode != 0 || base != 5);
  out->based = has_base && index == NO_INDEX && !prefixes->segment && !prefixes->short_address;
}

bool instruction_decode(const uint8_t *bytes, size_t size, struct instruction *out) {
  enum { LONGEST = 15 };
  struct cursor cursor = {bytes, bytes + (size < LONGEST ? size : LONGEST), false};
  struct prefixes prefixes = {0};
  *out = (struct instruction){0};
  if (!take_opcode(&cursor, &prefixes, out)) return false;
  int operands = operands_of(out);
  if (operands & INVALID) return false;
  if (operands & MODRM) take_modrm(&cursor, &prefixes, out);
  bool one_byte = out->map == MAP_ONE_BYTE;
  if (one_byte && (out->opcode & 0xfe) == 0xf6 && (out->reg & 7) < 2)
    operands |= out->opcode == 0xf6 ? BYTE : LONG; /* test */
  if (operands & OFFSET) take_signed(&cursor, prefixes.short_address ? 4 : 8);
  if (operands & WORD) out->immediate = take_signed(&cursor, 2);
  if (operands & BYTE) out->immediate = take_signed(&cursor, 1);
  if (operands & JUMP) out->immediate = take_signed(&cursor, 4);
  if (operands & LONG) {
    bool eight = one_byte && out->wide && out->opcode >= 0xb8 && out->opcode <= 0xbf;
    out->immediate = take_signed(&cursor, eight ? 8 : prefixes.half && !out->wide ? 2 : 4);
  }
  bool names_register = out->opcode >> 4 == 0x5 || out->opcode >> 4 == 0xb; /* push, pop, mov */
  if (one_byte && names_register) out->reg = (uint8_t)((out->opcode & 7) | (prefixes.rex & 1) << 3);
  out->half = prefixes.half;
  out->length = (uint8_t)(cursor.at - bytes);
  return !cursor.bad;
}

/* ---- calls ---- */

bool direct_call_ends_at(const uint8_t *end) { return end[-DIRECT_CALL] == 0xe8; }

bool indirect_call_ends_at(const uint8_t *end) {
  for (int length = 2; length <= LONGEST_CALL; length++) {
    if (end[-length] != 0xff) continue;
    uint8_t modrm = end[1 - length], mode = modrm >> 6, base = modrm & 7;
    if ((modrm & 0x38) != 0x10) continue;
    int expected = 2;
    if (mode != 3 && base == 4) expected++; /* SIB */
    if (mode == 1) expected += 1;
    if (mode == 2 || (mode == 0 && base == 5)) expected += 4;
    if (mode == 0 && base == 4 && length >= 3 && (end[2 - length] & 7) == 5) expected += 4;
    if (expected == length) return true;
  }
  return false;
}

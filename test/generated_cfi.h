/* Unwind sections for unit_cfi_fuzz.c: an .eh_frame_hdr with one entry, a CIE and an FDE, of the
 * form that the standard wants, and contents by chance. */
#ifndef TEST_GENERATED_CFI_H
#define TEST_GENERATED_CFI_H

#include <stddef.h>
#include <stdint.h>

enum { GENERATED_BYTES = 2048 };

struct generated_cfi {
  size_t size;
  size_t code, code_size; /* of what the FDE is for, as a distance from bytes: nothing is there */
  uint8_t bytes[GENERATED_BYTES];
};

/* Defined by the test. */
uint64_t generated_random(void);

/* ---- bytes ---- */

static inline uint64_t generated_below(uint64_t limit) { return generated_random() % limit; }

static inline void put_u8(struct generated_cfi *to, uint64_t byte) {
  to->bytes[to->size++] = (uint8_t)byte;
}

static inline void put_u32(struct generated_cfi *to, uint64_t value) {
  for (int i = 0; i < 4; i++) put_u8(to, value >> (8 * i));
}

static inline void set_u32(struct generated_cfi *to, size_t at, uint64_t value) {
  for (int i = 0; i < 4; i++) to->bytes[at + (size_t)i] = (uint8_t)(value >> (8 * i));
}

static inline void put_uleb(struct generated_cfi *to, uint64_t value) {
  for (; value > 127; value >>= 7) put_u8(to, 128 | (value & 127));
  put_u8(to, value);
}

static inline void put_number(struct generated_cfi *to) {
  switch (generated_below(7)) {
    case 0: put_uleb(to, generated_below(64)); break;
    case 1:
    case 2: put_uleb(to, 8 * generated_below(20)); break;
    case 3: put_uleb(to, generated_random()); break;
    case 4: put_uleb(to, 0); break;
    case 5: /* padded, or longer than any number is */
      for (uint64_t i = generated_below(20); i > 0; i--) put_u8(to, 0x80);
      put_u8(to, generated_below(128));
      break;
    default: put_uleb(to, generated_below(5000));
  }
}

static inline void put_register(struct generated_cfi *to) {
  static const uint8_t often[] = {6, 7, 16, 6, 7, 16, 3, 10, 12, 0};
  if (generated_below(9) == 0) put_number(to);
  else put_u8(to, often[generated_below(sizeof often)]);
}

/* ---- a program ---- */

static inline void put_operation(struct generated_cfi *to) {
  switch (generated_below(9)) {
    case 0:
    case 1: /* breg */
      put_u8(to, 0x70 + (generated_below(3) ? 6 + generated_below(2) : generated_below(32)));
      put_number(to);
      break;
    case 2: put_u8(to, 0x30 + generated_below(32)); break; /* lit */
    case 3: put_u8(to, 0x06); break; /* deref */
    case 4:
      put_u8(to, 0x23);
      put_number(to);
      break; /* plus_uconst */
    case 5: put_u8(to, 0x12 + generated_below(2)); break; /* dup, drop */
    case 6: put_u8(to, 0x22); break; /* plus */
    case 7: put_u8(to, 0x1a + generated_below(20)); break; /* arithmetic, comparisons */
    default: put_u8(to, generated_random());
  }
}

static inline void put_expression(struct generated_cfi *to) {
  struct generated_cfi block = {.size = 0};
  for (uint64_t left = generated_below(9); left > 0; left--) put_operation(&block);
  uint64_t said = block.size;
  if (generated_below(12) == 0) said = generated_below(80);
  if (generated_below(36) == 0) said = generated_random();
  put_uleb(to, said);
  for (size_t i = 0; i < block.size; i++) put_u8(to, block.bytes[i]);
}

/* Each instruction by its operands: r register, n number, e expression, 1 2 4 bytes. */
static const struct {
  uint8_t op;
  const char *operands;
} generated_instructions[] = {{0x00, ""},   {0x02, "1"},  {0x03, "2"},  {0x04, "4"},  {0x05, "rn"},
                              {0x06, "r"},  {0x07, "r"},  {0x08, "r"},  {0x09, "rr"}, {0x0a, ""},
                              {0x0b, ""},   {0x0c, "rn"}, {0x0c, "rn"}, {0x0d, "r"},  {0x0d, "r"},
                              {0x0e, "n"},  {0x0e, "n"},  {0x0f, "e"},  {0x0f, "e"},  {0x10, "re"},
                              {0x11, "rn"}, {0x12, "rn"}, {0x13, "n"},  {0x14, "rn"}, {0x15, "rn"},
                              {0x16, "re"}, {0x2e, "n"},  {0x2f, "rn"}, {0x01, "4"}};

static inline void put_instruction(struct generated_cfi *to) {
  uint64_t kinds = sizeof generated_instructions / sizeof *generated_instructions;
  uint64_t kind = generated_below(kinds + 5);
  if (kind >= kinds) { /* those with an operand in the opcode, and what does not exist */
    static const uint8_t high[] = {0x40, 0x40, 0x80, 0xc0};
    if (kind - kinds == sizeof high) {
      if (generated_below(8) == 0) put_u8(to, generated_random());
      return;
    }
    put_u8(to, high[kind - kinds] | generated_below(kind - kinds < 2 ? 4 : 20));
    if (high[kind - kinds] == 0x80) put_number(to);
    return;
  }
  put_u8(to, generated_instructions[kind].op);
  for (const char *c = generated_instructions[kind].operands; *c; c++) {
    if (*c == 'r') put_register(to);
    if (*c == 'n') put_number(to);
    if (*c == 'e') put_expression(to);
    for (char bytes = *c; bytes >= '1' && bytes <= '4'; bytes--)
      put_u8(to, bytes == *c ? generated_below(16) : 0); /* little endian: small distances */
  }
}

static inline void put_program(struct generated_cfi *to, uint64_t instructions) {
  while (instructions-- > 0) put_instruction(to);
}

/* ---- entries ---- */

static inline void end_entry(struct generated_cfi *to, size_t start) {
  while (to->size & 3) put_u8(to, 0);
  uint64_t length = to->size - start - 4;
  if (generated_below(40) == 0) length = generated_below(3) ? generated_random() : 0xffffffff;
  set_u32(to, start, length);
}

static inline void put_augmentation_data(struct generated_cfi *to, const char *letters) {
  size_t length = to->size;
  put_u8(to, 0);
  for (const char *c = letters; *c; c++) {
    if (*c == 'R') put_u8(to, generated_below(12) ? 0x1b : generated_random());
    if (*c == 'L') put_u8(to, 0x1b);
    if (*c == 'P') put_u8(to, generated_below(5) ? 0x1b : generated_random());
    if (*c == 'P') put_u32(to, generated_random());
  }
  to->bytes[length] = (uint8_t)(generated_below(30) ? to->size - length - 1 : generated_random());
}

static inline const char *put_cie(struct generated_cfi *to) {
  static const char *const augmentations[] = {
      "zR", "zR", "zR", "zRS", "", "zPLR", "zRB", "zRG", "eh", "zX", "zRRRRRRRRRRRRRRRRRRR"};
  static const uint8_t versions[] = {1, 1, 1, 1, 3, 4, 2};
  size_t start = to->size;
  uint64_t kinds = sizeof augmentations / sizeof *augmentations;
  const char *letters = augmentations[generated_below(kinds)];
  uint8_t version = versions[generated_below(sizeof versions)];
  put_u32(to, 0);
  put_u32(to, generated_below(60) ? 0 : generated_random());
  put_u8(to, generated_below(40) ? version : generated_random());
  for (const char *c = letters; *c; c++) put_u8(to, (uint8_t)*c);
  put_u8(to, generated_below(60) ? 0 : 'z');
  if (version == 4) put_u8(to, 8), put_u8(to, generated_below(20) == 0);
  if (generated_below(8)) put_u8(to, 1);
  else put_number(to);
  if (generated_below(8)) put_u8(to, 0x78); /* -8 */
  else put_number(to);
  put_u8(to, generated_below(60) ? 16 : generated_random());
  if (letters[0] == 'z') put_augmentation_data(to, letters + 1);
  if (generated_below(4)) { /* as compilers begin: CFA is rsp + 8, the return address below it */
    static const uint8_t usual[] = {0x0c, 7, 8, 0x90, 1};
    for (size_t i = 0; i < sizeof usual; i++) put_u8(to, usual[i]);
  }
  put_program(to, generated_below(3));
  end_entry(to, start);
  return letters;
}

static inline void generated_cfi_make(struct generated_cfi *to) {
  enum { COUNT = 8, TABLE = 12, CODE_SIZE = 256, AFTER = 64 };
  to->size = 0;
  put_u32(to, 0x3b031b01); /* version 1, encodings: pcrel|sdata4, udata4, datarel|sdata4 */
  put_u32(to, 0);
  put_u32(to, 1);
  put_u32(to, 0), put_u32(to, 0); /* the table's one entry */
  if (generated_below(40) == 0) set_u32(to, COUNT, generated_random());
  size_t cie = to->size;
  const char *letters = put_cie(to);
  size_t fde = to->size;
  put_u32(to, 0);
  put_u32(to, generated_below(40) ? to->size - cie : generated_below(2 * to->size));
  size_t pc = to->size;
  put_u32(to, 0);
  put_u32(to, generated_below(20) ? CODE_SIZE : generated_random());
  if (!letters[0]) put_u32(to, 0), put_u32(to, 0); /* absolute addresses, of 8 bytes: garbage */
  if (letters[0] == 'z') put_uleb(to, generated_below(30) ? 0 : generated_random());
  put_program(to, generated_below(14));
  end_entry(to, fde);
  if (generated_below(10) == 0) put_u32(to, 0);
  to->code = to->size + AFTER;
  to->code_size = CODE_SIZE;
  set_u32(to, pc, to->code - pc);
  set_u32(to, TABLE, to->code);
  set_u32(to, TABLE + 4, generated_below(40) ? fde : generated_random());
  if (generated_below(5) == 0) to->bytes[generated_below(to->size)] = (uint8_t)generated_random();
}

#endif

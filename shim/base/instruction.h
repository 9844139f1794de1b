/* Machine instructions of x86-64, as far as finding stack frames and system calls needs them: how
 * long one is, and its parts.
 * Sources: the processor manuals' opcode maps. Context: any; locks: none. */
#ifndef SHIM_INSTRUCTION_H
#define SHIM_INSTRUCTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum instruction_map { MAP_ONE_BYTE, MAP_0F, MAP_0F38, MAP_0F3A };

enum { REGISTER_RSP = 4, REGISTER_RBP = 5, REGISTER_R11 = 11 };

struct instruction {
  uint8_t length;
  uint8_t map, opcode;
  bool wide; /* REX.W */
  bool half; /* prefix 66: 16 bits, where it is not part of the opcode */
  bool vector; /* VEX or EVEX: the opcode means something else than without */
  bool has_modrm, has_sib;
  uint8_t mode, reg, rm, sib; /* with their REX bits; reg also where the opcode says it */
  bool based; /* the memory operand is at rm + displacement: no index, no segment */
  int32_t displacement; /* of a memory operand */
  int32_t immediate; /* the low 32 bits; of a jump: its distance from the next instruction */
};

/* False: not an instruction that programs have, or it does not end before `size`. */
bool instruction_decode(const uint8_t *bytes, size_t size, struct instruction *out);

/* Whether the LONGEST_CALL bytes before `end` end with a call: one by a distance (e8), or through a
 * register or memory (ff /2, in its lengths from 2 to 7). The same bytes may be both, or part of
 * something else. */
enum { LONGEST_CALL = 7, DIRECT_CALL = 5 };
bool direct_call_ends_at(const uint8_t *end);
bool indirect_call_ends_at(const uint8_t *end);

#endif

#include "prologue.h"

#include "shim/base/instruction.h"

/* ---- following the stack pointer ---- */

struct prologue_state {
  int64_t depth; /* bytes below the stack pointer at entry */
  int64_t frame_depth; /* where rbp points, likewise */
  int64_t probe_depth; /* where a loop that touches page after page (-fstack-clash-protection)
                          stops; 0: none */
  bool frame_set, compared, taken; /* taken: room for variables */
  struct prologue *out;
};

static void note_depth(struct prologue_state *state) {
  int64_t below = state->depth - state->frame_depth;
  struct prologue *out = state->out;
  if (state->frame_set && below >= 0 && below <= INT32_MAX && out->count < PROLOGUE_DEPTHS_MAX)
    out->below[out->count++] = (uint32_t)below;
}

/* Room for variables is taken at once, or page by page, with a touch of each. */
static void take_room(struct prologue_state *state, int64_t bytes) {
  enum { PROBE_INTERVAL = 4096 };
  state->depth += bytes;
  if (state->frame_set && !state->taken && state->depth >= state->frame_depth)
    state->out->least = (uint32_t)(state->depth - state->frame_depth);
  if (bytes != PROBE_INTERVAL) state->taken = true;
}

/* rsp + displacement, as the memory operand or the lea of an instruction; false: something else. */
static bool is_from_sp(const struct instruction *i) {
  return i->has_sib && i->mode != 3 && (i->sib & 0x3f) == (REGISTER_RSP << 3 | REGISTER_RSP) &&
         (i->rm & 8) == 0;
}

static bool writes_to_sp(const struct instruction *i) {
  if (!i->has_modrm || i->map != MAP_ONE_BYTE || i->vector) return false;
  switch (i->opcode) {
    case 0x01:
    case 0x09:
    case 0x21:
    case 0x29:
    case 0x31:
    case 0x89:
    case 0x87:
    case 0xc7:
    case 0xd1:
    case 0xd3:
    case 0xc1: return i->mode == 3 && i->rm == REGISTER_RSP;
    case 0x03:
    case 0x0b:
    case 0x23:
    case 0x2b:
    case 0x33:
    case 0x8b:
    case 0x8d:
    case 0x63: return i->reg == REGISTER_RSP;
    default: return false;
  }
}

/* False: the prologue has ended. */
static bool apply(struct prologue_state *state, const struct instruction *i) {
  struct prologue *out = state->out;
  bool compared = state->compared;
  state->compared = false;
  if (i->map != MAP_ONE_BYTE || i->vector)
    return i->map != MAP_0F || (i->opcode & 0xf0) != 0x80; /* no jump */
  if (i->opcode >= 0x50 && i->opcode <= 0x57) {
    state->depth += 8;
    return true;
  }
  if (i->opcode >= 0x58 && i->opcode <= 0x5f) {
    if (i->reg == REGISTER_RBP || i->reg == REGISTER_RSP) return false;
    state->depth -= 8;
    return true;
  }
  if (i->opcode >= 0x70 && i->opcode <= 0x7f && i->opcode != 0x75) return false;
  switch (i->opcode) {
    case 0x68:
    case 0x6a: state->depth += 8; return true;
    case 0xc2:
    case 0xc3:
    case 0xc8:
    case 0xc9:
    case 0xcc:
    case 0xe8:
    case 0xe9:
    case 0xeb: return false; /* elsewhere */
    case 0x75: /* back to the start of a probing loop, which ends where it was told */
      if (!compared || !state->probe_depth || i->immediate >= 0) return false;
      take_room(state, state->probe_depth - state->depth);
      state->probe_depth = 0;
      state->taken = false; /* the rest follows */
      return true;
    case 0xff:
      if ((i->reg & 7) == 6) state->depth += 8; /* push */
      return (i->reg & 7) == 0 || (i->reg & 7) == 1 || (i->reg & 7) == 6;
    case 0x81:
    case 0x83:
      if (i->mode != 3 || i->rm != REGISTER_RSP) return true;
      if ((i->reg & 7) == 5 && i->immediate > 0) take_room(state, i->immediate);
      else if ((i->reg & 7) == 0 && i->immediate < 0)
        take_room(state, -(int64_t)i->immediate); /* add $-128 is shorter than sub $128 */
      else if ((i->reg & 7) == 4) out->rounded = true;
      else return (i->reg & 7) == 7;
      return true;
    case 0x39:
    case 0x3b:
      state->compared = i->mode == 3 && (i->rm == REGISTER_RSP || i->reg == REGISTER_RSP);
      return true;
    case 0x89: /* mov %rsp,%rbp */
    case 0x8b: {
      uint8_t to = i->opcode == 0x89 ? i->rm : i->reg, from = i->opcode == 0x89 ? i->reg : i->rm;
      if (i->mode == 3 && i->wide && to == REGISTER_RBP && from == REGISTER_RSP) {
        state->frame_set = true;
        state->frame_depth = state->depth;
        out->rounded = false;
        return true;
      }
      break;
    }
    case 0x8d:
      if (!is_from_sp(i)) break;
      if (i->reg == REGISTER_RBP) { /* lea N(%rsp),%rbp */
        state->frame_set = true;
        state->frame_depth = state->depth - i->displacement;
        out->rounded = false;
      } else if (i->reg == REGISTER_R11) {
        state->probe_depth = state->depth - i->displacement;
      } else if (i->reg == REGISTER_RSP) {
        if (i->displacement >= 0) return false;
        take_room(state, -(int64_t)i->displacement);
      }
      return true;
    default: break;
  }
  return !writes_to_sp(i);
}

bool prologue_read(struct memory_reader *memory, uintptr_t start, uintptr_t limit,
                   struct prologue *out) {
  enum { PROLOGUE_MAX = 256 };
  uint8_t bytes[PROLOGUE_MAX];
  size_t size = limit - start < PROLOGUE_MAX ? limit - start : PROLOGUE_MAX;
  if (limit <= start || !memory_reader_read(memory, start, bytes, size)) return false;
  *out = (struct prologue){0};
  struct prologue_state state = {.out = out};
  struct instruction instruction;
  for (size_t at = 0; at < size && instruction_decode(bytes + at, size - at, &instruction);
       at += instruction.length) {
    bool was_set = state.frame_set;
    int64_t depth = state.depth;
    if (!apply(&state, &instruction)) break;
    if (state.depth != depth || state.frame_set != was_set) note_depth(&state);
  }
  return state.frame_set;
}

#include "epilogue.h"

#include <stddef.h>
#include <string.h>

#include "shim/base/instruction.h"
#include "readable_pages.h"

enum { RBX = 3, RSP = REGISTER_RSP, RBP = REGISTER_RBP, REGISTER_MODE = 3, WORD = 8, LONGEST = 15 };

/* Where the stack pointer is, as seen from where it was at first: at is from there, or from the
 * address in rbp or rbx; lost: until it is set from one of them. */
struct place {
  uintptr_t pc;
  int64_t at;
  bool from_fp, from_rbx, lost; /* at is from there */
  bool fp_saved; /* rbp has been taken from the stack, at fp_slot */
  int64_t fp_slot;
  bool fp_set; /* rbp has been set from rsp, to rbp_at: on the way, by the prologue */
  int64_t rbp_at;
  bool rbx_set; /* the same of rbx */
  int64_t rbx_at;
};

enum outcome { GO_ON, RETURNS, LEADS_NOWHERE };

static void set_from_rbx(struct place *place) {
  place->lost = place->from_fp = false;
  place->from_rbx = !place->rbx_set;
  place->at = place->rbx_set ? place->rbx_at : 0;
}

static void set_from_fp(struct place *place, int64_t distance) {
  place->lost = place->from_rbx = false;
  if (place->fp_set) {
    place->at = place->rbp_at + distance;
  } else {
    place->from_fp = true;
    place->at = distance;
  }
}

static void take_fp(struct place *place, int64_t slot) {
  place->fp_saved = !place->lost;
  place->fp_slot = slot;
}

static void pop(struct place *place, uint8_t number) {
  if (number == RBP) take_fp(place, place->at);
  if (number == RSP) place->lost = true;
  place->at += WORD;
}

/* add, sub, and, ... of an immediate: which of them is in reg. */
static void change_by_immediate(struct place *place, const struct instruction *i) {
  enum { ADD = 0, SUB = 5, COMPARE = 7 };
  if (i->mode != REGISTER_MODE || i->rm != RSP || (i->reg & 7) == COMPARE) return;
  if ((i->reg & 7) == ADD && i->wide) place->at += i->immediate;
  else if ((i->reg & 7) == SUB && i->wide) place->at -= i->immediate;
  else place->lost = true;
}

/* mov: from a register or memory into `to`. */
static void move(struct place *place, const struct instruction *i, uint8_t to, uint8_t from,
                 bool from_memory) {
  if (to == RSP && from == RBP && !from_memory) set_from_fp(place, 0);
  else if (to == RSP && from == RBX && !from_memory) set_from_rbx(place);
  else if (to == RSP) place->lost = true;
  bool from_sp = !from_memory && from == RSP && !place->lost && !place->from_fp && !place->from_rbx;
  if (to == RBX && from_sp) {
    place->rbx_set = true;
    place->rbx_at = place->at;
  }
  if (to != RBP) return;
  if (from_memory && i->based && i->rm == RSP) {
    take_fp(place, place->at + i->displacement);
  } else if (from_sp) {
    place->fp_set = true;
    place->rbp_at = place->at;
  }
}

static void load_address(struct place *place, const struct instruction *i) {
  if (i->reg != RSP) return;
  if (i->based && i->rm == RSP) place->at += i->displacement;
  else if (i->based && i->rm == RBP) set_from_fp(place, i->displacement);
  else place->lost = true;
}

static enum outcome follow_group_ff(struct place *place, const struct instruction *i) {
  enum { CALL = 2, JUMP = 4, PUSH = 6 };
  if ((i->reg & 7) == PUSH) place->at -= WORD;
  return (i->reg & 7) == JUMP || (i->reg & 7) > PUSH ? LEADS_NOWHERE : GO_ON;
}

/* add, or, ... between registers and memory, xchg: into the stack pointer, by what nobody knows. */
static bool changes_by_register(const struct instruction *i) {
  enum { COMPARE = 7, EXCHANGE = 0x87 };
  uint8_t op = i->opcode;
  bool rm = i->mode == REGISTER_MODE && i->rm == RSP;
  if (op == EXCHANGE) return rm || i->reg == RSP;
  if (op >= 0x40 || (op & 7) > 3 || !(op & 1) || op >> 3 == COMPARE) return false;
  return op & 2 ? i->reg == RSP : rm;
}

/* pc is behind the instruction. */
static enum outcome follow_one_byte(struct place *place, const struct instruction *i) {
  uint8_t op = i->opcode;
  if (op >= 0x50 && op <= 0x57) place->at -= i->half ? 2 : WORD;
  if (op >= 0x58 && op <= 0x5f) pop(place, i->reg);
  if (op == 0x81 || op == 0x83) change_by_immediate(place, i);
  if (changes_by_register(i)) place->lost = true;
  if (op == 0x89 && i->mode == REGISTER_MODE) move(place, i, i->rm, i->reg, false);
  if (op == 0x8b) move(place, i, i->reg, i->rm, i->mode != REGISTER_MODE);
  switch (op) {
    case 0x68:
    case 0x6a:
    case 0x9c: place->at -= WORD; break; /* push, pushf */
    case 0x8f:
    case 0x9d: place->at += WORD; break; /* pop, popf */
    case 0x8d: load_address(place, i); break;
    case 0xc8:
    case 0xcf:
    case 0xcc:
    case 0xf4: return LEADS_NOWHERE; /* enter, iret, int3, hlt */
    case 0xc9: /* leave */
      set_from_fp(place, 0);
      pop(place, RBP);
      break;
    case 0xe9:
    case 0xeb: place->pc += (uintptr_t)(intptr_t)i->immediate; break;
    case 0xc2:
    case 0xc3: return place->lost ? LEADS_NOWHERE : RETURNS;
    case 0xff: return follow_group_ff(place, i);
    default: break;
  }
  return GO_ON;
}

static bool is_conditional(const struct instruction *i) {
  return (i->map == MAP_0F && !i->vector && (i->opcode & 0xf0) == 0x80) ||
         (i->map == MAP_ONE_BYTE && !i->vector && (i->opcode & 0xf0) == 0x70);
}

/* ud2, sysret, endbr64 (another function begins, unless it is the first). */
static bool ends_code(const struct instruction *i, bool first) {
  bool landing = !first && i->opcode == 0x1e && i->mode == REGISTER_MODE && (i->reg & 7) == 7;
  return i->map == MAP_0F && !i->vector && (i->opcode == 0x0b || i->opcode == 0x07 || landing);
}

/* What is known of the code that is read. */
struct code_reader {
  uintptr_t checked; /* the page that was asked for last */
  bool elsewhere; /* it is read through a window, filled by the kernel */
  uintptr_t start; /* of the window */
  size_t size;
  uint8_t window[128];
};

/* The bytes at pc that can be read, up to an instruction's; asks once a page. */
static size_t readable_at(uintptr_t pc, struct code_reader *reader) {
  uintptr_t page = pc / READABLE_PAGE;
  if (page != reader->checked && !readable_pages_cover(pc, 1)) return 0;
  reader->checked = page;
  if ((pc + LONGEST) / READABLE_PAGE == page || readable_pages_cover(pc, LONGEST)) return LONGEST;
  return READABLE_PAGE - pc % READABLE_PAGE;
}

/* Where the bytes at pc can be read. */
static const uint8_t *code_at(uintptr_t pc, struct code_reader *reader, size_t *size) {
  if (!reader->elsewhere) {
    *size = readable_at(pc, reader);
    return (const uint8_t *)pc;
  }
  if (pc - reader->start >= reader->size || reader->size - (pc - reader->start) < LONGEST) {
    reader->start = pc;
    reader->size = readable_pages_copy(pc, reader->window, sizeof reader->window);
  }
  size_t at = pc - reader->start, left = reader->size > at ? reader->size - at : 0;
  *size = left < LONGEST ? left : LONGEST;
  return reader->window + at;
}

/* Takes the instruction at place.pc. */
static enum outcome take_instruction(struct place *place, bool first, struct code_reader *reader,
                                     struct instruction *i) {
  size_t size;
  const uint8_t *code = code_at(place->pc, reader, &size);
  if (size == 0 || !instruction_decode(code, size, i)) return LEADS_NOWHERE;
  if (ends_code(i, first)) return LEADS_NOWHERE;
  place->pc += i->length;
  return i->map == MAP_ONE_BYTE && !i->vector ? follow_one_byte(place, i) : GO_ON;
}

/* Where jumps that were not taken lead, and jumps back, each of which is taken once. */
enum { LOOPS_MAX = 4, OTHERS_MAX = 8 };
struct ways {
  struct place others[OTHERS_MAX];
  uint32_t other_count;
  bool complete; /* no more of them are noted */
  uintptr_t loops[LOOPS_MAX];
  uint32_t loop_count;
};

static void keep_newest(struct ways *ways, uint32_t number) {
  if (ways->other_count <= number) return;
  memmove(ways->others, ways->others + ways->other_count - number, number * sizeof *ways->others);
  ways->other_count = number;
}

/* The last ones are the nearest to the end; in a second turn the first are what leaves the loop. */
static void note_other(struct ways *ways, const struct place *place, int32_t distance) {
  if (ways->complete || (ways->other_count == OTHERS_MAX && ways->loop_count > 0)) return;
  keep_newest(ways, OTHERS_MAX - 1);
  struct place *other = &ways->others[ways->other_count++];
  *other = *place;
  other->pc += (uintptr_t)(intptr_t)distance;
}

/* False: that jump has been taken already, or too many others. */
static bool take_loop(struct ways *ways, uintptr_t jump) {
  for (uint32_t i = 0; i < ways->loop_count; i++)
    if (ways->loops[i] == jump) return false;
  if (ways->loop_count == LOOPS_MAX) return false;
  ways->loops[ways->loop_count++] = jump;
  keep_newest(ways, OTHERS_MAX / 2);
  return true;
}

bool epilogue_find(uintptr_t pc, uint32_t instructions, uint32_t *read, bool elsewhere,
                   struct epilogue *out) {
  struct place place = {.pc = pc};
  struct ways ways;
  ways.other_count = ways.loop_count = 0;
  ways.complete = false;
  struct code_reader reader;
  reader.checked = UINTPTR_MAX; /* no page */
  reader.elsewhere = elsewhere;
  reader.start = reader.size = 0;
  for (uint32_t left = instructions; left > 0 && *read < EPILOGUE_WALK_MAX; left--) {
    ++*read;
    struct instruction i = {0};
    uintptr_t from = place.pc;
    enum outcome outcome = take_instruction(&place, left == instructions, &reader, &i);
    /* The way out of a loop is in its body, perhaps in what has not been passed yet. */
    if (outcome == GO_ON && place.pc < from && !take_loop(&ways, from)) outcome = LEADS_NOWHERE;
    if (outcome == GO_ON && is_conditional(&i) && i.immediate > 0)
      note_other(&ways, &place, i.immediate);
    if (outcome == RETURNS) {
      *out = (struct epilogue){.return_slot = place.at,
                               .fp_slot = place.fp_slot,
                               .from_fp = place.from_fp,
                               .from_rbx = place.from_rbx,
                               .fp_saved = place.fp_saved};
      return true;
    }
    if (outcome == GO_ON) continue;
    if (ways.other_count == 0) return false;
    ways.complete = ways.loop_count > 0;
    place = ways.others[--ways.other_count];
  }
  return false;
}

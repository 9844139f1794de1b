#include "cfi.h"
#include "cfi_cursor.h"

/* Operations never jump: as many are run as the block has bytes, at most. */
enum { STACK_DEPTH = 16 };

struct machine {
  uintptr_t stack[STACK_DEPTH];
  unsigned depth;
};

static bool read_register(const struct cfi_context *context, uint64_t number, uintptr_t *value) {
  switch (number) {
    case CFI_FP: *value = context->fp; return true;
    case CFI_SP: *value = context->sp; return true;
    case CFI_RA: *value = context->pc; return true;
    default: return false;
  }
}

enum pushed { PUSHED, PUSHES_NOTHING, PUSH_FAILS };

/* The value that an operation pushes without taking any. */
static enum pushed pushed_by(uint8_t op, struct cfi_cursor *code, const struct machine *machine,
                             const struct cfi_context *context, uintptr_t *value) {
  if ((op >= 0x70 && op <= 0x8f) || op == 0x92) { /* breg0 .. breg31, bregx */
    uint64_t number = op == 0x92 ? cfi_take_uleb(code) : op - 0x70u;
    if (!read_register(context, number, value)) return PUSH_FAILS;
    *value += (uintptr_t)cfi_take_sleb(code);
    return PUSHED;
  }
  if (op >= 0x30 && op <= 0x4f) { /* lit0 .. lit31 */
    *value = op - 0x30u;
    return PUSHED;
  }
  switch (op) {
    /* addr, const8u, const8s */
    case 0x03:
    case 0x0e:
    case 0x0f: *value = cfi_take_u64(code); break;
    case 0x08: *value = cfi_take_u8(code); break;
    case 0x09: *value = (uintptr_t)(intptr_t)cfi_take_s8(code); break;
    case 0x0a: *value = cfi_take_u16(code); break;
    case 0x0b: *value = (uintptr_t)(intptr_t)cfi_take_s16(code); break;
    case 0x0c: *value = cfi_take_u32(code); break;
    case 0x0d: *value = (uintptr_t)(intptr_t)cfi_take_s32(code); break;
    case 0x10: *value = cfi_take_uleb(code); break;
    case 0x11: *value = (uintptr_t)cfi_take_sleb(code); break;
    case 0x12: /* dup */
      if (machine->depth == 0) return PUSH_FAILS;
      *value = machine->stack[machine->depth - 1];
      break;
    default: return PUSHES_NOTHING;
  }
  return PUSHED;
}

static bool combine(uint8_t op, uintptr_t *left, uintptr_t right) {
  switch (op) {
    case 0x1a: *left &= right; break;
    case 0x1c: *left -= right; break;
    case 0x21: *left |= right; break;
    case 0x22: *left += right; break;
    case 0x24: *left = right < 64 ? *left << right : 0; break;
    case 0x25: *left = right < 64 ? *left >> right : 0; break;
    case 0x27: *left ^= right; break;
    case 0x29: *left = *left == right; break;
    case 0x2a: *left = (intptr_t)*left >= (intptr_t)right; break;
    case 0x2b: *left = (intptr_t)*left > (intptr_t)right; break;
    case 0x2c: *left = (intptr_t)*left <= (intptr_t)right; break;
    case 0x2d: *left = (intptr_t)*left < (intptr_t)right; break;
    case 0x2e: *left = *left != right; break;
    default: return false;
  }
  return true;
}

/* An operation that takes values from the stack. */
static bool take_and_combine(uint8_t op, struct cfi_cursor *code, struct machine *machine,
                             const struct cfi_context *context) {
  if (machine->depth == 0) return false;
  uintptr_t *top = &machine->stack[machine->depth - 1];
  switch (op) {
    case 0x13: machine->depth--; return true; /* drop */
    case 0x06: return context->read(context->reader, *top, top); /* deref */
    case 0x23: *top += cfi_take_uleb(code); return true; /* plus_uconst */
    default: break;
  }
  if (machine->depth < 2) return false;
  machine->depth--;
  return combine(op, top - 1, *top);
}

bool cfi_evaluate(const uint8_t *block, uint32_t size, const struct cfi_context *context,
                  const uintptr_t *cfa, uintptr_t *value) {
  struct cfi_cursor code = {.at = block, .end = block + size, .checked = block + size};
  struct machine machine = {.depth = 0};
  if (cfa) machine.stack[machine.depth++] = *cfa;
  while (cfi_left(&code) > 0) {
    uint8_t op = cfi_take_u8(&code);
    uintptr_t push;
    enum pushed pushed = pushed_by(op, &code, &machine, context, &push);
    if (pushed == PUSH_FAILS || (pushed == PUSHED && machine.depth == STACK_DEPTH)) return false;
    if (pushed == PUSHED) machine.stack[machine.depth++] = push;
    else if (!take_and_combine(op, &code, &machine, context)) return false;
  }
  if (code.bad || machine.depth == 0) return false;
  *value = machine.stack[machine.depth - 1];
  return true;
}

bool cfi_recover(const struct cfi_register_rule *rule, uintptr_t cfa, uintptr_t unchanged,
                 const struct cfi_context *context, uintptr_t *value) {
  switch (rule->place) {
    case CFI_UNCHANGED: *value = unchanged; return true;
    case CFI_AT_CFA: return context->read(context->reader, cfa + (uintptr_t)rule->offset, value);
    case CFI_CFA_PLUS: *value = cfa + (uintptr_t)rule->offset; return true;
    case CFI_EXPRESSION:
      return cfi_evaluate(rule->block, rule->block_size, context, &cfa, value) &&
             context->read(context->reader, *value, value);
    case CFI_VALUE_EXPRESSION:
      return cfi_evaluate(rule->block, rule->block_size, context, &cfa, value);
    default: return false;
  }
}

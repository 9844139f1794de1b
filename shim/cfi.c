#include "cfi.h"

#include <string.h>

#if defined(__x86_64__)
enum { REGISTER_FP = 6, REGISTER_SP = 7, REGISTER_RA = 16 };
#elif defined(__aarch64__)
enum { REGISTER_FP = 29, REGISTER_SP = 31, REGISTER_RA = 30 };
#endif

/* ---- reading ---- */

/* A position in an unwind section; reading past its end makes it bad instead of faulting. */
struct cursor {
  const uint8_t *at, *end;
  bool bad;
};

static bool take(struct cursor *cursor, void *out, size_t size) {
  if (cursor->bad || (size_t)(cursor->end - cursor->at) < size) {
    cursor->bad = true;
    memset(out, 0, size);
    return false;
  }
  memcpy(out, cursor->at, size);
  cursor->at += size;
  return true;
}

#define TAKE(name, type)                        \
  static type name(struct cursor *cursor) {     \
    type value;                                 \
    take(cursor, &value, sizeof value);         \
    return value;                               \
  }
TAKE(take_u8, uint8_t)
TAKE(take_s8, int8_t)
TAKE(take_u16, uint16_t)
TAKE(take_s16, int16_t)
TAKE(take_u32, uint32_t)
TAKE(take_s32, int32_t)
TAKE(take_u64, uint64_t)
#undef TAKE

static uint64_t take_uleb(struct cursor *cursor) {
  uint64_t value = 0;
  for (unsigned shift = 0;; shift += 7) {
    uint8_t byte = take_u8(cursor);
    if (shift < 64) value |= (uint64_t)(byte & 0x7f) << shift;
    if (!(byte & 0x80) || cursor->bad) return value;
  }
}

static int64_t take_sleb(struct cursor *cursor) {
  int64_t value = 0;
  for (unsigned shift = 0;;) {
    uint8_t byte = take_u8(cursor);
    if (shift < 64) value |= (int64_t)((uint64_t)(byte & 0x7f) << shift);
    shift += 7;
    if ((byte & 0x80) && !cursor->bad) continue;
    if ((byte & 0x40) && shift < 64) value |= (int64_t)(~(uint64_t)0 << shift);
    return value;
  }
}

enum { /* pointer encodings, LSB 10.5.1 */
  ENCODING_OMIT = 0xff, ENCODING_FORMAT = 0x0f, ENCODING_RELATIVE = 0x70, ENCODING_INDIRECT = 0x80,
  FORMAT_ABSOLUTE = 0x00, FORMAT_ULEB = 0x01, FORMAT_U16 = 0x02, FORMAT_U32 = 0x03, FORMAT_U64 = 0x04,
  FORMAT_SLEB = 0x09, FORMAT_S16 = 0x0a, FORMAT_S32 = 0x0b, FORMAT_S64 = 0x0c,
  RELATIVE_NONE = 0x00, RELATIVE_PC = 0x10, RELATIVE_DATA = 0x30
};

static uintptr_t take_encoded(struct cursor *cursor, uint8_t encoding, uintptr_t data_base) {
  if (encoding == ENCODING_OMIT) return 0;
  uintptr_t here = (uintptr_t)cursor->at, value = 0;
  switch (encoding & ENCODING_FORMAT) {
    case FORMAT_ABSOLUTE: case FORMAT_U64: case FORMAT_S64: value = take_u64(cursor); break;
    case FORMAT_ULEB: value = take_uleb(cursor); break;
    case FORMAT_SLEB: value = (uintptr_t)take_sleb(cursor); break;
    case FORMAT_U16: value = take_u16(cursor); break;
    case FORMAT_S16: value = (uintptr_t)(intptr_t)take_s16(cursor); break;
    case FORMAT_U32: value = take_u32(cursor); break;
    case FORMAT_S32: value = (uintptr_t)(intptr_t)take_s32(cursor); break;
    default: cursor->bad = true;
  }
  switch (encoding & ENCODING_RELATIVE) {
    case RELATIVE_NONE: break;
    case RELATIVE_PC: value += here; break;
    case RELATIVE_DATA: value += data_base; break;
    default: cursor->bad = true;
  }
  return value; /* ENCODING_INDIRECT is for personality routines, which nobody here follows */
}

/* ---- CIE and FDE ---- */

struct cie {
  struct cursor instructions;
  uint64_t code_align;
  uint64_t data_align; /* a signed factor, multiplied modulo 2^64 */
  uint64_t return_register;
  uint8_t pointer_encoding;
  bool has_augmentation, signal_frame;
};

/* Positions the cursor after a length field and bounds it by that length. */
static struct cursor take_entry(uintptr_t at, uintptr_t map_start, uintptr_t map_end, bool *wide) {
  struct cursor entry = {(const uint8_t *)at, (const uint8_t *)map_end, at < map_start || at >= map_end};
  uint64_t length = take_u32(&entry);
  *wide = length == 0xffffffff;
  if (*wide) length = take_u64(&entry);
  if (entry.bad || length == 0 || length > (uint64_t)(entry.end - entry.at)) entry.bad = true;
  else entry.end = entry.at + length;
  return entry;
}

static bool parse_cie(uintptr_t at, uintptr_t map_start, uintptr_t map_end, struct cie *cie) {
  bool wide;
  struct cursor entry = take_entry(at, map_start, map_end, &wide);
  uint64_t id = wide ? take_u64(&entry) : take_u32(&entry);
  uint8_t version = take_u8(&entry);
  if (entry.bad || id != 0 || (version != 1 && version != 3 && version != 4)) return false;
  const char *augmentation = (const char *)entry.at;
  while (take_u8(&entry) != 0)
    if (entry.bad) return false;
  if (augmentation[0] == 'e' && augmentation[1] == 'h') return false; /* GCC 2 */
  if (version == 4) {
    take_u8(&entry); /* address size */
    take_u8(&entry); /* segment size */
  }
  *cie = (struct cie){.pointer_encoding = FORMAT_ABSOLUTE};
  cie->code_align = take_uleb(&entry);
  cie->data_align = (uint64_t)take_sleb(&entry);
  cie->return_register = version == 1 ? take_u8(&entry) : take_uleb(&entry);
  if (augmentation[0] == 'z') {
    cie->has_augmentation = true;
    uint64_t size = take_uleb(&entry);
    if (entry.bad || size > (uint64_t)(entry.end - entry.at)) return false;
    struct cursor data = {entry.at, entry.at + size, false};
    entry.at += size;
    for (const char *c = augmentation + 1; *c; c++) {
      if (*c == 'R') cie->pointer_encoding = take_u8(&data);
      else if (*c == 'L') take_u8(&data);
      else if (*c == 'S') cie->signal_frame = true;
      else if (*c == 'P') {
        uint8_t encoding = take_u8(&data);
        take_encoded(&data, encoding & ~ENCODING_INDIRECT, 0);
      } else if (*c != 'B' && *c != 'G') return false;
    }
    if (data.bad) return false;
  } else if (augmentation[0]) {
    return false;
  }
  cie->instructions = entry;
  return !entry.bad && cie->return_register == REGISTER_RA;
}

/* ---- the machine ---- */

struct rules {
  enum cfi_base base;
  union {
    int64_t cfa_offset;
    const uint8_t *cfa_block;
  };
  struct cfi_register_rule fp, sp, ra;
};

static struct cfi_register_rule *rule_for(struct rules *rules, uint64_t number) {
  switch (number) {
    case REGISTER_FP: return &rules->fp;
    case REGISTER_SP: return &rules->sp;
    case REGISTER_RA: return &rules->ra;
    default: return NULL;
  }
}

static void set_rule(struct rules *rules, uint64_t number, enum cfi_place place, int64_t offset) {
  struct cfi_register_rule *rule = rule_for(rules, number);
  if (rule) *rule = (struct cfi_register_rule){.place = place, .offset = offset};
}

static void set_base(struct rules *rules, uint64_t number) {
  rules->base = number == REGISTER_SP ? CFI_BASE_SP : number == REGISTER_FP ? CFI_BASE_FP : CFI_BASE_OTHER;
}

/* Steps over a block after checking that it ends within the code. */
static bool take_block(struct cursor *code, const uint8_t **block) {
  *block = code->at;
  uint64_t size = take_uleb(code);
  if (code->bad || size > (uint64_t)(code->end - code->at)) return false;
  code->at += size;
  return true;
}

enum { REMEMBERED_MAX = 6 }; /* on the host's stack; compilers nest one or two */

/* Runs instructions until they would advance past pc. initial: what DW_CFA_restore goes back to, NULL while the CIE's own run. */
static bool run(struct cursor code, const struct cie *cie, uintptr_t location, uintptr_t pc, const struct rules *initial,
                struct rules *rules) {
  struct rules remembered[REMEMBERED_MAX];
  unsigned depth = 0;
  while (code.at < code.end && !code.bad) {
    uint8_t op = take_u8(&code);
    uint64_t number, advance = 0;
    switch (op & 0xc0) {
      case 0x40: advance = (op & 0x3f) * cie->code_align; break;                                                /* advance_loc */
      case 0x80: set_rule(rules, op & 0x3f, CFI_AT_CFA, (int64_t)(take_uleb(&code) * cie->data_align)); continue; /* offset */
      case 0xc0: { /* restore */
        struct cfi_register_rule *rule = rule_for(rules, op & 0x3f);
        if (rule && initial) *rule = *rule_for((struct rules *)initial, op & 0x3f);
        continue;
      }
      default:
        switch (op) {
          case 0x00: continue; /* nop */
          case 0x01: {         /* set_loc */
            uintptr_t target = take_encoded(&code, cie->pointer_encoding, 0);
            if (target > pc) return !code.bad;
            location = target;
            continue;
          }
          case 0x02: advance = take_u8(&code) * cie->code_align; break;  /* advance_loc1 */
          case 0x03: advance = take_u16(&code) * cie->code_align; break; /* advance_loc2 */
          case 0x04: advance = take_u32(&code) * cie->code_align; break; /* advance_loc4 */
          case 0x05: /* offset_extended */
            number = take_uleb(&code);
            set_rule(rules, number, CFI_AT_CFA, (int64_t)(take_uleb(&code) * cie->data_align));
            continue;
          case 0x06: { /* restore_extended */
            number = take_uleb(&code);
            struct cfi_register_rule *rule = rule_for(rules, number);
            if (rule && initial) *rule = *rule_for((struct rules *)initial, number);
            continue;
          }
          case 0x07: set_rule(rules, take_uleb(&code), CFI_UNDEFINED, 0); continue;
          case 0x08: set_rule(rules, take_uleb(&code), CFI_UNCHANGED, 0); continue;
          case 0x09: /* register */
            number = take_uleb(&code);
            take_uleb(&code);
            set_rule(rules, number, CFI_ELSEWHERE, 0);
            continue;
          case 0x0a: /* remember_state */
            if (depth == REMEMBERED_MAX) return false;
            remembered[depth++] = *rules;
            continue;
          case 0x0b: /* restore_state */
            if (depth == 0) return false;
            *rules = remembered[--depth];
            continue;
          case 0x0c: /* def_cfa */
            set_base(rules, take_uleb(&code));
            rules->cfa_offset = (int64_t)take_uleb(&code);
            continue;
          case 0x0d: set_base(rules, take_uleb(&code)); continue;              /* def_cfa_register */
          case 0x0e: rules->cfa_offset = (int64_t)take_uleb(&code); continue;  /* def_cfa_offset */
          case 0x0f: /* def_cfa_expression */
            rules->base = CFI_BASE_EXPRESSION;
            if (!take_block(&code, &rules->cfa_block)) return false;
            continue;
          case 0x10: case 0x16: { /* expression, val_expression */
            number = take_uleb(&code);
            struct cfi_register_rule rule = {.place = op == 0x10 ? CFI_EXPRESSION : CFI_VALUE_EXPRESSION};
            if (!take_block(&code, &rule.block)) return false;
            struct cfi_register_rule *target = rule_for(rules, number);
            if (target) *target = rule;
            continue;
          }
          case 0x11: /* offset_extended_sf */
            number = take_uleb(&code);
            set_rule(rules, number, CFI_AT_CFA, (int64_t)((uint64_t)take_sleb(&code) * cie->data_align));
            continue;
          case 0x12: /* def_cfa_sf */
            set_base(rules, take_uleb(&code));
            rules->cfa_offset = (int64_t)((uint64_t)take_sleb(&code) * cie->data_align);
            continue;
          case 0x13: rules->cfa_offset = (int64_t)((uint64_t)take_sleb(&code) * cie->data_align); continue; /* def_cfa_offset_sf */
          case 0x14: /* val_offset */
            number = take_uleb(&code);
            set_rule(rules, number, CFI_CFA_PLUS, (int64_t)(take_uleb(&code) * cie->data_align));
            continue;
          case 0x15: /* val_offset_sf */
            number = take_uleb(&code);
            set_rule(rules, number, CFI_CFA_PLUS, (int64_t)((uint64_t)take_sleb(&code) * cie->data_align));
            continue;
          case 0x2e: take_uleb(&code); continue; /* GNU_args_size */
          case 0x2f: /* GNU_negative_offset_extended */
            number = take_uleb(&code);
            set_rule(rules, number, CFI_AT_CFA, (int64_t)-(take_uleb(&code) * cie->data_align));
            continue;
          default: return false;
        }
    }
    if (location + advance > pc) return !code.bad;
    location += advance;
  }
  return !code.bad;
}

/* ---- lookup ---- */

static uintptr_t find_fde(uintptr_t pc, const uint8_t *hdr, uintptr_t map_end) {
  struct cursor cursor = {hdr, (const uint8_t *)map_end, false};
  uint8_t version = take_u8(&cursor), frame_encoding = take_u8(&cursor), count_encoding = take_u8(&cursor),
          table_encoding = take_u8(&cursor);
  /* The form that every linker writes: a sorted table of pairs of 32-bit offsets from the header. */
  if (version != 1 || count_encoding == ENCODING_OMIT || table_encoding != (RELATIVE_DATA | FORMAT_S32)) return 0;
  take_encoded(&cursor, frame_encoding, (uintptr_t)hdr);
  uint64_t count = take_encoded(&cursor, count_encoding, (uintptr_t)hdr);
  if (cursor.bad || count == 0 || count > (uint64_t)(cursor.end - cursor.at) / 8) return 0;
  const uint8_t *table = cursor.at;
  int64_t wanted = (int64_t)(pc - (uintptr_t)hdr);
  uint64_t low = 0, high = count;
  while (high - low > 1) {
    uint64_t middle = low + (high - low) / 2;
    int32_t start;
    memcpy(&start, table + middle * 8, sizeof start);
    if (start <= wanted) low = middle;
    else high = middle;
  }
  int32_t pair[2];
  memcpy(pair, table + low * 8, sizeof pair);
  return pair[0] <= wanted ? (uintptr_t)hdr + (uintptr_t)(intptr_t)pair[1] : 0;
}

bool cfi_find_rule(uintptr_t pc, const void *eh_frame_hdr, uintptr_t map_start, uintptr_t map_end, struct cfi_rule *out) {
  uintptr_t fde_at = find_fde(pc, eh_frame_hdr, map_end);
  if (!fde_at) return false;
  bool wide;
  struct cursor fde = take_entry(fde_at, map_start, map_end, &wide);
  uintptr_t id_at = (uintptr_t)fde.at;
  uint64_t cie_distance = wide ? take_u64(&fde) : take_u32(&fde);
  struct cie cie;
  if (fde.bad || cie_distance == 0 || !parse_cie(id_at - cie_distance, map_start, map_end, &cie)) return false;
  uintptr_t start = take_encoded(&fde, cie.pointer_encoding, 0);
  uintptr_t length = take_encoded(&fde, cie.pointer_encoding & ENCODING_FORMAT, 0);
  if (fde.bad || pc < start || pc - start >= length) return false;
  if (cie.has_augmentation) {
    uint64_t size = take_uleb(&fde);
    if (fde.bad || size > (uint64_t)(fde.end - fde.at)) return false;
    fde.at += size;
  }
  struct rules initial = {.base = CFI_BASE_OTHER};
  if (!run(cie.instructions, &cie, 0, UINTPTR_MAX, NULL, &initial)) return false;
  struct rules rules = initial;
  if (!run(fde, &cie, start, pc, &initial, &rules)) return false;
  *out = (struct cfi_rule){.base = rules.base,
                           .cfa_offset = rules.cfa_offset, /* or the block: the same bytes */
                           .fp = rules.fp,
                           .sp = rules.sp,
                           .return_address = rules.ra,
                           .signal_frame = cie.signal_frame,
                           .start = start,
                           .end = start + length};
  return true;
}

/* ---- expressions ---- */

enum { STACK_DEPTH = 16 };

static bool read_register(const struct cfi_context *context, uint64_t number, uintptr_t *value) {
  switch (number) {
    case REGISTER_FP: *value = context->fp; return true;
    case REGISTER_SP: *value = context->sp; return true;
    case REGISTER_RA: *value = context->pc; return true;
    default: return false;
  }
}

bool cfi_evaluate(const uint8_t *block, const struct cfi_context *context, const uintptr_t *cfa, uintptr_t *value) {
  enum { SIZE_BYTES_MAX = 10 };
  struct cursor code = {block, block + SIZE_BYTES_MAX, false};
  uint64_t size = take_uleb(&code);
  code.end = code.at + size; /* checked by take_block */
  uintptr_t stack[STACK_DEPTH];
  unsigned depth = 0;
  if (cfa) stack[depth++] = *cfa;
  while (code.at < code.end) {
    uint8_t op = take_u8(&code);
    uintptr_t push;
    bool is_push = true;
    if (op >= 0x70 && op <= 0x8f) { /* breg0 .. breg31 */
      if (!read_register(context, op - 0x70, &push)) return false;
      push += (uintptr_t)take_sleb(&code);
    } else if (op == 0x92) { /* bregx */
      uint64_t number = take_uleb(&code);
      if (!read_register(context, number, &push)) return false;
      push += (uintptr_t)take_sleb(&code);
    } else if (op >= 0x30 && op <= 0x4f) { /* lit0 .. lit31 */
      push = op - 0x30;
    } else {
      switch (op) {
        case 0x03: case 0x0e: case 0x0f: push = take_u64(&code); break; /* addr, const8u, const8s */
        case 0x08: push = take_u8(&code); break;
        case 0x09: push = (uintptr_t)(intptr_t)take_s8(&code); break;
        case 0x0a: push = take_u16(&code); break;
        case 0x0b: push = (uintptr_t)(intptr_t)take_s16(&code); break;
        case 0x0c: push = take_u32(&code); break;
        case 0x0d: push = (uintptr_t)(intptr_t)take_s32(&code); break;
        case 0x10: push = take_uleb(&code); break;
        case 0x11: push = (uintptr_t)take_sleb(&code); break;
        case 0x12: /* dup */
          if (depth == 0) return false;
          push = stack[depth - 1];
          break;
        default: is_push = false;
      }
    }
    if (code.bad) return false;
    if (is_push) {
      if (depth == STACK_DEPTH) return false;
      stack[depth++] = push;
      continue;
    }
    if (op == 0x13) { /* drop */
      if (depth-- == 0) return false;
      continue;
    }
    if (op == 0x06 || op == 0x23) { /* deref, plus_uconst */
      if (depth == 0) return false;
      if (op == 0x23) stack[depth - 1] += take_uleb(&code);
      else if (!context->read(context->reader, stack[depth - 1], &stack[depth - 1])) return false;
      continue;
    }
    if (depth < 2) return false;
    uintptr_t right = stack[--depth], *left = &stack[depth - 1];
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
  }
  if (depth == 0) return false;
  *value = stack[depth - 1];
  return true;
}

bool cfi_recover(const struct cfi_register_rule *rule, uintptr_t cfa, uintptr_t unchanged, const struct cfi_context *context, uintptr_t *value) {
  switch (rule->place) {
    case CFI_UNCHANGED: *value = unchanged; return true;
    case CFI_AT_CFA: return context->read(context->reader, cfa + (uintptr_t)rule->offset, value);
    case CFI_CFA_PLUS: *value = cfa + (uintptr_t)rule->offset; return true;
    case CFI_EXPRESSION: return cfi_evaluate(rule->block, context, &cfa, value) && context->read(context->reader, *value, value);
    case CFI_VALUE_EXPRESSION: return cfi_evaluate(rule->block, context, &cfa, value);
    default: return false;
  }
}

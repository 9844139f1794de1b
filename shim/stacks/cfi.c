#include "cfi.h"

#include "cfi_cursor.h"

/* ---- pointers ---- */

enum { /* encodings, LSB 10.5.1 */
  ENCODING_OMIT = 0xff, ENCODING_FORMAT = 0x0f, ENCODING_RELATIVE = 0x70, ENCODING_INDIRECT = 0x80,
  FORMAT_ABSOLUTE = 0x00, FORMAT_ULEB = 0x01, FORMAT_U16 = 0x02, FORMAT_U32 = 0x03,
  FORMAT_U64 = 0x04, FORMAT_SLEB = 0x09, FORMAT_S16 = 0x0a, FORMAT_S32 = 0x0b, FORMAT_S64 = 0x0c,
  RELATIVE_NONE = 0x00, RELATIVE_PC = 0x10, RELATIVE_DATA = 0x30
};

/* Bad, where it would have to be followed: only a personality routine's may be indirect. */
static uintptr_t take_encoded(struct cfi_cursor *cursor, uint8_t encoding, uintptr_t data_base) {
  if (encoding == ENCODING_OMIT) return 0;
  uintptr_t here = (uintptr_t)cursor->at, value = 0;
  switch (encoding & ENCODING_FORMAT) {
    case FORMAT_ABSOLUTE: case FORMAT_U64: case FORMAT_S64: value = cfi_take_u64(cursor); break;
    case FORMAT_ULEB: value = cfi_take_uleb(cursor); break;
    case FORMAT_SLEB: value = (uintptr_t)cfi_take_sleb(cursor); break;
    case FORMAT_U16: value = cfi_take_u16(cursor); break;
    case FORMAT_S16: value = (uintptr_t)(intptr_t)cfi_take_s16(cursor); break;
    case FORMAT_U32: value = cfi_take_u32(cursor); break;
    case FORMAT_S32: value = (uintptr_t)(intptr_t)cfi_take_s32(cursor); break;
    default: cursor->bad = true;
  }
  switch (encoding & ENCODING_RELATIVE) {
    case RELATIVE_NONE: break;
    case RELATIVE_PC: value += here; break;
    case RELATIVE_DATA: value += data_base; break;
    default: cursor->bad = true;
  }
  if (encoding & ENCODING_INDIRECT) cursor->bad = true;
  return value;
}

/* ---- CIE and FDE ---- */

struct cie {
  struct cfi_cursor instructions;
  uint64_t code_align;
  uint64_t data_align; /* a signed factor, multiplied modulo 2^64 */
  uint64_t return_register;
  uint8_t pointer_encoding;
  bool has_augmentation, signal_frame;
};

/* What unwind sections are in. */
struct range {
  uintptr_t start, end;
};

/* Positions the cursor after a length field and bounds it by that length. */
static struct cfi_cursor take_entry(uintptr_t at, const struct range *map, bool *wide) {
  struct cfi_cursor entry = {.at = (const uint8_t *)at, .end = (const uint8_t *)map->end};
  entry.bad = at < map->start || at >= map->end;
  uint64_t length = cfi_take_u32(&entry);
  *wide = length == 0xffffffff;
  if (*wide) length = cfi_take_u64(&entry);
  if (length == 0 || length > cfi_left(&entry)) entry.bad = true;
  if (!entry.bad) entry.end = entry.at + length;
  return entry;
}

enum { AUGMENTATION_MAX = 8 }; /* letters; there are seven in all */

static bool take_augmentation(struct cfi_cursor *entry, char text[AUGMENTATION_MAX + 1]) {
  for (unsigned i = 0; i <= AUGMENTATION_MAX; i++)
    if ((text[i] = (char)cfi_take_u8(entry)) == 0) return !entry->bad;
  return false;
}

/* letters: after the z. */
static bool parse_augmentation(struct cfi_cursor *entry, const char *letters, struct cie *cie) {
  uint64_t size = cfi_take_uleb(entry);
  struct cfi_cursor data = *entry;
  cfi_skip(entry, size);
  if (entry->bad) return false;
  data.end = entry->at;
  cie->has_augmentation = true;
  for (const char *c = letters; *c; c++) {
    if (*c == 'R') cie->pointer_encoding = cfi_take_u8(&data);
    else if (*c == 'L') cfi_take_u8(&data);
    else if (*c == 'S') cie->signal_frame = true;
    else if (*c == 'P') {
      uint8_t encoding = cfi_take_u8(&data);
      take_encoded(&data, encoding == ENCODING_OMIT ? encoding : encoding & ~ENCODING_INDIRECT, 0);
    } else if (*c != 'B' && *c != 'G') return false;
  }
  return !data.bad;
}

static bool parse_cie(uintptr_t at, const struct range *map, struct cie *cie) {
  bool wide;
  struct cfi_cursor entry = take_entry(at, map, &wide);
  uint64_t id = wide ? cfi_take_u64(&entry) : cfi_take_u32(&entry);
  uint8_t version = cfi_take_u8(&entry);
  char augmentation[AUGMENTATION_MAX + 1];
  if (entry.bad || id != 0 || (version != 1 && version != 3 && version != 4)) return false;
  if (!take_augmentation(&entry, augmentation)) return false;
  if (version == 4) {
    uint8_t address_size = cfi_take_u8(&entry), segment_size = cfi_take_u8(&entry);
    if (address_size != sizeof(uintptr_t) || segment_size != 0) return false;
  }
  *cie = (struct cie){.pointer_encoding = FORMAT_ABSOLUTE};
  cie->code_align = cfi_take_uleb(&entry);
  cie->data_align = (uint64_t)cfi_take_sleb(&entry);
  cie->return_register = version == 1 ? cfi_take_u8(&entry) : cfi_take_uleb(&entry);
  if (augmentation[0] && augmentation[0] != 'z') return false; /* GCC 2's eh, say */
  if (augmentation[0] && !parse_augmentation(&entry, augmentation + 1, cie)) return false;
  cie->instructions = entry;
  return !entry.bad && cie->return_register == CFI_RA && cie->pointer_encoding != ENCODING_OMIT;
}

/* ---- the machine ---- */

struct rules {
  enum cfi_base base;
  uint32_t cfa_block_size;
  int64_t cfa_offset;
  const uint8_t *cfa_block;
  struct cfi_register_rule fp, sp, ra;
};

static struct cfi_register_rule *rule_for(struct rules *rules, uint64_t number) {
  switch (number) {
    case CFI_FP: return &rules->fp;
    case CFI_SP: return &rules->sp;
    case CFI_RA: return &rules->ra;
    default: return NULL;
  }
}

/* The instructions of one entry, and what they act on. */
struct run {
  struct cfi_cursor code;
  const struct cie *cie;
  const struct rules *initial; /* what DW_CFA_restore goes back to; NULL: the CIE's own are run */
  struct rules *rules;
};

enum { BLOCK_MAX = 4096 }; /* bytes of one expression, all of which is checked */

/* Steps over a block after checking that it ends within the code and can be read. */
static bool take_block(struct cfi_cursor *code, const uint8_t **block, uint32_t *size) {
  uint64_t bytes = cfi_take_uleb(code);
  if (bytes > BLOCK_MAX || !cfi_reach(code, bytes)) return !(code->bad = true);
  *block = code->at;
  *size = (uint32_t)bytes;
  cfi_skip(code, bytes);
  return true;
}

static int64_t take_factored(struct run *run) {
  return (int64_t)(cfi_take_uleb(&run->code) * run->cie->data_align);
}

static int64_t take_signed_factored(struct run *run) {
  return (int64_t)((uint64_t)cfi_take_sleb(&run->code) * run->cie->data_align);
}

static void set_rule(struct run *run, uint64_t number, enum cfi_place place, int64_t offset) {
  struct cfi_register_rule *rule = rule_for(run->rules, number);
  if (rule) *rule = (struct cfi_register_rule){.place = place, .offset = offset};
}

static void restore_rule(struct run *run, uint64_t number) {
  struct cfi_register_rule *rule = rule_for(run->rules, number);
  struct rules *initial = (struct rules *)(uintptr_t)run->initial; /* only read */
  if (rule && initial) *rule = *rule_for(initial, number);
}

static void set_base(struct run *run, uint64_t number) {
  run->rules->base = number == CFI_SP   ? CFI_BASE_SP
                     : number == CFI_FP ? CFI_BASE_FP
                                        : CFI_BASE_OTHER;
}

/* DW_CFA_def_cfa_register and _offset change one half of a register and an offset: there must be
 * one. (The assembler writes them after an expression too, if it is told to.) */
static bool has_base(const struct run *run) {
  return run->rules->base != CFI_BASE_EXPRESSION;
}

static bool change_cfa(struct run *run, uint8_t op) {
  struct rules *rules = run->rules;
  switch (op) {
    case 0x0c: /* def_cfa */
      set_base(run, cfi_take_uleb(&run->code));
      rules->cfa_offset = (int64_t)cfi_take_uleb(&run->code);
      return true;
    case 0x12: /* def_cfa_sf */
      set_base(run, cfi_take_uleb(&run->code));
      rules->cfa_offset = take_signed_factored(run);
      return true;
    case 0x0d: /* def_cfa_register */
      if (!has_base(run)) return false;
      set_base(run, cfi_take_uleb(&run->code));
      return true;
    case 0x0e: /* def_cfa_offset */
      rules->cfa_offset = (int64_t)cfi_take_uleb(&run->code);
      return has_base(run);
    case 0x13: /* def_cfa_offset_sf */
      rules->cfa_offset = take_signed_factored(run);
      return has_base(run);
    default: /* 0x0f, def_cfa_expression */
      rules->base = CFI_BASE_EXPRESSION;
      return take_block(&run->code, &rules->cfa_block, &rules->cfa_block_size);
  }
}

/* An instruction that begins with a register's number. */
static bool change_register(struct run *run, uint8_t op) {
  uint64_t number = cfi_take_uleb(&run->code);
  switch (op) {
    case 0x05: set_rule(run, number, CFI_AT_CFA, take_factored(run)); return true;
    case 0x06: restore_rule(run, number); return true;
    case 0x07: set_rule(run, number, CFI_UNDEFINED, 0); return true;
    case 0x08: set_rule(run, number, CFI_UNCHANGED, 0); return true;
    case 0x09: /* register */
      cfi_take_uleb(&run->code);
      set_rule(run, number, CFI_ELSEWHERE, 0);
      return true;
    case 0x10: case 0x16: { /* expression, val_expression */
      struct cfi_register_rule rule = {.place = op == 0x10 ? CFI_EXPRESSION : CFI_VALUE_EXPRESSION};
      if (!take_block(&run->code, &rule.block, &rule.block_size)) return false;
      struct cfi_register_rule *target = rule_for(run->rules, number);
      if (target) *target = rule;
      return true;
    }
    case 0x11: set_rule(run, number, CFI_AT_CFA, take_signed_factored(run)); return true;
    case 0x14: set_rule(run, number, CFI_CFA_PLUS, take_factored(run)); return true;
    case 0x15: set_rule(run, number, CFI_CFA_PLUS, take_signed_factored(run)); return true;
    case 0x2f: { /* GNU_negative_offset_extended */
      uint64_t offset = (uint64_t)take_factored(run);
      set_rule(run, number, CFI_AT_CFA, (int64_t)-offset);
      return true;
    }
    default: return false;
  }
}

/* An instruction that is neither for other addresses than the last one nor about states. */
static bool change_rules(struct run *run, uint8_t op) {
  switch (op) {
    case 0x00: return true; /* nop */
    case 0x2e: cfi_take_uleb(&run->code); return true; /* GNU_args_size */
    case 0x0c: case 0x0d: case 0x0e: case 0x0f: case 0x12: case 0x13: return change_cfa(run, op);
    default: return change_register(run, op);
  }
}

/* How far an instruction moves the address; 0: none of that kind. */
static bool is_advance(struct run *run, uint8_t op, uint64_t *distance) {
  uint64_t align = run->cie->code_align;
  if ((op & 0xc0) == 0x40) *distance = (op & 0x3f) * align;
  else if (op == 0x02) *distance = cfi_take_u8(&run->code) * align;
  else if (op == 0x03) *distance = cfi_take_u16(&run->code) * align;
  else if (op == 0x04) *distance = cfi_take_u32(&run->code) * align;
  else return false;
  return true;
}

enum {
  REMEMBERED_MAX = 6, /* on the host's stack; compilers nest one or two */
  /* Of one entry: some 0.3 ms. The longest in Debian's libraries and programs are a tenth of it. */
  INSTRUCTIONS_MAX = 1 << 16
};

/* Runs instructions until they would advance past pc. */
static bool run_until(struct run *run, uintptr_t location, uintptr_t pc) {
  struct rules remembered[REMEMBERED_MAX];
  unsigned depth = 0;
  for (uint32_t left = INSTRUCTIONS_MAX; cfi_left(&run->code) > 0; left--) {
    uint8_t op = cfi_take_u8(&run->code);
    uint64_t distance;
    if (left == 0) return false;
    if (is_advance(run, op, &distance)) {
      if (distance > pc - location) break;
      location += distance;
    } else if ((op & 0xc0) == 0x80) { /* offset */
      set_rule(run, op & 0x3f, CFI_AT_CFA, take_factored(run));
    } else if ((op & 0xc0) == 0xc0) {
      restore_rule(run, op & 0x3f);
    } else if (op == 0x01) { /* set_loc */
      uintptr_t target = take_encoded(&run->code, run->cie->pointer_encoding, 0);
      if (target > pc) break;
      location = target;
    } else if (op == 0x0a) { /* remember_state */
      if (depth == REMEMBERED_MAX) return false;
      remembered[depth++] = *run->rules;
    } else if (op == 0x0b) { /* restore_state */
      if (depth == 0) return false;
      *run->rules = remembered[--depth];
    } else if (!change_rules(run, op)) {
      return false;
    }
  }
  return !run->code.bad;
}

/* ---- lookup ---- */

struct pair {
  int32_t start, fde; /* offsets from the header */
};

/* The last steps of a search are on one page: *page is the last one that was asked for. */
static bool read_pair(const uint8_t *table, uint64_t index, uintptr_t *page, struct pair *out) {
  const uint8_t *at = table + index * sizeof *out;
  uintptr_t first = (uintptr_t)at / READABLE_PAGE;
  uintptr_t last = ((uintptr_t)at + sizeof *out - 1) / READABLE_PAGE;
  if ((first != *page || last != first) && !readable_pages_cover((uintptr_t)at, sizeof *out))
    return false;
  *page = last;
  memcpy(out, at, sizeof *out);
  return true;
}

static uintptr_t find_fde(uintptr_t pc, const uint8_t *hdr, uintptr_t map_end) {
  struct cfi_cursor cursor = {.at = hdr, .end = (const uint8_t *)map_end};
  uint8_t version = cfi_take_u8(&cursor), frame_encoding = cfi_take_u8(&cursor),
          count_encoding = cfi_take_u8(&cursor), table_encoding = cfi_take_u8(&cursor);
  /* The form that every linker writes: a sorted table of pairs of 32-bit offsets. */
  if (version != 1 || count_encoding == ENCODING_OMIT ||
      table_encoding != (RELATIVE_DATA | FORMAT_S32))
    return 0;
  take_encoded(&cursor, frame_encoding, (uintptr_t)hdr);
  uint64_t low = 0, high = take_encoded(&cursor, count_encoding, (uintptr_t)hdr);
  uintptr_t page = UINTPTR_MAX; /* none */
  struct pair pair;
  if (high == 0 || high > cfi_left(&cursor) / sizeof pair) return 0;
  int64_t wanted = (int64_t)(pc - (uintptr_t)hdr);
  while (high - low > 1) {
    uint64_t middle = low + (high - low) / 2;
    if (!read_pair(cursor.at, middle, &page, &pair)) return 0;
    if (pair.start <= wanted) low = middle;
    else high = middle;
  }
  if (!read_pair(cursor.at, low, &page, &pair) || pair.start > wanted) return 0;
  return (uintptr_t)hdr + (uintptr_t)(intptr_t)pair.fde;
}

/* The code that an FDE is for. The cursor is left at its instructions. */
static bool take_range(struct cfi_cursor *fde, const struct cie *cie, struct range *range) {
  range->start = take_encoded(fde, cie->pointer_encoding, 0);
  uintptr_t length = take_encoded(fde, cie->pointer_encoding & ENCODING_FORMAT, 0);
  range->end = range->start + length;
  if (cie->has_augmentation) {
    uint64_t size = cfi_take_uleb(fde);
    cfi_skip(fde, size);
  }
  return !fde->bad; /* where the end wraps it is below the start, and no pc is between */
}

bool cfi_find_rule(uintptr_t pc, const void *eh_frame_hdr, uintptr_t map_start, uintptr_t map_end,
                   struct cfi_rule *out) {
  struct range map = {map_start, map_end}, code;
  if ((uintptr_t)eh_frame_hdr < map_start || (uintptr_t)eh_frame_hdr >= map_end) return false;
  uintptr_t fde_at = find_fde(pc, eh_frame_hdr, map_end);
  if (!fde_at) return false;
  bool wide;
  struct cfi_cursor fde = take_entry(fde_at, &map, &wide);
  uintptr_t id_at = (uintptr_t)fde.at;
  uint64_t cie_distance = wide ? cfi_take_u64(&fde) : cfi_take_u32(&fde);
  struct cie cie;
  if (fde.bad || cie_distance == 0 || !parse_cie(id_at - cie_distance, &map, &cie)) return false;
  if (!take_range(&fde, &cie, &code) || pc < code.start || pc >= code.end) return false;
  struct rules initial = {.base = CFI_BASE_OTHER};
  struct run start = {.code = cie.instructions, .cie = &cie, .rules = &initial};
  if (!run_until(&start, 0, UINTPTR_MAX)) return false;
  struct rules rules = initial;
  struct run body = {.code = fde, .cie = &cie, .initial = &initial, .rules = &rules};
  if (!run_until(&body, code.start, pc)) return false;
  *out = (struct cfi_rule){.base = rules.base,
                           .cfa_block_size = rules.cfa_block_size,
                           .cfa_offset = rules.cfa_offset,
                           .cfa_block = rules.cfa_block,
                           .fp = rules.fp,
                           .sp = rules.sp,
                           .return_address = rules.ra,
                           .signal_frame = cie.signal_frame,
                           .start = code.start,
                           .end = code.end};
  return true;
}

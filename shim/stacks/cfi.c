#include "cfi.h"

#include "cfi_entry.h"

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
  const struct cfi_common_entry *cie;
  const struct rules *initial; /* what DW_CFA_restore goes back to; NULL: the CIE's own are run */
  struct rules *rules;
  const struct cfi_section *section;
  bool sets_location; /* by DW_CFA_set_loc, whose pointer may be relative */
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
static bool has_base(const struct run *run) { return run->rules->base != CFI_BASE_EXPRESSION; }

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
    case 0x10:
    case 0x16: { /* expression, val_expression */
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
    case 0x0c:
    case 0x0d:
    case 0x0e:
    case 0x0f:
    case 0x12:
    case 0x13: return change_cfa(run, op);
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
      uintptr_t target = cfi_take_encoded(&run->code, run->cie->pointer_encoding, run->section);
      run->sets_location = true;
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

static uintptr_t find_fde(uintptr_t pc, const struct cfi_section *section) {
  struct cfi_cursor cursor = {.at = (const uint8_t *)section->data,
                              .end = (const uint8_t *)section->end};
  uint8_t version = cfi_take_u8(&cursor), frame_encoding = cfi_take_u8(&cursor),
          count_encoding = cfi_take_u8(&cursor), table_encoding = cfi_take_u8(&cursor);
  /* The form that every linker writes: a sorted table of pairs of 32-bit offsets. */
  if (version != 1 || count_encoding == CFI_ENCODING_OMIT ||
      table_encoding != (CFI_RELATIVE_DATA | CFI_FORMAT_S32))
    return 0;
  cfi_take_encoded(&cursor, frame_encoding, section);
  uint64_t low = 0, high = cfi_take_encoded(&cursor, count_encoding, section);
  uintptr_t page = UINTPTR_MAX; /* none */
  struct pair pair;
  if (high == 0 || high > cfi_left(&cursor) / sizeof pair) return 0;
  int64_t wanted = (int64_t)(pc - section->data);
  while (high - low > 1) {
    uint64_t middle = low + (high - low) / 2;
    if (!read_pair(cursor.at, middle, &page, &pair)) return 0;
    if (pair.start <= wanted) low = middle;
    else high = middle;
  }
  if (!read_pair(cursor.at, low, &page, &pair) || pair.start > wanted) return 0;
  return section->data + (uintptr_t)(intptr_t)pair.fde;
}

/* False: not to be understood up to there. */
static bool run_entry(const struct cfi_entry *entry, const struct cfi_section *section,
                      uintptr_t pc, struct rules *rules, bool *sets_location) {
  struct rules initial = {.base = CFI_BASE_OTHER};
  struct run start = {.code = entry->common.instructions,
                      .cie = &entry->common,
                      .rules = &initial,
                      .section = section};
  if (!run_until(&start, 0, UINTPTR_MAX)) return false;
  *rules = initial;
  struct run body = {.code = entry->instructions,
                     .cie = &entry->common,
                     .initial = &initial,
                     .rules = rules,
                     .section = section};
  bool understood = run_until(&body, entry->code_start, pc);
  *sets_location = start.sets_location || body.sets_location;
  return understood;
}

bool cfi_entry_rule(const struct cfi_entry *entry, const struct cfi_section *section, uintptr_t pc,
                    struct cfi_rule *out) {
  struct rules rules;
  bool sets_location;
  if (pc < entry->code_start || pc >= entry->code_end ||
      !run_entry(entry, section, pc, &rules, &sets_location))
    return false;
  *out = (struct cfi_rule){.base = rules.base,
                           .cfa_block_size = rules.cfa_block_size,
                           .cfa_offset = rules.cfa_offset,
                           .cfa_block = rules.cfa_block,
                           .fp = rules.fp,
                           .sp = rules.sp,
                           .return_address = rules.ra,
                           .signal_frame = entry->common.signal_frame,
                           .start = entry->code_start,
                           .end = entry->code_end};
  return true;
}

bool cfi_entry_may_be_moved(const struct cfi_entry *entry, const struct cfi_section *section) {
  struct rules rules;
  bool sets_location;
  return entry->code_start < entry->code_end &&
         run_entry(entry, section, entry->code_end - 1, &rules, &sets_location) && !sets_location;
}

bool cfi_find_rule(uintptr_t pc, const void *eh_frame_hdr, uintptr_t map_start, uintptr_t map_end,
                   struct cfi_rule *out) {
  struct cfi_section section = {map_start, map_end, .data = (uintptr_t)eh_frame_hdr};
  struct cfi_entry entry;
  if (section.data < map_start || section.data >= map_end) return false;
  uintptr_t fde = find_fde(pc, &section);
  section.data = 0; /* no entry of .eh_frame is relative to it */
  return fde && cfi_entry_read(fde, &section, &entry) && cfi_entry_rule(&entry, &section, pc, out);
}

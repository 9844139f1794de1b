#include "call_site.h"

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

#include "shim/stacks/unwind_rule.h"
#include "shim/base/instruction.h"

bool code_is_executable(const struct code_view *code, uintptr_t address) {
  if (address < 4096 || address >> 47) return false;
  const struct mapping *map = mappings_find(code->mappings, address, UINT32_MAX);
  if (map && !map->unloaded) return true;
  struct dl_find_object found;
  return _dl_find_object((void *)address, &found) == 0;
}

static int32_t signed_at(const uint8_t *bytes) {
  int32_t value;
  memcpy(&value, bytes, sizeof value);
  return value;
}

/* ---- where a jump or a stub leads ---- */

/* Follows jumps from a function's first instruction, as in procedure linkage tables: endbr64; jmp
 * *slot(%rip), or jmp target. *through_slot: a slot that may have been written to since was read on
 * the way. */
static uintptr_t follow_stub(const struct code_view *code, uintptr_t target, bool *through_slot) {
  enum { HOPS_MAX = 4 };
  static const uint8_t endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};
  for (int hops = 0; hops < HOPS_MAX; hops++) {
    uint8_t bytes[12]; /* the longest: endbr64; bnd jmp *slot(%rip) */
    if (!memory_reader_read(code->memory, target, bytes, sizeof bytes)) return target;
    size_t at = memcmp(bytes, endbr64, sizeof endbr64) == 0 ? sizeof endbr64 : 0;
    if (bytes[at] == 0xf2) at++; /* bnd */
    if (bytes[at] == 0xff && bytes[at + 1] == 0x25) {
      uintptr_t slot = target + at + 6 + (uintptr_t)(intptr_t)signed_at(bytes + at + 2), value;
      *through_slot = true;
      if (!memory_reader_word(code->memory, slot, &value)) return target;
      target = value;
    } else if (bytes[at] == 0xe9) {
      target = target + at + 5 + (uintptr_t)(intptr_t)signed_at(bytes + at + 1);
    } else {
      return target;
    }
  }
  return target;
}

static bool is_within(uintptr_t address, uintptr_t start, uintptr_t end) {
  return address - start < end - start;
}

/* ---- functions that end in a jump to another ---- */

static bool is_direct_jump(const struct instruction *i) {
  if (i->map == MAP_0F) return (i->opcode & 0xf0) == 0x80;
  return i->map == MAP_ONE_BYTE &&
         (i->opcode == 0xe9 || i->opcode == 0xeb || (i->opcode & 0xf0) == 0x70);
}

static bool is_indirect_jump(const struct instruction *i) {
  return i->map == MAP_ONE_BYTE && i->opcode == 0xff && (i->reg & 7) == 4;
}

/* What the jumps out of [from, from_end) say about [start, end). */
static enum call_evidence evidence_of_jumps(const struct code_view *code, uintptr_t from,
                                            uintptr_t from_end, uintptr_t start, uintptr_t end) {
  enum { WINDOW = 1024, SCAN_MAX = 64 * 1024 };
  uint8_t bytes[WINDOW];
  enum call_evidence evidence = CALL_CONTRADICTED;
  if (from_end - from > SCAN_MAX) return CALL_TAIL;
  for (uintptr_t at = from; at < from_end;) {
    size_t size = from_end - at < WINDOW ? from_end - at : WINDOW, done = 0;
    if (!memory_reader_read(code->memory, at, bytes, size)) return CALL_TAIL;
    struct instruction i;
    for (; done < size && instruction_decode(bytes + done, size - done, &i); done += i.length) {
      if (is_indirect_jump(&i)) evidence = CALL_TAIL;
      if (!is_direct_jump(&i)) continue;
      uintptr_t target = at + done + i.length + (uintptr_t)(intptr_t)i.immediate;
      if (is_within(target, from, from_end)) continue;
      bool through_slot = false;
      if (is_within(target, start, end) ||
          is_within(follow_stub(code, target, &through_slot), start, end))
        return CALL_CERTAIN;
      evidence = CALL_TAIL;
    }
    if (done == 0) return CALL_TAIL; /* no instruction that is known here */
    at += done;
  }
  return evidence;
}

static enum call_evidence evidence_of_target(const struct code_view *code, uintptr_t target,
                                             uintptr_t start, uintptr_t end) {
  if (target == start) return CALL_CERTAIN;
  bool through_slot = false;
  uintptr_t function = follow_stub(code, target, &through_slot);
  if (function == start) return CALL_CERTAIN;
  struct cfi_rule rule;
  if (!unwind_rule_find(function, &rule)) return CALL_TAIL; /* assembly: who knows */
  enum call_evidence evidence = evidence_of_jumps(code, rule.start, rule.end, start, end);
  return through_slot && evidence == CALL_CONTRADICTED ? CALL_TAIL : evidence;
}

/* ---- the call ---- */

enum call_evidence call_site_evidence(const struct code_view *code, uintptr_t return_address,
                                      uintptr_t start, uintptr_t end) {
  uint8_t bytes[LONGEST_CALL];
  if (!code_is_executable(code, return_address - 1) ||
      !memory_reader_read(code->memory, return_address - LONGEST_CALL, bytes, LONGEST_CALL))
    return CALL_NONE;
  const uint8_t *after = bytes + LONGEST_CALL;
  enum call_evidence evidence = CALL_NONE;
  if (direct_call_ends_at(after)) {
    uintptr_t target = return_address + (uintptr_t)(intptr_t)signed_at(after - 4);
    if (code_is_executable(code, target)) evidence = evidence_of_target(code, target, start, end);
  }
  if (evidence < CALL_INDIRECT && indirect_call_ends_at(after)) {
    /* The bytes could be either: a direct call that contradicts is believed less than an indirect
     * one that does not. */
    evidence = CALL_INDIRECT;
    uintptr_t function;
    if (after[-6] == 0xff && after[-5] == 0x15 && /* call *slot(%rip) */
        memory_reader_word(code->memory, return_address + (uintptr_t)(intptr_t)signed_at(after - 4),
                           &function) &&
        function == start)
      evidence = CALL_CERTAIN;
  }
  return evidence;
}

/* fuzz: bytes */
/* Unwind sections of valid form (generated_cfi.h) whose contents are the input's choice: read
 * within their bounds, not for ever, and what comes out can be followed. */
#include "shim/stacks/cfi.h"
#include "fuzz.h"
#include "generated_cfi.h"

static struct fuzz_input choices;

uint64_t generated_random(void) {
  uint64_t value = fuzz_byte(&choices);
  if (value < 0xf8) return value; /* mostly a choice of a few; else a number */
  for (unsigned left = (unsigned)value - 0xf7; left > 0; left--)
    value = value << 8 | fuzz_byte(&choices);
  return value;
}

static bool read_nothing(void *reader, uintptr_t address, uintptr_t *value) {
  (void)reader;
  *value = address * 3;
  return address & 8;
}

static void fuzz_one(const uint8_t *bytes, size_t size) {
  struct generated_cfi made;
  choices = (struct fuzz_input){bytes, bytes + size};
  generated_cfi_make(&made);
  uint8_t *copy = malloc(made.size);
  memcpy(copy, made.bytes, made.size);
  uintptr_t pc = (uintptr_t)copy + made.code + generated_random() % made.code_size, value;
  struct cfi_rule rule;
  if (cfi_find_rule(pc, copy, (uintptr_t)copy, (uintptr_t)copy + made.size, &rule)) {
    struct cfi_context context = {pc, generated_random(), generated_random(), read_nothing, NULL};
    if (rule.end <= rule.start || pc < rule.start || pc >= rule.end) abort();
    if (rule.base == CFI_BASE_EXPRESSION)
      cfi_evaluate(rule.cfa_block, rule.cfa_block_size, &context, NULL, &value);
    uintptr_t cfa = generated_random();
    cfi_recover(&rule.fp, cfa, 1, &context, &value);
    cfi_recover(&rule.sp, cfa, 1, &context, &value);
    cfi_recover(&rule.return_address, cfa, 1, &context, &value);
  }
  free(copy);
}

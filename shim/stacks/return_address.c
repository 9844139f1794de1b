#include "return_address.h"

#include <string.h>

#include "host_handlers.h"
#include "shim/base/instruction.h"
#include "readable_pages.h"

/* HotSpot's interpreter pushes the addresses that its calls return to, and jumps. What is there
 * begins with mov N(%rbp),%rsp; movq $0,N(%rbp). */
static bool is_interpreters_return(const uint8_t *code) {
  static const uint8_t move[] = {0x48, 0x8b, 0x65}, clear[] = {0x48, 0xc7, 0x45},
                       zero[] = {0, 0, 0, 0};
  return memcmp(code, move, sizeof move) == 0 && memcmp(code + 4, clear, sizeof clear) == 0 &&
         code[3] == code[7] && memcmp(code + 8, zero, sizeof zero) == 0;
}

enum { ADDRESS_BITS = 47, INTERPRETERS_RETURN = 12 };

enum return_kind return_kind_of(uintptr_t pc, bool elsewhere) {
  uint8_t copy[LONGEST_CALL + INTERPRETERS_RETURN];
  if (pc < READABLE_PAGE || pc >> ADDRESS_BITS) return RETURN_NONE;
  size_t size = elsewhere ? readable_pages_copy(pc - LONGEST_CALL, copy, sizeof copy)
                : readable_pages_cover(pc - LONGEST_CALL, LONGEST_CALL) ? LONGEST_CALL
                                                                        : 0;
  if (size < LONGEST_CALL) return RETURN_NONE;
  const uint8_t *end = elsewhere ? copy + LONGEST_CALL : (const uint8_t *)pc;
  bool known = elsewhere ? size == sizeof copy : readable_pages_cover(pc, INTERPRETERS_RETURN);
  if (known && is_interpreters_return(end)) return RETURN_TO_INTERPRETER;
  if (indirect_call_ends_at(end)) return RETURN_OF_CALL;
  if (!direct_call_ends_at(end)) return RETURN_NONE;
  int32_t distance;
  memcpy(&distance, end - sizeof distance, sizeof distance);
  bool leads = readable_pages_cover(pc + (uintptr_t)(intptr_t)distance, 1);
  return leads ? RETURN_OF_CALL : RETURN_NONE;
}

/* libc's table begins a byte before the function. */
bool return_ends_handler(const struct cfi_rule *rule) {
  static const uint8_t libc[] = {0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05}; /* mov $15,%rax */
  static const uint8_t other[] = {0xb8, 15, 0, 0, 0, 0x0f, 0x05}; /* mov $15,%eax */
  const uint8_t *code = (const uint8_t *)rule->start;
  if ((uintptr_t)__restore_rt - rule->start < rule->end - rule->start) return true;
  if (rule->end - rule->start < sizeof libc || !readable_pages_cover(rule->start, sizeof libc + 1))
    return false;
  for (int before = 0; before <= 1; before++)
    if (memcmp(code + before, libc, sizeof libc) == 0 ||
        memcmp(code + before, other, sizeof other) == 0)
      return true;
  return false;
}

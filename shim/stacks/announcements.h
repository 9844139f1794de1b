/* Whether the program's announcements to debuggers (agent/symbols/jit_interface.h) are still
 * what the agent has seen. It looks only now and then, and nothing tells when the program takes one
 * back; but each time the words at the head of its list change. While they are as they were, unwind
 * entries that came from there may be used. Context: any; locks: none; system calls to ask whether
 * the words can be read. */
#ifndef SHIM_ANNOUNCEMENTS_H
#define SHIM_ANNOUNCEMENTS_H

#include <stdbool.h>
#include <stdint.h>

enum { ANNOUNCEMENT_LISTS_MAX = 8, ANNOUNCEMENT_WORDS = 3 };

struct announcement_head {
  uintptr_t address;
  uint64_t words[ANNOUNCEMENT_WORDS];
};

/* Until they are set (again) nothing holds. Context: one agent thread at a time. */
void announcements_unset(void);
void announcements_set(const struct announcement_head *heads, uint32_t count);

bool announcements_hold(void);

/* The same for a walk of a stack, which asks once, if at all. Zeroed at its begin. */
struct announcements_answer {
  bool asked, hold;
};
static inline bool announcements_held(struct announcements_answer *answer) {
  if (!answer->asked) *answer = (struct announcements_answer){true, announcements_hold()};
  return answer->hold;
}

#endif

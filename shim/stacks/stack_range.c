#include "stack_range.h"

#include "shim/base/confinement.h"
#include "shim/base/raw_syscall.h"
#include "stack_capture.h"
#include "shim/base/stack_depth.h"
#include "shim/base/thread_state.h"

uintptr_t stack_range_main_high;
static uintptr_t main_thread_pointer; /* written with it */

void stack_capture_start(uintptr_t high) {
  stack_range_main_high = high;
  /* startup runs on the first thread, but for dlopen elsewhere */
  main_thread_pointer = (uintptr_t)__builtin_thread_pointer();
}

bool stack_capture_is_first_thread(void) {
  return (uintptr_t)__builtin_thread_pointer() == main_thread_pointer;
}

enum {
  PROBE_PAGE = 4096,
  /* The kernel keeps at least 128 MB below the top of the first stack free of what it places itself
     (mm/util.c, MIN_GAP). */
  MAIN_STACK_MIN = 100 << 20,
  OWN_STACK_MAX_PROBES = 4096, /* pages at once: a thread that is 16 MB deeper than when last seen
                                  is read page by page */
  GAP_MAX = 1 << 20, /* bytes of one frame on a stack of which nothing is known */
  /* Of pages of such stacks: 256 KB. A walk that asks for each page of a deep one takes longer than
     a tick's period, and the program stands still. */
  WALK_MAX_PROBES = 64
};

static bool page_is_readable(uintptr_t address) {
  if (confinement_forbids_calls()) return false;
  return raw_is_readable(address & ~(uintptr_t)(PROBE_PAGE - 1));
}

struct stack_range stack_range_own(struct thread_state *thread, uintptr_t sp) {
  struct stack_range nothing = {.low = sp, .high = sp, .thread = thread};
  if (UNLIKELY(!thread)) return nothing;
  struct stack_range own = {
      .low = sp, .high = thread->stack_high, .thread = thread, .is_own = true};
  if (LIKELY(sp >= thread->stack_low && sp < thread->stack_high)) return own;
  uintptr_t pointer = (uintptr_t)__builtin_thread_pointer();
  bool is_main = pointer == main_thread_pointer;
  uintptr_t high = is_main ? stack_range_main_high : pointer;
  uintptr_t low = sp & ~(uintptr_t)(PROBE_PAGE - 1);
  uintptr_t known = thread->stack_high ? thread->stack_low : high;
  own.high = high;
  if (confinement_forbids_calls()) return is_main && high - sp < MAIN_STACK_MIN ? own : nothing;
  if (low >= known || known - low > (uintptr_t)OWN_STACK_MAX_PROBES * PROBE_PAGE) return nothing;
  if (!is_main && low < thread->stack_end) return nothing;
  for (uintptr_t page = known & ~(uintptr_t)(PROBE_PAGE - 1); page > low; page -= PROBE_PAGE)
    if (!page_is_readable(page - PROBE_PAGE)) {
      if (!is_main) thread->stack_end = page; /* the first thread's goes on growing */
      return nothing;
    }
  thread->stack_low = low;
  thread->stack_high = high;
  return own;
}

void stack_range_go_to(struct stack_range *range, uintptr_t sp) {
  struct stack_range next = stack_range_own(range->thread, sp);
  next.code_read = range->code_read;
  next.probes = range->probes;
  next.announced = range->announced;
  *range = next;
}

/* ---- room on the stack in use ---- */

/* The first thread's stack grows, but not past RLIMIT_STACK, so only what it has grown to counts.
 */
static bool has_room_on_first(struct thread_state *thread, uintptr_t sp) {
  uintptr_t low = sp - STACK_CAPTURE_NEEDS - stack_depth_bytes_beyond();
  if (LIKELY(low >= thread->stack_low && sp < thread->stack_high)) return true;
  if (stack_range_main_high - sp >= MAIN_STACK_MIN) return false;
  return confinement_forbids_calls() || stack_range_own(thread, low).high != low;
}

bool stack_capture_has_room(uintptr_t sp) {
  struct thread_state *thread = &thread_state;
  if (UNLIKELY(sp - thread->alternate_low < thread->alternate_size))
    return false; /* may lie within the other */
  if (stack_capture_is_first_thread()) return has_room_on_first(thread, sp);
  uintptr_t floor = thread->stack_floor;
  return floor && sp >= floor + STACK_CAPTURE_NEEDS + stack_depth_bytes_beyond() &&
         sp < (uintptr_t)__builtin_thread_pointer();
}

/* A page of a stack of which nothing is known. */
static bool probe(struct stack_range *range, uintptr_t address) {
  return range->probes++ < WALK_MAX_PROBES && page_is_readable(address);
}

bool stack_range_learn(struct stack_range *range, uintptr_t address) {
  const struct thread_state *thread = range->thread;
  if (range->is_copy) return false;
  if (range->is_own)
    return address < range->low && range->low - address <= STACK_RED_ZONE &&
           page_is_readable(address);
  if (thread && address >= thread->stack_low && address < thread->stack_high) {
    stack_range_go_to(range, address);
    return true;
  }
  uintptr_t page = address & ~(uintptr_t)(PROBE_PAGE - 1), end = page + PROBE_PAGE;
  if (address < range->low ? range->low - address > GAP_MAX : address - range->high > GAP_MAX)
    return false;
  if (range->low == range->high) range->low = range->high &= ~(uintptr_t)(PROBE_PAGE - 1);
  for (; range->high < end; range->high += PROBE_PAGE)
    if (!probe(range, range->high)) return false;
  for (; range->low > page; range->low -= PROBE_PAGE)
    if (!probe(range, range->low - PROBE_PAGE)) return false;
  return true;
}

bool stack_range_leave_for(struct stack_range *range, uintptr_t address) {
  if (range->is_own || !probe(range, address)) return false;
  range->low = address & ~(uintptr_t)(PROBE_PAGE - 1);
  range->high = range->low + PROBE_PAGE;
  return true;
}

/* Unwind information that is only on disk: the .debug_frame of objects (or of their debug files)
 * whose code was built without tables that are loaded. Read at the first frame in such code; kept,
 * within a bound, until debug_frames_forget.
 * Context: agent threads; locks: none (one owner).
 */
#ifndef AGENT_DEBUG_FRAMES_H
#define AGENT_DEBUG_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct debug_frames;

struct debug_frames *debug_frames_new(void); /* NULL: out of memory */
void debug_frames_release(struct debug_frames *frames); /* NULL is fine */
void debug_frames_forget(struct debug_frames *frames);

struct debug_frame_entry {
  const uint8_t *section; /* the copy of it, until debug_frames_forget */
  size_t size;
  size_t offset; /* of the entry (FDE) */
  uint64_t bias; /* to be added to its addresses */
};

/* False: there is none. */
bool debug_frames_find(struct debug_frames *frames, uintptr_t pc, struct debug_frame_entry *out);

#endif

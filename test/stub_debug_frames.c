/* debug_frames.h where no file is read. */
#include "agent/stacks/debug_frames.h"

#include "agent/runtime/agent_memory.h"

struct debug_frames {
  int nothing;
};

struct debug_frames *debug_frames_new(void) {
  return agent_calloc(1, sizeof(struct debug_frames));
}
void debug_frames_release(struct debug_frames *frames) { agent_free(frames); }
void debug_frames_forget(struct debug_frames *frames) { (void)frames; }
bool debug_frames_find(struct debug_frames *frames, uintptr_t pc, struct debug_frame_entry *out) {
  (void)frames, (void)pc, (void)out;
  return false;
}

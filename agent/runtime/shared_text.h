/* A text that one thread changes while others read it: readers get a copy. Zero-initialised means
 * "". Context: agent threads, and the host's where no agent thread runs; locks: its own, for the
 * time of a copy. */
#ifndef AGENT_SHARED_TEXT_H
#define AGENT_SHARED_TEXT_H

#include <stdio.h>
#include <string.h>

#include "agent_lock.h"

enum { SHARED_TEXT_MAX = 768 };

struct shared_text {
  struct agent_lock lock;
  char text[SHARED_TEXT_MAX];
};

/* Cut short where it is too long. */
static inline void shared_text_write(struct shared_text *shared, const char *text) {
  agent_lock_take(&shared->lock);
  snprintf(shared->text, sizeof shared->text, "%s", text);
  agent_lock_release(&shared->lock);
}

static inline const char *shared_text_read(struct shared_text *shared, char out[SHARED_TEXT_MAX]) {
  agent_lock_take(&shared->lock);
  memcpy(out, shared->text, strlen(shared->text) + 1);
  agent_lock_release(&shared->lock);
  return out;
}

#endif

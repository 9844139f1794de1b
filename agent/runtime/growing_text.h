/* Bytes in memory that grow at the end; what was added is found by its offset.
 * Context: agent threads; locks: none (one owner). */
#ifndef AGENT_GROWING_TEXT_H
#define AGENT_GROWING_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "agent_memory.h"

struct growing_text {
  char *bytes;
  size_t used, capacity;
  bool failed; /* out of memory once; everything since then was dropped */
};

static inline void growing_text_bytes(struct growing_text *text, const void *bytes, size_t size) {
  if (text->failed) return;
  if (size > text->capacity - text->used) {
    size_t capacity = text->capacity ? text->capacity : 4096;
    while (capacity - text->used < size) capacity *= 2;
    char *grown = agent_realloc(text->bytes, capacity);
    if (!grown) {
      text->failed = true;
      return;
    }
    text->bytes = grown;
    text->capacity = capacity;
  }
  if (size > 0) memcpy(text->bytes + text->used, bytes, size);
  text->used += size;
}

static inline void growing_text_text(struct growing_text *text, const char *what) {
  growing_text_bytes(text, what, strlen(what));
}

static inline void growing_text_release(struct growing_text *text) {
  agent_free(text->bytes);
  *text = (struct growing_text){0};
}

#endif

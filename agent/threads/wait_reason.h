/* What a blocked thread waits for: a state of Go's vocabulary, and in a few words which descriptor,
 * lock, time or process it is.
 *
 * Two steps, because a futex means nothing by itself: what is in memory and behind descriptors is
 * read while the thread is known to be blocked; later, with the names of its functions, a futex
 * becomes a mutex, a condition or a semaphore. Context: agent threads; locks: none (one dump at a
 * time).
 */
#ifndef AGENT_WAIT_REASON_H
#define AGENT_WAIT_REASON_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/symbols/mappings.h"
#include "agent/runtime/memory_reader.h"
#include "agent/symbols/symbolizer.h"
#include "thread_dump.h"

enum { WAIT_TEXT_MAX = 160, FUTEX_WORDS = 5 };

struct wait_reason {
  const char *state;
  char text[WAIT_TEXT_MAX]; /* "": nothing to say. One line, printable */
  bool is_futex;
  uint32_t words[FUTEX_WORDS]; /* from the futex on: the fields of a mutex or a lock beside it */
  uint32_t word_count;
  struct thread_need need; /* of a futex that was named */
};

/* thread: its syscall and arguments are filled in. stopped: see blocked_thread.h; matters without a
 * system call. */
void wait_reason_look(const struct dumped_thread *thread, bool stopped,
                      struct memory_reader *memory, struct wait_reason *out);

/* The same where only the function is known in which it waits in the kernel ("": not even that). */
void wait_reason_guess(const char *kernel_function, bool stopped, struct wait_reason *out);
/* Whether a thread that waits there may be interrupted by a signal whose handler lets its call go
 * on: it has moved no bytes yet, of which the call would tell the number instead, and has no
 * timeout that would start anew. */
bool wait_reason_is_harmless_to_interrupt(const char *kernel_function);
/* Adds that its stack was asked for by a signal. */
void wait_reason_was_asked(struct wait_reason *reason);

/* thread: its frames are, too. Completes what wait_reason_look began. */
void wait_reason_name(const struct dumped_thread *thread, const struct mappings *mappings,
                      struct symbolizer_session *symbols, struct wait_reason *reason);

#endif

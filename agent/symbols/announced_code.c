#include "announced_code.h"

#include <stdbool.h>
#include <string.h>

#include "shim/stacks/registered_frames.h"
#include "agent/runtime/agent_lock.h"
#include "agent/runtime/agent_memory.h"
#include "announced_object.h"

/* from libbacktrace: glibc's qsort may use the host's malloc */
#include "backtrace.h"
#include "internal.h"

static struct agent_lock lock;
/* Under the lock: what was announced at the last look, in order. */
static struct jit_object *seen;
static size_t seen_count;

static int compare(const void *left, const void *right) {
  return memcmp(left, right, sizeof(struct jit_object)); /* any order will do */
}

/* Odd: no table that the program registers itself has it. */
static uint64_t key_of(const struct jit_object *object) { return object->entry | 1; }

static void add(const struct jit_object *at) {
  struct announced_object object;
  /* Before a fork the parent's agent may have done it, and this one does not know. */
  registered_frames_remove(key_of(at));
  if (!announced_object_open(&object, at)) return;
  announced_object_register(&object, key_of(at));
  announced_object_close(&object);
}

void announced_code_update(void) {
  size_t count, old = 0;
  agent_lock_take(&lock);
  struct jit_object *now = jit_interface_list(&count);
  if (count) backtrace_qsort(now, count, sizeof *now, compare);
  /* First what has gone: something else may be at its place. */
  for (size_t next = 0; old < seen_count; old++) {
    while (next < count && compare(&now[next], &seen[old]) < 0) next++;
    if (next == count || compare(&now[next], &seen[old]) != 0)
      registered_frames_remove(key_of(&seen[old]));
  }
  old = 0;
  for (size_t next = 0; next < count; next++) {
    while (old < seen_count && compare(&seen[old], &now[next]) < 0) old++;
    if (old == seen_count || compare(&seen[old], &now[next]) != 0) add(&now[next]);
  }
  agent_free(seen);
  seen = now;
  seen_count = count;
  agent_lock_release(&lock);
}

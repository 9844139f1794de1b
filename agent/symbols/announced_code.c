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
static struct jit_list seen; /* under the lock: at the last look, in order */

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

/* Both in order. First what has gone: something else may be at its place. */
static void exchange(const struct jit_list *now) {
  size_t old = 0;
  for (size_t next = 0; old < seen.count; old++) {
    while (next < now->count && compare(&now->objects[next], &seen.objects[old]) < 0) next++;
    if (next == now->count || compare(&now->objects[next], &seen.objects[old]) != 0)
      registered_frames_remove(key_of(&seen.objects[old]));
  }
  old = 0;
  for (size_t next = 0; next < now->count; next++) {
    while (old < seen.count && compare(&seen.objects[old], &now->objects[next]) < 0) old++;
    if (old == seen.count || compare(&seen.objects[old], &now->objects[next]) != 0)
      add(&now->objects[next]);
  }
}

/* An object at the same place and of the same size may be another one. */
static void forget_all(void) {
  for (size_t i = 0; i < seen.count; i++) registered_frames_remove(key_of(&seen.objects[i]));
  jit_list_release(&seen);
  seen = (struct jit_list){.count = 0};
}

void announced_code_update(bool afresh) {
  agent_lock_take(&lock);
  if (afresh) forget_all();
  if (seen.count == 0 || !announcements_hold()) {
    struct jit_list now;
    jit_interface_read(&now);
    if (now.count) backtrace_qsort(now.objects, now.count, sizeof *now.objects, compare);
    announcements_unset();
    exchange(&now);
    announcements_set(now.heads, now.head_count);
    jit_list_release(&seen);
    seen = now;
  }
  agent_lock_release(&lock);
}

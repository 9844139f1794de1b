#include "sandbox.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shim/base/confinement.h"
#include "agent_inherited.h"
#include "task_files.h"

enum { STATUS_MAX = 4096, STRICT = INT32_MAX };

static _Atomic int32_t filters_at_start AGENT_INHERITED; /* and 1; 0: not known yet */

/* proc(5): Seccomp 0 none, 1 strict, 2 filter; Seccomp_filters their number (Linux 5.9; before that
 * a filter counts as one). */
static int32_t filters_of(int32_t tid) {
  char status[STATUS_MAX];
  int task = task_open(tid);
  if (task < 0) return 0;
  ssize_t size = task_file_read(task, "status", status, sizeof status);
  close(task);
  const char *mode = size > 0 ? strstr(status, "\nSeccomp:") : NULL,
             *filters = size > 0 ? strstr(status, "\nSeccomp_filters:") : NULL;
  long mode_number = mode ? strtol(mode + sizeof "\nSeccomp:" - 1, NULL, 10) : 0;
  if (mode_number == 1) return STRICT;
  return filters ? (int32_t)strtol(filters + sizeof "\nSeccomp_filters:" - 1, NULL, 10)
                 : mode_number == 2;
}

void sandbox_remember(void) {
  if (atomic_load_explicit(&filters_at_start, memory_order_relaxed)) return;
  atomic_store_explicit(&filters_at_start, filters_of(0) + 1, memory_order_relaxed);
}

bool sandbox_is_tighter(int32_t tid) {
  int32_t filters = filters_of(tid);
  int32_t known = atomic_load_explicit(&filters_at_start, memory_order_relaxed);
  bool tighter = known && filters >= known;
  if (tighter) confinement_found(filters == STRICT ? CONFINEMENT_STRICT : CONFINEMENT_FILTER);
  return tighter;
}

bool sandbox_look(void) {
  return confinement_now() != CONFINEMENT_NONE || sandbox_is_tighter((int32_t)getpid());
}

bool sandbox_has_filter(void) { return filters_of(0) > 0; }

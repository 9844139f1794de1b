#define _GNU_SOURCE
#include "request_watch.h"

#include <poll.h>
#include <stddef.h>

#include "agent/runtime/agent_thread.h"
#include "civetweb_system.h"

/* A client that has sent all and closes its side at once gets what takes less than that. */
static const int64_t FIRST_LOOK_NS = 100 * 1000 * 1000, LOOK_EVERY_NS = 20 * 1000 * 1000;

/* Of this thread; NULL: it serves no request. */
static _Thread_local struct request_watch *watched __attribute__((tls_model("initial-exec")));

void request_watch_begin(struct request_watch *watch, int descriptor) {
  *watch = (struct request_watch){.descriptor = descriptor,
                                  .next_look_ns = agent_monotonic_nanoseconds() + FIRST_LOOK_NS};
  watched = watch;
}

void request_watch_begin_for(struct request_watch *watch, bool (*wanted)(void)) {
  *watch = (struct request_watch){.wanted = wanted, .descriptor = -1};
  watched = watch;
}

void request_watch_end(void) { watched = NULL; }

bool request_is_wanted(void) {
  struct request_watch *watch = watched;
  if (watch == NULL) return true;
  if (watch->is_over) return false;
  if (watch->wanted) return !(watch->is_over = !watch->wanted());
  if (civetweb_system_interrupted()) return !(watch->is_over = true);
  int64_t now = agent_monotonic_nanoseconds();
  if (now < watch->next_look_ns) return true;
  watch->next_look_ns = now + LOOK_EVERY_NS;
  struct pollfd client = {.fd = watch->descriptor, .events = POLLRDHUP};
  watch->is_over = poll(&client, 1, 0) > 0;
  return !watch->is_over;
}

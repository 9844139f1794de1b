#include "connection_inbox.h"

#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "agent/runtime/agent_lock.h"

static struct agent_lock lock;
/* Guarded by lock. */
static struct inbox_connection waiting[INBOX_CAPACITY];
static unsigned first, count;
static int event_number; /* the eventfd + 1; 0: none yet */

static int event_of(void) {
  if (!event_number) event_number = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) + 1;
  return event_number - 1;
}

int connection_inbox_event(void) {
  agent_lock_take(&lock);
  int event = event_of();
  agent_lock_release(&lock);
  return event;
}

bool connection_inbox_put(const struct inbox_connection *connection) {
  const uint64_t one = 1;
  agent_lock_take(&lock);
  bool taken = count < INBOX_CAPACITY && event_of() >= 0 &&
               (count > 0 || write(event_of(), &one, sizeof one) == sizeof one);
  if (taken) waiting[(first + count++) % INBOX_CAPACITY] = *connection;
  agent_lock_release(&lock);
  return taken;
}

bool connection_inbox_is_crowded(void) {
  agent_lock_take(&lock);
  bool crowded = count >= INBOX_CAPACITY / 2;
  agent_lock_release(&lock);
  return crowded;
}

bool connection_inbox_waits(void) {
  agent_lock_take(&lock);
  bool any = count > 0;
  agent_lock_release(&lock);
  return any;
}

bool connection_inbox_take(struct inbox_connection *out) {
  uint64_t ignored;
  agent_lock_take(&lock);
  bool any = count > 0;
  if (any) {
    *out = waiting[first];
    first = (first + 1) % INBOX_CAPACITY;
    if (--count == 0) any = read(event_of(), &ignored, sizeof ignored) >= 0 || any;
  }
  agent_lock_release(&lock);
  return any;
}

void connection_inbox_close(void) {
  struct inbox_connection connection;
  while (connection_inbox_take(&connection)) close(connection.descriptor);
  agent_lock_take(&lock);
  if (event_number) close(event_number - 1);
  event_number = 0;
  agent_lock_release(&lock);
}

#include "civetweb_connections.h"

#include <linux/sockios.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agent/runtime/agent_thread.h"
#include "civetweb_alone.h"

#define SECONDS INT64_C(1000000000)
enum {
  HEAD_SECONDS = 5, /* for a request's head, from the moment a worker reads it */
  BODY_SECONDS = 10,
  CROWDED_HEAD_SECONDS = 1, /* while more connections are open than there are workers */
  CROWDED_BODY_SECONDS = 2,
  WRITE_GRACE_SECONDS = 20,
  SLOWEST_CLIENT = 16 * 1024, /* bytes a second after the grace time */
  LINGER_BYTES = 256 * 1024
};

static struct connection connections[CIVETWEB_DESCRIPTOR_MAX]; /* by descriptor */
static _Atomic unsigned connection_count;
static unsigned worker_count;

void civetweb_connections_begin(unsigned workers) {
  worker_count = workers;
  atomic_store_explicit(&connection_count, 0, memory_order_release);
}

unsigned civetweb_connection_count(void) {
  return atomic_load_explicit(&connection_count, memory_order_acquire);
}

struct connection *civetweb_connection_open(int descriptor) {
  atomic_fetch_add_explicit(&connection_count, 1, memory_order_acq_rel);
  connections[descriptor] = (struct connection){.open = true};
  return &connections[descriptor];
}

void civetweb_connection_close(struct connection *connection) {
  connection->open = false;
  atomic_fetch_sub_explicit(&connection_count, 1, memory_order_acq_rel);
}

void civetweb_connections_end(void) {
  for (int descriptor = 0; descriptor < CIVETWEB_DESCRIPTOR_MAX; descriptor++) {
    if (!connections[descriptor].open) continue;
    connections[descriptor].open = false;
    close(descriptor);
  }
}

struct connection *civetweb_connection_of(int descriptor) {
  return descriptor >= 0 && descriptor < CIVETWEB_DESCRIPTOR_MAX ? &connections[descriptor] : NULL;
}

static void set_deadlines(struct connection *connection, int64_t seconds, int64_t crowded_seconds) {
  int64_t now = agent_monotonic_nanoseconds();
  if (!connection) return;
  connection->deadline_ns = now + seconds * SECONDS;
  connection->crowded_deadline_ns = now + crowded_seconds * SECONDS;
}

int64_t civetweb_connection_time_left(int descriptor, struct connection *connection) {
  int64_t now = agent_monotonic_nanoseconds();
  if (connection->deadline_ns == 0) set_deadlines(connection, HEAD_SECONDS, CROWDED_HEAD_SECONDS);
  bool crowded = civetweb_connection_count() > worker_count || civetweb_is_alone();
  int64_t end = crowded ? connection->crowded_deadline_ns : connection->deadline_ns;
  if (connection->response_start_ns && !connection->done) {
    int unread = 0; /* megabytes may wait in the socket's buffer: they are not the client's merit */
    if (ioctl(descriptor, SIOCOUTQ, &unread) != 0 || (size_t)unread > connection->sent) unread = 0;
    int64_t fair =
        (WRITE_GRACE_SECONDS + (int64_t)((connection->sent - (size_t)unread) / SLOWEST_CLIENT)) *
        SECONDS;
    if (connection->response_start_ns + fair < end) end = connection->response_start_ns + fair;
  }
  if (end <= now) connection->late = true;
  return end - now;
}

int civetweb_connection_milliseconds(int64_t nanoseconds) {
  if (nanoseconds <= 0) return 0;
  int64_t milliseconds = (nanoseconds + 999999) / 1000000;
  const int most = civetweb_is_alone() ? CROWD_CHECK_MILLISECONDS : 1000000;
  return milliseconds > most ? most : (int)milliseconds;
}

void civetweb_connection_reads_body(int descriptor) {
  set_deadlines(civetweb_connection_of(descriptor), BODY_SECONDS, CROWDED_BODY_SECONDS);
}

void civetweb_connection_responding(int descriptor) {
  struct connection *connection = civetweb_connection_of(descriptor);
  if (!connection || connection->response_start_ns) return;
  connection->response_start_ns = agent_monotonic_nanoseconds();
  connection->deadline_ns = connection->crowded_deadline_ns = INT64_MAX;
}

void civetweb_connection_done(int descriptor) {
  struct connection *connection = civetweb_connection_of(descriptor);
  if (!connection || connection->done) return;
  connection->done = true;
  connection->deadline_ns = agent_monotonic_nanoseconds() + LINGER_MILLISECONDS * INT64_C(1000000);
  connection->crowded_deadline_ns = connection->deadline_ns;
  connection->linger_left = LINGER_BYTES;
}

bool civetweb_connection_responded(int descriptor) {
  struct connection *connection = civetweb_connection_of(descriptor);
  return connection && connection->response_start_ns;
}

size_t civetweb_connection_received(int descriptor) {
  return civetweb_connection_of(descriptor) ? connections[descriptor].received : 0;
}

bool civetweb_connection_authenticated(int descriptor) {
  struct connection *connection = civetweb_connection_of(descriptor);
  return connection && connection->authenticated;
}

enum civetweb_route civetweb_connection_route(int descriptor) {
  struct connection *connection = civetweb_connection_of(descriptor);
  return connection ? (enum civetweb_route)connection->route : CIVETWEB_HERE;
}

bool civetweb_connection_late(int descriptor) {
  return civetweb_connection_of(descriptor) && connections[descriptor].late;
}

void civetweb_connection_cut_short(int descriptor) {
  if (civetweb_connection_of(descriptor)) connections[descriptor].cut_short = true;
}

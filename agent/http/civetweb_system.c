#include "civetweb_system.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/runtime/agent_thread.h"
#include "civetweb_alone.h"
#include "civetweb_connections.h"
#include "civetweb_workers.h"
#include "connection_gate.h"
#include "connection_inbox.h"
#include "agent/runtime/log.h"
#include "agent/runtime/paced_poll.h"
#include "refused_connection.h"

enum {
  GUESTS_MAX = 8, /* connections that may be open when a guest comes: workers are left for others */
  ACCEPT_RETRY_MILLISECONDS = 200
};

static _Atomic int64_t last_activity_ns;
/* Who accepts says so, then looks whether the server closes; the admin thread closes it, then looks
 * whether anybody accepts (both seq_cst): one of them sees the other, and no connection is accepted
 * by a server that ends. */
static _Atomic bool is_accepting, is_closing;
static struct civetweb_start start; /* this and the next: written before civetweb's threads start */
static int adopted_listener; /* what civetweb takes for its listener: a socket that nobody uses */
static int interrupt_event,
    listener_event; /* the second: the listener is another one; read by the acceptor only */
static _Atomic int listener;
static _Atomic bool interrupted;

static void close_events(void) {
  if (interrupt_event >= 0) close(interrupt_event);
  if (listener_event >= 0) close(listener_event);
  interrupt_event = listener_event = -1;
}

void civetweb_system_abandon(void) {
  if (adopted_listener >= 0) close(adopted_listener); /* civetweb leaves it, with no worker */
  if (civetweb_is_alone()) return close_events();
  civetweb_workers_abandon();
  close_events();
}

bool civetweb_system_prepare(const struct civetweb_start *next) {
  start = *next;
  atomic_store_explicit(&listener, next->listener, memory_order_release);
  adopted_listener = -1;
  interrupt_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  listener_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  atomic_store_explicit(&interrupted, false, memory_order_release);
  civetweb_connections_begin(start.workers);
  atomic_store(&is_closing, false);
  atomic_store_explicit(&last_activity_ns, agent_monotonic_nanoseconds(), memory_order_relaxed);
  bool has_events = interrupt_event >= 0 && listener_event >= 0;
  bool prepared = has_events && (civetweb_is_alone() || civetweb_workers_prepare(start.workers));
  if (!prepared) close_events();
  return prepared;
}

void civetweb_system_listen(int next) {
  atomic_store_explicit(&listener, next, memory_order_release);
  eventfd_write(listener_event, 1);
}

void civetweb_system_interrupt(void) {
  atomic_store_explicit(&interrupted, true, memory_order_release);
  eventfd_write(interrupt_event, 1);
}

void civetweb_system_finish(void) {
  civetweb_connections_end();
  close_events();
}

bool civetweb_system_interrupted(void) {
  bool told = atomic_load_explicit(&interrupted, memory_order_acquire);
  return told || (civetweb_is_alone() && start.stopped());
}
/* Before each wait of a request's. */
static bool interrupted_meanwhile(void) {
  if (civetweb_is_alone()) start.meanwhile();
  return civetweb_system_interrupted();
}
int64_t civetweb_last_activity(void) {
  return atomic_load_explicit(&last_activity_ns, memory_order_relaxed);
}

bool civetweb_connection_wait(int descriptor, int64_t deadline_ns) {
  for (;;) {
    int64_t left = deadline_ns - agent_monotonic_nanoseconds();
    if (interrupted_meanwhile()) return false;
    if (left <= 0) return true;
    struct pollfd waits[2] = {{.fd = descriptor, .events = POLLRDHUP},
                              {.fd = interrupt_event, .events = POLLIN}};
    int ready = poll(waits, 2, civetweb_connection_milliseconds(left));
    if (ready < 0 && errno != EINTR) return false;
    if (ready > 0 && (waits[0].revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL))) return false;
  }
}

/* ---- what civetweb calls ---- */

int civetweb_socket(int domain, int type, int protocol) {
  (void)domain, (void)type, (void)protocol;
  return adopted_listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

int civetweb_close(int descriptor) {
  if (descriptor == adopted_listener) adopted_listener = -1;
  return close(descriptor);
}

static void fill_loopback(struct sockaddr *address, socklen_t *size, unsigned port) {
  struct sockaddr_in loopback = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  loopback.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  memcpy(address, &loopback, *size < sizeof(loopback) ? *size : sizeof(loopback));
  *size = sizeof(loopback);
}

int civetweb_getsockname(int descriptor, struct sockaddr *address, socklen_t *size) {
  (void)descriptor;
  fill_loopback(address, size, start.port ? start.port : 1);
  return 0;
}

static void note_activity(void) {
  atomic_store_explicit(&last_activity_ns, agent_monotonic_nanoseconds(), memory_order_relaxed);
}

/* Out of descriptors or memory, a connection stays in the queue and poll() says so at once: neither
 * spin nor let the client wait for ever. */
static void refuse_the_queue(int from) {
  struct pollfd wait = {.fd = interrupt_event, .events = POLLIN};
  static const char text[] = "the agent is out of descriptors";
  for (int i = 0; i < CIVETWEB_CONNECTION_MAX && refuse_next_connection(from, text) &&
                  !civetweb_system_interrupted();
       i++) {}
  if (errno != EAGAIN) poll(&wait, 1, ACCEPT_RETRY_MILLISECONDS);
}

static bool is_shortage(int error) {
  return error != EAGAIN && error != ECONNABORTED && error != EINTR;
}

static int accept_from(int from) {
  int descriptor = accept4(from, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (descriptor < 0 && is_shortage(errno) &&
      civetweb_connection_count() > 0) { /* one of them may be about to end */
    struct pollfd wait = {.fd = interrupt_event, .events = POLLIN};
    poll(&wait, 1, ACCEPT_RETRY_MILLISECONDS);
    descriptor = accept4(from, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  }
  if (descriptor < 0 && is_shortage(errno)) {
    note_activity(); /* a client waits: a server that ended would be started for it again at once */
    refuse_the_queue(from);
  }
  return descriptor;
}

/* -1: there is nobody who may come in. */
static int next_connection(struct inbox_connection *given) {
  if (connection_inbox_waits()) note_activity(); /* before it is taken: agent.c looks so, too */
  if (connection_inbox_take(given)) return given->descriptor;
  int from = atomic_load_explicit(&listener, memory_order_acquire);
  int descriptor = from >= 0 ? accept_from(from) : -1;
  return descriptor >= 0 && connection_gate_admits(descriptor, from) ? descriptor : -1;
}

static int accept_next(struct sockaddr *address, socklen_t *size) {
  struct inbox_connection given = {.descriptor = -1};
  int descriptor = next_connection(&given);
  if (descriptor < 0) return errno = EAGAIN, -1;
  note_activity();
  const char *refusal = civetweb_has_workers() ? NULL : "the agent is out of memory";
  unsigned most = given.is_guest ? GUESTS_MAX : CIVETWEB_CONNECTION_MAX;
  bool is_full = descriptor >= CIVETWEB_DESCRIPTOR_MAX || civetweb_connection_count() >= most;
  if (!refusal && is_full) refusal = "too many connections";
  if (refusal) return refuse_connection(descriptor, refusal), errno = EAGAIN, -1;
  struct connection *connection = civetweb_connection_open(descriptor);
  connection->authenticated = given.authenticated;
  connection->prefix_size = given.prefix_size;
  connection->routed = !start.route;
  memcpy(connection->prefix, given.prefix, given.prefix_size);
  fill_loopback(address, size, (unsigned)descriptor);
  return descriptor;
}

int civetweb_accept(int adopted, struct sockaddr *address, socklen_t *size) {
  (void)adopted;
  atomic_store(&is_accepting, true);
  int descriptor = atomic_load(&is_closing) ? (errno = EAGAIN, -1) : accept_next(address, size);
  int error = errno;
  atomic_store(&is_accepting, false);
  errno = error;
  return descriptor;
}

bool civetweb_close_if_idle_since(int64_t monotonic_ns) {
  atomic_store(&is_closing, true);
  bool is_idle = !atomic_load(&is_accepting) && civetweb_connection_count() == 0 &&
                 civetweb_last_activity() < monotonic_ns && !connection_inbox_waits();
  if (!is_idle) atomic_store(&is_closing, false);
  return is_idle;
}

int civetweb_poll(struct pollfd *waits, nfds_t count, int timeout_ms);
ssize_t civetweb_recv(int descriptor, void *buffer, size_t size, int flags);

/* Closing a socket with unread bytes resets the connection, and the client may then lose the
 * answer: read for a moment. */
static void linger(int descriptor, struct connection *connection) {
  char ignored[4096];
  civetweb_connection_done(descriptor);
  while (civetweb_recv(descriptor, ignored, sizeof(ignored), 0) != 0) {
    struct pollfd wait = {.fd = descriptor, .events = POLLIN};
    if (civetweb_connection_time_left(descriptor, connection) <= 0 || connection->linger_left == 0)
      return;
    if (civetweb_poll(&wait, 1, LINGER_MILLISECONDS) <= 0 || civetweb_system_interrupted()) return;
    if (!(wait.revents & POLLIN)) return;
  }
}

/* civetweb closes a connection by way of shutdown, and nothing else. */
int civetweb_shutdown(int descriptor, int how) {
  struct connection *connection = civetweb_connection_of(descriptor);
  bool is_ours = !connection || connection->route != CIVETWEB_ELSEWHERE; /* dup3 may have failed */
  int result = is_ours ? shutdown(descriptor, how) : 0;
  if (connection && connection->open) {
    if (connection->cut_short) linger(descriptor, connection);
    civetweb_connection_close(connection);
    note_activity();
  }
  return result;
}

static int poll_listeners(struct pollfd *adopted, int timeout_ms) {
  if (civetweb_is_alone()) civetweb_alone_yield(), timeout_ms = 0;
  struct pollfd waits[4] = {{.fd = connection_inbox_event(), .events = POLLIN},
                            {.fd = atomic_load(&listener), .events = POLLIN},
                            {.fd = interrupt_event, .events = POLLIN},
                            {.fd = listener_event, .events = POLLIN}};
  int ready = paced_poll(waits, 4, timeout_ms);
  uint64_t ignored;
  if (ready > 0 && waits[3].revents)
    ready = read(listener_event, &ignored, sizeof(ignored)) > 0 ? 0 : ready;
  adopted->revents = ready > 0 ? waits[0].revents | (waits[1].revents & POLLIN) : 0;
  return ready > 0 ? adopted->revents != 0 : ready;
}

static int poll_connection(struct pollfd *wait, int timeout_ms) {
  struct pollfd both[2] = {*wait, {.fd = interrupt_event, .events = POLLIN}};
  struct connection *connection = civetweb_connection_of(wait->fd);
  for (;;) { /* in pieces, since a crowd may come and shorten the deadline */
    if (interrupted_meanwhile()) return errno = ECANCELED, -1;
    int piece = timeout_ms;
    if (connection) {
      int64_t left = civetweb_connection_time_left(wait->fd, connection);
      if (left <= 0) return errno = ETIMEDOUT, -1;
      if (left > CROWD_CHECK_MILLISECONDS * INT64_C(1000000))
        left = CROWD_CHECK_MILLISECONDS * INT64_C(1000000);
      if (piece < 0 || civetweb_connection_milliseconds(left) < piece)
        piece = civetweb_connection_milliseconds(left);
    }
    int ready = poll(both, 2, piece);
    if (ready < 0 && errno == EINTR) continue; /* a call of setuid interrupts every thread */
    wait->revents = both[0].revents;
    if (ready > 0) return both[0].revents ? 1 : 0;
    if (ready < 0 || piece == timeout_ms) return ready;
    if (timeout_ms > 0) timeout_ms -= piece;
  }
}

static bool has_prefix(const struct connection *connection) {
  return connection && connection->prefix_used < connection->prefix_size;
}

/* civetweb polls one descriptor at a time: its listener or a connection. */
int civetweb_poll(struct pollfd *waits, nfds_t count, int timeout_ms) {
  (void)count;
  if (waits[0].fd == adopted_listener) return poll_listeners(waits, timeout_ms);
  if (!(waits[0].events & POLLIN) || !has_prefix(civetweb_connection_of(waits[0].fd)))
    return poll_connection(waits, timeout_ms);
  waits[0].revents = POLLIN;
  return 1;
}

/* Reads as much of a request as tells whose it is. False: it is not for civetweb, or unreadable. */
static bool find_route(int descriptor, struct connection *connection) {
  int dummy = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  enum civetweb_route route = dummy < 0 ? CIVETWEB_HERE : CIVETWEB_UNDECIDED;
  bool readable = true;
  while (route == CIVETWEB_UNDECIDED) {
    size_t room = sizeof(connection->prefix) - connection->prefix_size;
    if (connection->prefix_size)
      route = start.route(descriptor, connection->authenticated, connection->prefix,
                          connection->prefix_size);
    if (route != CIVETWEB_UNDECIDED || room == 0) break;
    ssize_t received =
        recv(descriptor, connection->prefix + connection->prefix_size, room, MSG_DONTWAIT);
    if (received > 0) {
      connection->prefix_size = (unsigned char)(connection->prefix_size + received);
    } else {
      struct pollfd wait = {.fd = descriptor, .events = POLLIN};
      readable = received == 0 || errno == EAGAIN;
      if (received == 0 || !readable || poll_connection(&wait, INT32_MAX) <= 0) break;
    }
  }
  /* Nobody else's, as far as it tells: the client is asked for here. */
  if (route == CIVETWEB_UNDECIDED) route = CIVETWEB_HERE;
  connection->routed = true;
  connection->route = (unsigned char)route;
  if (route == CIVETWEB_ELSEWHERE) {
    dup3(dummy, descriptor, O_CLOEXEC); /* what civetweb still does to it (modes, shutdown) must not
                                           touch what is another process's now */
    connection->prefix_size = 0;
  }
  if (dummy >= 0) close(dummy);
  return readable && route != CIVETWEB_ELSEWHERE;
}

ssize_t civetweb_recv(int descriptor, void *buffer, size_t size, int flags) {
  struct connection *connection = civetweb_connection_of(descriptor);
  if (connection && !connection->routed && !find_route(descriptor, connection))
    return errno = ECONNRESET, -1;
  if (has_prefix(connection)) {
    size_t left = (size_t)(connection->prefix_size - connection->prefix_used),
           piece = left < size ? left : size;
    memcpy(buffer, connection->prefix + connection->prefix_used, piece);
    connection->prefix_used = (unsigned char)(connection->prefix_used + piece);
    connection->received += piece;
    return (ssize_t)piece;
  }
  if (connection && (civetweb_connection_time_left(descriptor, connection) <= 0 ||
                     (connection->done && connection->linger_left == 0))) {
    errno = ETIMEDOUT;
    return -1;
  }
  ssize_t received = recv(descriptor, buffer, size, flags | MSG_DONTWAIT);
  if (connection && received > 0) {
    connection->received += (size_t)received;
    size_t left = connection->linger_left;
    if (connection->done)
      connection->linger_left -= (size_t)received < left ? (size_t)received : left;
  }
  return received;
}

ssize_t civetweb_send(int descriptor, const void *buffer, size_t size, int flags) {
  struct connection *connection = civetweb_connection_of(descriptor);
  if (connection && civetweb_connection_time_left(descriptor, connection) <= 0)
    return errno = EPIPE, -1;
  ssize_t sent = send(descriptor, buffer, size, flags | MSG_NOSIGNAL | MSG_DONTWAIT);
  if (connection && sent > 0) connection->sent += (size_t)sent;
  return sent;
}

/* civetweb's extension point for its error log: build/gen/external_mg_cry_internal_impl.inl calls
 * it. The arguments are mostly what a client sent. */
void civetweb_log(const char *format, va_list arguments) {
  (void)arguments;
  if (!start.quiet) log_words_of(format);
}

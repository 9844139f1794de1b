#include "tls_front.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shim/base/config.h"
#include "agent/runtime/agent_thread.h"
#include "agent/http/listen_address.h"
#include "agent/runtime/log.h"
#include "agent/runtime/shared_text.h"
#include "tls_connection.h"
#include "tls_context.h"
#include "tls_library.h"
#include "tls_lobby.h"

#define MILLISECONDS INT64_C(1000000)
enum {
  CONNECTIONS = 16,
  /* A handshake costs a signature, before the other side has shown anything: strangers get no more
     than some per cent of a processor. */
  HANDSHAKES_AT_ONCE = 16,
  HANDSHAKE_EVERY_MILLISECONDS = 62,
  HANDSHAKING_MAX = 8, /* of the connections; who waits is in tls_lobby.h */
  HANDSHAKE_LEAST_MILLISECONDS = 250, /* before others may have the place */
  ROOM_RETRY_MILLISECONDS = 60,
  ACCEPTS_IN_TURN = 16,
  ACCEPT_EVERY_MILLISECONDS = 16,
  RETRY_MILLISECONDS = 200, /* when there are no descriptors */
  BIND_RETRY_MILLISECONDS = 50,
  BIND_RETRY_MAX_MILLISECONDS = 5000,
  STACK_SIZE = 512 * 1024, /* the loader's and OpenSSL's big numbers */
  ADDRESS_MAX = 160
};

/* Written by the admin thread before the TLS thread exists, then by that one. Text before state
 * (release), so that readers see it whole. */
enum front_state { NOT_ASKED_FOR, STARTING, LISTENING, FAILED };
static _Atomic int state;
static struct shared_text off_reason; /* changes while it is read */
static char address_text[ADDRESS_MAX];

/* The admin thread's. */
static bool running;
static struct agent_thread thread;
static int stop_event; /* readable: the TLS thread is to end */

/* The TLS thread's. */
static struct {
  struct tls_connection *connection;
  struct tls_source source;
  int64_t since_ns;
} places[CONNECTIONS];
static unsigned connection_count;
static int64_t handshakes_whole_ns; /* when all of HANDSHAKES_AT_ONCE may come again */
static int64_t handshake_pause_ns; /* no handshake begins before */
static int64_t accept_pause_ns; /* no accepting before */

const char *tls_front_address(void) {
  return atomic_load_explicit(&state, memory_order_acquire) == LISTENING ? address_text : "";
}

const char *tls_front_off_reason(char out[SHARED_TEXT_MAX]) {
  switch (atomic_load_explicit(&state, memory_order_acquire)) {
    case STARTING: return "not started yet";
    case FAILED: return shared_text_read(&off_reason, out);
    default: return NULL;
  }
}

static void set_state(enum front_state now) {
  atomic_store_explicit(&state, now, memory_order_release);
}

static void keep_reason(const char *reason) {
  shared_text_write(&off_reason, reason);
  set_state(FAILED);
}

/* ---- connections ---- */

static void drop(unsigned index) {
  tls_connection_free(places[index].connection);
  places[index] = places[--connection_count];
}

/* Who waits in the kernel's queue has time to begin to speak, and costs nothing. */
static void accept_some(int listener, int64_t now_ns) {
  for (int i = 0; i < ACCEPTS_IN_TURN; i++) {
    int descriptor = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), on = 1;
    if (descriptor < 0) {
      bool is_short = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
      if (is_short) accept_pause_ns = now_ns + RETRY_MILLISECONDS * MILLISECONDS;
      return;
    }
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    tls_lobby_put(descriptor, now_ns);
  }
  if (!listen_address_queue_is_long(listener))
    accept_pause_ns = now_ns + ACCEPT_EVERY_MILLISECONDS * MILLISECONDS;
}

static unsigned handshaking_of(const struct tls_source *source) {
  unsigned count = 0;
  for (unsigned i = 0; i < connection_count; i++)
    count += !tls_connection_is_authenticated(places[i].connection) &&
             (!source || tls_source_equal(&places[i].source, source));
  return count;
}

/* For who waits: drops the oldest unauthenticated one of the source that has most. False: each of
 * them has hardly begun. */
static bool make_room(int64_t now_ns) {
  unsigned found = CONNECTIONS, most = 0;
  for (unsigned i = 0; i < connection_count; i++) {
    if (tls_connection_is_authenticated(places[i].connection)) continue;
    if (now_ns - places[i].since_ns < HANDSHAKE_LEAST_MILLISECONDS * MILLISECONDS) continue;
    unsigned its = handshaking_of(&places[i].source);
    if (its < most || (its == most && places[i].since_ns >= places[found].since_ns)) continue;
    found = i;
    most = its;
  }
  if (found != CONNECTIONS) drop(found);
  return found != CONNECTIONS;
}

static void begin(struct ssl_ctx_st *context, int64_t now_ns) {
  int64_t every = HANDSHAKE_EVERY_MILLISECONDS * MILLISECONDS;
  if (handshakes_whole_ns < now_ns) handshakes_whole_ns = now_ns;
  handshakes_whole_ns += every;
  handshake_pause_ns = handshakes_whole_ns - HANDSHAKES_AT_ONCE * every;
  struct tls_source source;
  int descriptor = tls_lobby_take(&source);
  struct tls_connection *connection = tls_connection_new(context, descriptor, now_ns);
  if (!connection) {
    close(descriptor);
    return;
  }
  places[connection_count].connection = connection;
  places[connection_count].source = source;
  places[connection_count++].since_ns = now_ns;
}

/* When the next of the lobby may begin; INT64_MAX: nobody waits, or for an event. */
static int64_t begin_some(struct ssl_ctx_st *context, int64_t now_ns) {
  while (tls_lobby_is_ready()) {
    if (now_ns < handshake_pause_ns) return handshake_pause_ns;
    bool is_full = connection_count == CONNECTIONS || handshaking_of(NULL) >= HANDSHAKING_MAX;
    if (is_full && handshaking_of(NULL) == 0) return INT64_MAX;
    if (is_full && !make_room(now_ns)) return now_ns + ROOM_RETRY_MILLISECONDS * MILLISECONDS;
    begin(context, now_ns);
  }
  return INT64_MAX;
}

enum { STOP, LISTENER, FIRST_VISITOR, WAITS = FIRST_VISITOR + TLS_LOBBY_MAX + 2 * CONNECTIONS };

static int milliseconds_until(int64_t deadline_ns, int64_t now_ns) {
  if (deadline_ns == INT64_MAX) return -1;
  return deadline_ns <= now_ns ? 0
                               : (int)((deadline_ns - now_ns + MILLISECONDS - 1) / MILLISECONDS);
}

static void run_connections(const struct pollfd *waits, unsigned count, const int64_t *deadlines,
                            int64_t now) {
  for (unsigned i = count; i-- > 0;) { /* drop moves the last one, which has had its turn */
    const struct pollfd *own = waits + 2 * i;
    bool goes_on = now < deadlines[i];
    if (goes_on && (own[0].revents || own[1].revents))
      goes_on = tls_connection_run(places[i].connection, own[0].revents, now);
    if (!goes_on) drop(i);
  }
}

/* RLIMIT_NOFILE below the number of entries, or no memory. */
static void cannot_wait(struct pollfd *stop, int64_t now) {
  accept_pause_ns = now + RETRY_MILLISECONDS * MILLISECONDS;
  poll(stop, 1, RETRY_MILLISECONDS);
  while (connection_count) drop(connection_count - 1);
  tls_lobby_clear();
}

static void serve(int listener, struct ssl_ctx_st *context) {
  while (true) {
    struct pollfd waits[WAITS];
    int64_t deadlines[CONNECTIONS], now = agent_monotonic_nanoseconds();
    int64_t next = begin_some(context, now);
    bool may_accept = now >= accept_pause_ns, crowded = tls_lobby_is_ready();
    waits[STOP] = (struct pollfd){.fd = stop_event, .events = POLLIN};
    waits[LISTENER] = (struct pollfd){.fd = may_accept ? listener : -1, .events = POLLIN};
    if (!may_accept && accept_pause_ns < next) next = accept_pause_ns;
    unsigned visitors = tls_lobby_wait(waits + FIRST_VISITOR, &next), count = connection_count;
    struct pollfd *of_connections = waits + FIRST_VISITOR + visitors;
    for (unsigned i = 0; i < count; i++) {
      struct pollfd *own = of_connections + 2 * i;
      tls_connection_wait(places[i].connection, crowded, own, own + 1, &deadlines[i]);
      if (deadlines[i] < next) next = deadlines[i];
    }
    if (poll(waits, FIRST_VISITOR + visitors + 2 * count, milliseconds_until(next, now)) < 0) {
      if (errno != EINTR) cannot_wait(waits, now); /* setuid makes libc interrupt every thread */
      continue;
    }
    if (waits[STOP].revents) return;
    now = agent_monotonic_nanoseconds();
    run_connections(of_connections, count, deadlines, now);
    tls_lobby_hear(waits + FIRST_VISITOR, visitors, now);
    if (waits[LISTENER].revents) accept_some(listener, now);
  }
}

/* ---- the thread ---- */

static bool told_to_stop(int timeout_ms) {
  struct pollfd stop = {.fd = stop_event, .events = POLLIN};
  return poll(&stop, 1, timeout_ms) > 0;
}

/* The process that had it before may be about to end, or serve on: tried again and again. -1: told
 * to stop, or hopeless. */
static int open_listener(char *reason, size_t reason_size) {
  struct listen_address address;
  for (int pause = BIND_RETRY_MILLISECONDS;;
       pause = pause * 2 < BIND_RETRY_MAX_MILLISECONDS ? pause * 2 : BIND_RETRY_MAX_MILLISECONDS) {
    listen_address_parse_any(config.tls_address, &address, reason, reason_size);
    int listener = listen_address_open(&address, reason, reason_size);
    if (listener >= 0) {
      listen_address_format(&address, address_text, sizeof address_text);
      return listener;
    }
    if (errno != EADDRINUSE) return -1;
    keep_reason(reason);
    if (told_to_stop(pause)) return -1;
  }
}

static void front_main(void *argument) {
  char reason[SHARED_TEXT_MAX] = "";
  (void)argument;
  int listener = open_listener(reason, sizeof reason);
  if (listener >= 0) {
    struct ssl_ctx_st *context = tls_library_enter_thread(reason, sizeof reason)
                                     ? tls_context_read(reason, sizeof reason)
                                     : NULL;
    if (context) {
      set_state(LISTENING);
      log_event("remote admin on https://%s/debug/pprof/", address_text);
      serve(listener, context);
      while (connection_count) drop(connection_count - 1);
      tls_lobby_clear();
      tls_library.SSL_CTX_free(context);
    }
    close(listener);
    tls_library_leave_thread();
    if (context) return;
  }
  keep_reason(reason);
  if (!told_to_stop(0)) log_event("remote admin is off: %s", reason);
}

bool tls_front_start(char *reason, size_t reason_size) {
  struct listen_address address;
  if (!*config.tls_address || running) return true;
  set_state(STARTING);
  if (!listen_address_parse_any(config.tls_address, &address, reason, reason_size)) {
    keep_reason(reason);
    return false;
  }
  stop_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  running =
      stop_event >= 0 && agent_thread_create_for_libc(&thread, STACK_SIZE, front_main, NULL) == 0;
  if (running) return true;
  if (stop_event >= 0) close(stop_event);
  snprintf(reason, reason_size,
           "remote admin's thread cannot be created: out of memory, threads or descriptors");
  keep_reason(reason);
  return false;
}

void tls_front_stop(void) {
  const uint64_t one = 1;
  if (!running) return;
  if (write(stop_event, &one, sizeof one) < 0)
    return; /* an eventfd that counts to two: cannot be */
  agent_thread_join(thread);
  close(stop_event);
  running = false;
  set_state(NOT_ASKED_FOR);
}

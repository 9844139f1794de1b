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

#include "../shim/config.h"
#include "agent_thread.h"
#include "listen_address.h"
#include "log.h"
#include "shared_text.h"
#include "tls_connection.h"
#include "tls_context.h"
#include "tls_library.h"

#define MILLISECONDS INT64_C(1000000)
enum {
  CONNECTIONS = 16,
  /* A handshake costs a signature, before the other side has shown anything: strangers get no more than some per cent of a processor. */
  ACCEPTS_AT_ONCE = 32, ACCEPT_EVERY_MILLISECONDS = 20,
  RETRY_MILLISECONDS = 200, /* when there are no descriptors */
  BIND_RETRY_MILLISECONDS = 50, BIND_RETRY_MAX_MILLISECONDS = 5000,
  STACK_SIZE = 512 * 1024, /* the loader's and OpenSSL's big numbers */
  ADDRESS_MAX = 160
};

/* Written by the admin thread before the TLS thread exists, then by that one. Text before state (release), so that readers see it whole. */
enum front_state { NOT_ASKED_FOR, STARTING, LISTENING, FAILED };
static _Atomic int state;
static struct shared_text off_reason; /* changes while it is read */
static char address_text[ADDRESS_MAX];

/* The admin thread's. */
static bool running;
static struct agent_thread thread;
static int stop_event; /* readable: the TLS thread is to end */

/* The TLS thread's. */
static struct tls_connection *connections[CONNECTIONS];
static unsigned connection_count;
static int64_t accepts_whole_ns; /* when all of ACCEPTS_AT_ONCE may come again */
static int64_t accept_pause_ns;  /* no accepting before */

const char *tls_front_address(void) { return atomic_load_explicit(&state, memory_order_acquire) == LISTENING ? address_text : ""; }

const char *tls_front_off_reason(char out[SHARED_TEXT_MAX]) {
  switch (atomic_load_explicit(&state, memory_order_acquire)) {
    case STARTING: return "not started yet";
    case FAILED: return shared_text_read(&off_reason, out);
    default: return NULL;
  }
}

static void set_state(enum front_state now) { atomic_store_explicit(&state, now, memory_order_release); }

static void keep_reason(const char *reason) {
  shared_text_write(&off_reason, reason);
  set_state(FAILED);
}

/* ---- connections ------------------------------------------------------------------------------------------------------------ */

static void drop(unsigned index) {
  tls_connection_free(connections[index]);
  connections[index] = connections[--connection_count];
}

/* At most one connection a call, so that a crowd at the door does not keep those inside waiting. */
static void accept_one(int listener, struct ssl_ctx_st *context, int64_t now_ns) {
  int descriptor = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), on = 1;
  if (descriptor < 0) {
    bool short_of_something = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
    if (short_of_something) accept_pause_ns = now_ns + RETRY_MILLISECONDS * MILLISECONDS;
    return;
  }
  if (accepts_whole_ns < now_ns) accepts_whole_ns = now_ns;
  accepts_whole_ns += ACCEPT_EVERY_MILLISECONDS * MILLISECONDS;
  accept_pause_ns = accepts_whole_ns - ACCEPTS_AT_ONCE * ACCEPT_EVERY_MILLISECONDS * MILLISECONDS;
  setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  struct tls_connection *connection = connection_count < CONNECTIONS ? tls_connection_new(context, descriptor, now_ns) : NULL;
  if (connection) connections[connection_count++] = connection;
  else close(descriptor);
}

enum { STOP, LISTENER, FIRST_CONNECTION };

static int milliseconds_until(int64_t deadline_ns, int64_t now_ns) {
  if (deadline_ns == INT64_MAX) return -1;
  return deadline_ns <= now_ns ? 0 : (int)((deadline_ns - now_ns + MILLISECONDS - 1) / MILLISECONDS);
}

static void serve(int listener, struct ssl_ctx_st *context) {
  while (true) {
    struct pollfd waits[FIRST_CONNECTION + 2 * CONNECTIONS];
    int64_t deadlines[CONNECTIONS], now = agent_monotonic_nanoseconds(), next = INT64_MAX;
    bool may_accept = now >= accept_pause_ns, crowded = connection_count == CONNECTIONS;
    unsigned count = connection_count;
    waits[STOP] = (struct pollfd){.fd = stop_event, .events = POLLIN};
    waits[LISTENER] = (struct pollfd){.fd = may_accept ? listener : -1, .events = POLLIN};
    if (!may_accept) next = accept_pause_ns;
    for (unsigned i = 0; i < count; i++) {
      struct pollfd *own = waits + FIRST_CONNECTION + 2 * i;
      tls_connection_wait(connections[i], crowded, own, own + 1, &deadlines[i]);
      if (deadlines[i] < next) next = deadlines[i];
    }
    if (poll(waits, FIRST_CONNECTION + 2 * count, milliseconds_until(next, now)) < 0) {
      if (errno == EINTR) continue; /* setuid makes libc interrupt every thread */
      accept_pause_ns = now + RETRY_MILLISECONDS * MILLISECONDS; /* RLIMIT_NOFILE below the number of entries, or no memory */
      poll(waits, 1, RETRY_MILLISECONDS);
      for (unsigned i = count; i-- > 0;) drop(i);
      continue;
    }
    if (waits[STOP].revents) return;
    now = agent_monotonic_nanoseconds();
    for (unsigned i = count; i-- > 0;) { /* drop moves the last one, which has had its turn */
      const struct pollfd *own = waits + FIRST_CONNECTION + 2 * i;
      bool goes_on = now < deadlines[i];
      if (goes_on && (own[0].revents || own[1].revents)) goes_on = tls_connection_run(connections[i], own[0].revents, now);
      if (!goes_on) drop(i);
    }
    if (waits[LISTENER].revents) accept_one(listener, context, now);
  }
}

/* ---- the thread ------------------------------------------------------------------------------------------------------------- */

static bool told_to_stop(int timeout_ms) {
  struct pollfd stop = {.fd = stop_event, .events = POLLIN};
  return poll(&stop, 1, timeout_ms) > 0;
}

/* The process that had it before may be about to end, or serve on: tried again and again. -1: told to stop, or hopeless. */
static int open_listener(char *reason, size_t reason_size) {
  struct listen_address address;
  for (int pause = BIND_RETRY_MILLISECONDS;; pause = pause * 2 < BIND_RETRY_MAX_MILLISECONDS ? pause * 2 : BIND_RETRY_MAX_MILLISECONDS) {
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
    struct ssl_ctx_st *context = tls_library_enter_thread(reason, sizeof reason) ? tls_context_read(reason, sizeof reason) : NULL;
    if (context) {
      set_state(LISTENING);
      log_event("remote admin on https://%s/debug/pprof/", address_text);
      serve(listener, context);
      while (connection_count) drop(connection_count - 1);
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
  running = stop_event >= 0 &&
            agent_thread_create_for_libc(&thread, STACK_SIZE, front_main, NULL) == 0;
  if (running) return true;
  if (stop_event >= 0) close(stop_event);
  snprintf(reason, reason_size, "remote admin's thread cannot be created: out of memory, threads or descriptors");
  keep_reason(reason);
  return false;
}

void tls_front_stop(void) {
  const uint64_t one = 1;
  if (!running) return;
  if (write(stop_event, &one, sizeof one) < 0) return; /* an eventfd that counts to two: cannot be */
  agent_thread_join(thread);
  close(stop_event);
  running = false;
  set_state(NOT_ASKED_FOR);
}

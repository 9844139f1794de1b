#include "tls_connection.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/runtime/agent_memory.h"
#include "agent/http/connection_inbox.h"
#include "agent/runtime/log.h"
#include "tls_library.h"

#define SECONDS INT64_C(1000000000)
enum {
  BUFFER_SIZE = 16 * 1024, /* of a TLS record: one that has been read whole leaves nothing behind
                              that poll would not see */
  HANDSHAKE_SECONDS = 10,
  CROWDED_HANDSHAKE_SECONDS = 5,
  STALLED_SECONDS = 30, /* a client that takes no byte of what there is */
  LINGER_SECONDS = 2 /* for the client to read what was sent last, which a reset would destroy */
};

enum state { HANDSHAKE, OPEN, ENDING, LINGERING }; /* ENDING: close_notify is being sent */

struct buffer {
  size_t begin, end; /* empty: equal */
  char bytes[BUFFER_SIZE];
};

struct tls_connection {
  enum state state;
  int client, server; /* descriptors; server: our end of the pair, -1 before the handshake is done
                         and after the server has closed */
  struct ssl_st *ssl;
  int64_t since_ns; /* of the state; in OPEN: when the client last took a byte, or what waits for it
                       came */
  short read_waits, write_waits; /* poll events without which TLS cannot go on reading, writing */
  bool authenticated;
  bool client_ended; /* it has said so; the server has been told */
  bool server_listens; /* false: it takes no more bytes */
  struct buffer to_server, to_client;
};

static bool is_empty(const struct buffer *buffer) { return buffer->begin == buffer->end; }

struct tls_connection *tls_connection_new(struct ssl_ctx_st *context, int descriptor,
                                          int64_t now_ns) {
  struct tls_connection *connection = agent_malloc(sizeof *connection);
  if (!connection) return NULL;
  memset(connection, 0, offsetof(struct tls_connection, to_server));
  connection->to_server.begin = connection->to_server.end = connection->to_client.begin =
      connection->to_client.end = 0;
  connection->since_ns = now_ns;
  connection->read_waits = POLLIN;
  connection->write_waits = POLLOUT;
  connection->server = -1;
  connection->ssl = tls_library.SSL_new(context);
  if (!connection->ssl || tls_library.SSL_set_fd(connection->ssl, descriptor) != 1) {
    tls_library.SSL_free(connection->ssl);
    tls_library.ERR_clear_error();
    agent_free(connection);
    return NULL;
  }
  connection->client = descriptor;
  return connection;
}

void tls_connection_free(struct tls_connection *connection) {
  tls_library.SSL_free(connection->ssl);
  tls_library.ERR_clear_error();
  if (connection->server >= 0) close(connection->server);
  close(connection->client);
  agent_free(connection);
}

/* After a call that did not succeed: the poll events without which it cannot; 0: never. errno is
 * another C library's: not looked at. */
static short waits_of(struct tls_connection *connection, int result) {
  switch (tls_library.SSL_get_error(connection->ssl, result)) {
    case SSL_ERROR_WANT_READ: return POLLIN;
    case SSL_ERROR_WANT_WRITE: return POLLOUT;
    default: return 0;
  }
}

/* Nothing more is sent, and what comes is thrown away, until the client closes too. */
static bool linger(struct tls_connection *connection, int64_t now_ns) {
  if (connection->server >= 0) close(connection->server);
  connection->server = -1;
  connection->state = LINGERING;
  connection->since_ns = now_ns;
  connection->read_waits = POLLIN;
  return shutdown(connection->client, SHUT_WR) == 0;
}

static bool end(struct tls_connection *connection, int64_t now_ns) {
  int result = tls_library.SSL_shutdown(connection->ssl);
  connection->read_waits = POLLOUT;
  if (result >= 0 || waits_of(connection, result) != POLLOUT) return linger(connection, now_ns);
  connection->state = ENDING;
  return true;
}

bool tls_connection_is_authenticated(const struct tls_connection *connection) {
  return connection->authenticated;
}

/* ---- handshake ---- */

static bool is_authenticated(struct tls_connection *connection) {
  struct x509_st *certificate = tls_library.get_peer_certificate(connection->ssl);
  tls_library.X509_free(certificate);
  return certificate && tls_library.SSL_get_verify_result(connection->ssl) == X509_V_OK;
}

static bool give_to_server(struct tls_connection *connection) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) return false;
  connection->server = pair[0];
  connection->server_listens = true;
  if (connection_inbox_put(
          &(struct inbox_connection){.descriptor = pair[1], .authenticated = true}))
    return true;
  close(pair[1]);
  return false;
}

/* The 1st, 2nd, 4th, ... time: who comes again and again must not fill the log. */
static void log_refusal(long fault) {
  enum { FAULTS = 128 }; /* more than X.509 has */
  static unsigned counts[FAULTS];
  unsigned count = ++counts[fault > 0 && fault < FAULTS ? fault : 0];
  if ((count & (count - 1)) != 0) return;
  log_event("remote admin: a client certificate is refused: %s (%u so far)",
            tls_library.X509_verify_cert_error_string(fault), count);
}

static bool shake_hands(struct tls_connection *connection, int64_t now_ns) {
  int result = tls_library.SSL_accept(connection->ssl);
  if (result == 1) {
    if (!is_authenticated(connection) || !give_to_server(connection))
      return linger(connection, now_ns);
    connection->state = OPEN;
    connection->authenticated = true;
    connection->since_ns = now_ns;
    return true;
  }
  connection->read_waits = waits_of(connection, result);
  if (connection->read_waits) return true;
  long fault = tls_library.SSL_get_verify_result(connection->ssl);
  if (fault != X509_V_OK) log_refusal(fault);
  return linger(connection, now_ns); /* TLS has sent its alert */
}

/* ---- both ways ---- */

/* False: the client has gone. */
static bool client_to_server(struct tls_connection *connection) {
  struct buffer *buffer = &connection->to_server;
  if (is_empty(buffer) && !connection->client_ended) {
    int size = tls_library.SSL_read(connection->ssl, buffer->bytes, sizeof buffer->bytes);
    if (size > 0) {
      buffer->begin = 0;
      buffer->end = (size_t)size;
      connection->read_waits = POLLIN;
    } else if (tls_library.SSL_get_error(connection->ssl, size) == SSL_ERROR_ZERO_RETURN) {
      connection->client_ended = true;
      shutdown(connection->server, SHUT_WR);
    } else if (!(connection->read_waits = waits_of(connection, size))) {
      return false;
    }
  }
  if (!connection->server_listens) buffer->begin = buffer->end;
  if (is_empty(buffer)) return true;
  ssize_t size = send(connection->server, buffer->bytes + buffer->begin,
                      buffer->end - buffer->begin, MSG_NOSIGNAL);
  if (size > 0) buffer->begin += (size_t)size;
  else if (errno != EAGAIN && errno != EINTR) connection->server_listens = false;
  return true;
}

/* False: the client has gone, or everything has been sent to it. */
static bool server_to_client(struct tls_connection *connection, int64_t now_ns) {
  struct buffer *buffer = &connection->to_client;
  if (is_empty(buffer)) {
    ssize_t size = recv(connection->server, buffer->bytes, sizeof buffer->bytes, 0);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return true;
    if (size <= 0) return false;
    buffer->begin = 0;
    buffer->end = (size_t)size;
    connection->since_ns = now_ns;
  }
  int size = tls_library.SSL_write(connection->ssl, buffer->bytes + buffer->begin,
                                   (int)(buffer->end - buffer->begin));
  if (size > 0) {
    buffer->begin += (size_t)size;
    connection->since_ns = now_ns;
    connection->write_waits = POLLOUT;
    return true;
  }
  connection->write_waits = waits_of(connection, size);
  return connection->write_waits != 0;
}

static bool copy(struct tls_connection *connection, short client_events, int64_t now_ns) {
  if (client_events & (POLLHUP | POLLERR)) return false;
  /* The server does not read on, and the client has closed. */
  if ((client_events & POLLRDHUP) && !is_empty(&connection->to_server)) return false;
  if (!client_to_server(connection)) return false;
  if (server_to_client(connection, now_ns)) return true;
  if (!is_empty(&connection->to_client)) return false;
  return end(connection, now_ns);
}

/* ---- the thread's loop ---- */

/* False: the client has closed, too. */
static bool throw_away(struct tls_connection *connection) {
  ssize_t size =
      recv(connection->client, connection->to_server.bytes, sizeof connection->to_server.bytes, 0);
  return size > 0 || (size < 0 && (errno == EAGAIN || errno == EINTR));
}

static int64_t deadline_of(const struct tls_connection *connection, bool crowded) {
  switch (connection->state) {
    case HANDSHAKE:
      return connection->since_ns +
             (crowded ? CROWDED_HANDSHAKE_SECONDS : HANDSHAKE_SECONDS) * SECONDS;
    case LINGERING: return connection->since_ns + LINGER_SECONDS * SECONDS;
    case ENDING: return connection->since_ns + STALLED_SECONDS * SECONDS;
    default:
      return is_empty(&connection->to_client) ? INT64_MAX
                                              : connection->since_ns + STALLED_SECONDS * SECONDS;
  }
}

void tls_connection_wait(const struct tls_connection *connection, bool crowded,
                         struct pollfd *client, struct pollfd *server, int64_t *deadline_ns) {
  *client = (struct pollfd){.fd = connection->client};
  *server = (struct pollfd){.fd = -1};
  *deadline_ns = deadline_of(connection, crowded);
  if (connection->state != OPEN) {
    client->events = connection->read_waits;
    return;
  }
  bool may_read = is_empty(&connection->to_server), may_write = !is_empty(&connection->to_client);
  if (!connection->client_ended) client->events = may_read ? connection->read_waits : POLLRDHUP;
  if (may_write) client->events |= connection->write_waits;
  if (!may_read) server->events |= POLLOUT;
  if (!may_write) server->events |= POLLIN;
  if (server->events)
    server->fd =
        connection->server; /* else its POLLHUP, which cannot be left out, would keep poll awake */
}

bool tls_connection_run(struct tls_connection *connection, short client_events, int64_t now_ns) {
  tls_library.ERR_clear_error(); /* SSL_get_error looks there */
  switch (connection->state) {
    case HANDSHAKE: return shake_hands(connection, now_ns);
    case OPEN: return copy(connection, client_events, now_ns);
    case ENDING: return end(connection, now_ns);
    default: return throw_away(connection);
  }
}

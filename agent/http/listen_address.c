#include "listen_address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/runtime/trusted_path.h"

/* So many must a stranger hold open before the kernel turns others away; it may allow fewer. */
enum { LISTEN_BACKLOG = 4096 };

static bool fail(char *reason, size_t reason_size, const char *text, const char *detail) {
  snprintf(reason, reason_size, "%s%s", text, detail);
  return false;
}

static bool parse_port(const char *text, unsigned *port) {
  unsigned value = 0;
  if (!*text) return false;
  for (; *text; text++) {
    if (*text < '0' || *text > '9') return false;
    value = value * 10 + (unsigned)(*text - '0');
    if (value > 65535) return false;
  }
  *port = value;
  return true;
}

static bool parse(const char *text, bool anywhere, struct listen_address *out, char *reason,
                  size_t reason_size) {
  memset(out, 0, sizeof(*out));
  if (!anywhere && strncmp(text, "unix:", 5) == 0) {
    const char *path = text + 5;
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof(out->socket.local.sun_path)) {
      return fail(reason, reason_size, "the path of the unix socket is empty or too long: ", text);
    }
    out->socket.local.sun_family = AF_UNIX;
    memcpy(out->socket.local.sun_path, path, length + 1);
    out->size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + 1);
    return true;
  }
  const char *colon = strrchr(text, ':');
  char host[64] = "";
  unsigned port;
  if (!colon || !parse_port(colon + 1, &port) || (size_t)(colon - text) >= sizeof(host)) {
    return fail(reason, reason_size, "not an address: ", text);
  }
  memcpy(host, text, (size_t)(colon - text));
  if (strcmp(host, "") == 0 || strcmp(host, "localhost") == 0) strcpy(host, "127.0.0.1");
  size_t length = strlen(host);
  if (host[0] == '[' && host[length - 1] == ']') {
    struct sockaddr_in6 *address = (struct sockaddr_in6 *)&out->socket;
    host[length - 1] = 0;
    if (inet_pton(AF_INET6, host + 1, &address->sin6_addr) != 1)
      return fail(reason, reason_size, "not an address: ", text);
    if (!anywhere && !IN6_IS_ADDR_LOOPBACK(&address->sin6_addr))
      return fail(reason, reason_size, "not a loopback address: ", text);
    address->sin6_family = AF_INET6;
    address->sin6_port = htons((uint16_t)port);
    out->port = port;
    out->size = sizeof(*address);
    return true;
  }
  struct sockaddr_in *address = (struct sockaddr_in *)&out->socket;
  if (inet_pton(AF_INET, host, &address->sin_addr) != 1)
    return fail(reason, reason_size, "not an address: ", text);
  if (!anywhere && ntohl(address->sin_addr.s_addr) >> 24 != 127)
    return fail(reason, reason_size, "not a loopback address: ", text);
  address->sin_family = AF_INET;
  address->sin_port = htons((uint16_t)port);
  out->port = port;
  out->size = sizeof(*address);
  return true;
}

bool listen_address_parse(const char *text, struct listen_address *out, char *reason,
                          size_t reason_size) {
  return parse(text, false, out, reason, reason_size);
}

bool listen_address_parse_any(const char *text, struct listen_address *out, char *reason,
                              size_t reason_size) {
  return parse(text, true, out, reason, reason_size);
}

static const char *error_text(int error) {
  switch (error) { /* strerror may translate, and then allocates */
    case EADDRINUSE: return "the address is in use";
    case EACCES: return "permission denied";
    case EADDRNOTAVAIL: return "this machine has no such address";
    case ENOENT: return "no such directory";
    case EROFS: return "the file system is read-only";
    case EMFILE:
    case ENFILE: return "out of descriptors";
    default: return NULL;
  }
}

static int give_up(int descriptor, const struct listen_address *address, const char *what,
                   char *reason, size_t reason_size) {
  int error = errno;
  char text[160];
  listen_address_format(address, text, sizeof(text));
  const char *why = error_text(error);
  if (why) snprintf(reason, reason_size, "cannot %s %s: %s", what, text, why);
  else snprintf(reason, reason_size, "cannot %s %s: errno %d", what, text, error);
  if (descriptor >= 0) close(descriptor);
  errno = error;
  return -1;
}

/* True when nothing listens at the path any more: a file that a killed process left. */
static bool is_stale_socket(const struct listen_address *address) {
  int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (probe < 0) return false;
  bool stale =
      connect(probe, &address->socket.generic, address->size) != 0 && errno == ECONNREFUSED;
  close(probe);
  return stale;
}

/* bind goes by name: nobody else may be able to have the name mean another directory meanwhile. */
static bool path_is_safe(const struct listen_address *address, char *reason, size_t reason_size) {
  struct trusted_path_fault fault;
  const char *path = address->socket.local.sun_path, *name;
  int directory = trusted_path_directory(path, &name, &fault);
  if (directory >= 0) close(directory);
  else if (*fault.text)
    snprintf(reason, reason_size, "cannot bind unix:%s: it %s", path, fault.text);
  else give_up(-1, address, "bind", reason, reason_size);
  return directory >= 0;
}

int listen_address_open(struct listen_address *address, char *reason, size_t reason_size) {
  int family = address->socket.generic.sa_family, on = 1;
  if (family == AF_UNIX && !path_is_safe(address, reason, reason_size)) return -1;
  int descriptor = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (descriptor < 0) return give_up(-1, address, "open a socket for", reason, reason_size);
  if (family == AF_UNIX) {
    fchmod(descriptor, 0600); /* bind creates the file with the socket's mode, less the umask */
  } else {
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (family == AF_INET6) setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
  }
  int bound = bind(descriptor, &address->socket.generic, address->size);
  if (bound != 0 && errno == EADDRINUSE && family == AF_UNIX) {
    bool removed = is_stale_socket(address) &&
                   trusted_path_remove_socket(address->socket.local.sun_path, 0, 0);
    if (removed) bound = bind(descriptor, &address->socket.generic, address->size);
    else errno = EADDRINUSE;
  }
  if (bound != 0) return give_up(descriptor, address, "bind", reason, reason_size);
  if (family != AF_UNIX) {
    socklen_t size = sizeof(address->socket);
    getsockname(descriptor, &address->socket.generic, &size);
    address->port = family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&address->socket)->sin6_port)
                                       : ntohs(((struct sockaddr_in *)&address->socket)->sin_port);
  }
  if (listen(descriptor, LISTEN_BACKLOG) != 0)
    return give_up(descriptor, address, "listen on", reason, reason_size);
  return descriptor;
}

void listen_address_format(const struct listen_address *address, char *text, size_t size) {
  char host[INET6_ADDRSTRLEN] = "?";
  switch (address->socket.generic.sa_family) {
    case AF_UNIX: snprintf(text, size, "unix:%s", address->socket.local.sun_path); return;
    case AF_INET6: {
      const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)&address->socket;
      inet_ntop(AF_INET6, &six->sin6_addr, host, sizeof(host));
      snprintf(text, size, "[%s]:%u", host, ntohs(six->sin6_port));
      return;
    }
    default: {
      const struct sockaddr_in *four = (const struct sockaddr_in *)&address->socket;
      inet_ntop(AF_INET, &four->sin_addr, host, sizeof(host));
      snprintf(text, size, "%s:%u", host, ntohs(four->sin_port));
    }
  }
}

bool listen_address_queue_is_long(int listener) {
  enum { QUEUE_MAX = 128 };
  struct tcp_info info = {.tcpi_unacked = 0}; /* of a listening socket: how many wait */
  socklen_t size = sizeof info;
  bool is_known = getsockopt(listener, IPPROTO_TCP, TCP_INFO, &info, &size) == 0;
  return is_known && info.tcpi_unacked > QUEUE_MAX;
}

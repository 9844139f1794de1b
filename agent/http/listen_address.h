/* PPROFAGENT_ADDR as a socket: loopback TCP or a unix socket, nothing else, and without
 * getaddrinfo. Context: the admin thread, after descriptor_table_isolate. */
#ifndef AGENT_LISTEN_ADDRESS_H
#define AGENT_LISTEN_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

struct listen_address {
  union {
    struct sockaddr generic;
    struct sockaddr_un local;
    struct sockaddr_storage storage;
  } socket;
  socklen_t size;
  unsigned port; /* 0 for unix sockets, and where the kernel is yet to choose one */
};

/* "127.0.0.1:6060", "localhost:0", "[::1]:6060", ":6060", "unix:/path". False: reason says what is
 * wrong with it. */
bool listen_address_parse(const char *text, struct listen_address *out, char *reason,
                          size_t reason_size);

/* TCP on any address of the machine, for remote admin (tls_front.h). */
bool listen_address_parse_any(const char *text, struct listen_address *out, char *reason,
                              size_t reason_size);

/* Binds and listens; returns the descriptor, close-on-exec and non-blocking, or -1 with a reason
 * and errno. Fills in the port. A unix socket is mode 0600 before anybody can connect; one that a
 * dead process left behind is replaced. */
int listen_address_open(struct listen_address *address, char *reason, size_t reason_size);

/* Whether so many clients wait in the kernel's queue that it turns others away soon. */
bool listen_address_queue_is_long(int listener);

/* "127.0.0.1:6060", "[::1]:6060", "unix:/path". */
void listen_address_format(const struct listen_address *address, char *text, size_t size);

#endif

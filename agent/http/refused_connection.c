#include "refused_connection.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/runtime/descriptor_table.h"
#include "connection_inbox.h"

static void answer(int descriptor, const char *status, const char *text, bool head_only) {
  char bytes[768];
  int size = snprintf(bytes, sizeof(bytes),
                      "HTTP/1.1 %s\r\nContent-Type: text/plain; charset=utf-8\r\n"
                      "Cross-Origin-Resource-Policy: same-origin\r\n"
                      "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nX-Go-Pprof: "
                      "1\r\nContent-Length: %zu\r\n"
                      "Connection: close\r\n\r\n",
                      status, strnlen(text, 255) + 1);
  if (!head_only) size += snprintf(bytes + size, sizeof(bytes) - (size_t)size, "%.255s\n", text);
  send(descriptor, bytes, (size_t)size, MSG_NOSIGNAL | MSG_DONTWAIT);
  shutdown(descriptor, SHUT_WR);
}

void forbid_connection(int descriptor, const char *text, bool head_only) {
  answer(descriptor, "403 Forbidden", text, head_only);
}

void refuse_connection(int descriptor, const char *text) {
  char request[4096];
  answer(descriptor, "503 Service Unavailable", text, false);
  /* Closing with an unread request resets the connection, and the client may lose the answer. One
   * that is still to come is not waited for: the caller has others to look after. */
  ssize_t ignored = recv(descriptor, request, sizeof(request), MSG_DONTWAIT);
  (void)ignored;
  close(descriptor);
}

bool refuse_next_connection(int listener, const char *text) {
  int descriptor = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  bool lent = descriptor < 0 && (errno == EMFILE || errno == ENFILE) && descriptor_table_lend();
  if (lent) descriptor = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  int error = errno;
  if (descriptor >= 0) refuse_connection(descriptor, text);
  if (lent) descriptor_table_take_back();
  errno = error;
  return descriptor >= 0;
}

void refuse_who_waits(int listener, const char *text, int wake, int pause_ms) {
  struct inbox_connection given;
  if (connection_inbox_take(&given)) {
    refuse_connection(given.descriptor, text);
  } else if (listener >= 0 && !refuse_next_connection(listener, text) && errno != EAGAIN) {
    struct pollfd none = {.fd = wake, .events = POLLIN};
    poll(&none, 1, pause_ms);
  }
}

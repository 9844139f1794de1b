#include "refused_connection.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "descriptor_table.h"

void refuse_connection(int descriptor, const char *text) {
  char answer[512], request[4096];
  int size = snprintf(answer, sizeof(answer),
                      "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n"
                      "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nX-Go-Pprof: 1\r\nContent-Length: %zu\r\n"
                      "Connection: close\r\n\r\n%.200s\n", strnlen(text, 200) + 1, text);
  send(descriptor, answer, (size_t)size, MSG_NOSIGNAL | MSG_DONTWAIT);
  shutdown(descriptor, SHUT_WR);
  /* Closing with an unread request resets the connection, and the client may lose the answer. One that is still to come is not waited
   * for: the caller has others to look after. */
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

#include "process_question.h"

#include <stdbool.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "civetweb_system.h"
#include "client_access.h"
#include "connection_inbox.h"
#include "http_server.h"
#include "other_processes.h"

/* NULL: it has the descriptor, or a copy of it. */
static const char *hand_over(struct http_response *response, int pid, int descriptor) {
  struct client client;
  bool certified;
  if (!other_processes || !http_client_find(response, &client, &certified))
    return "it is not known who asks";
  switch (other_processes->hand_over(pid, descriptor, certified ? NULL : &client, "", 0,
                                     civetweb_system_interrupted)) {
    case TREE_HANDED_OVER: return NULL;
    case TREE_BUSY: return "it takes no request now";
    case TREE_SILENT: return "it does not answer: it is stopped, or very busy";
    case TREE_REFUSES: return "it does not answer this user";
    default: return "it has ended";
  }
}

int process_question_ask(struct http_response *response, int pid, const char *target,
                         const char *host, const char **why) {
  enum { REQUEST_MAX = 2048 };
  char request[REQUEST_MAX];
  int pair[2];
  int size = snprintf(request, sizeof request,
                      "GET %s HTTP/1.0\r\nHost: %s\r\nConnection: close\r\n\r\n", target, host);
  *why = "the question is too long";
  if (size < 0 || size >= REQUEST_MAX) return -1;
  *why = "no descriptors";
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) return -1;
  if (send(pair[0], request, (size_t)size, MSG_NOSIGNAL) != size) {
    *why = "no memory";
  } else if (pid == getpid()) { /* who asks has been let in */
    *why = connection_inbox_put(
               &(struct inbox_connection){.descriptor = pair[1], .authenticated = true})
               ? NULL
               : "it takes no request now";
    if (!*why) return pair[0];
  } else {
    *why = hand_over(response, pid, pair[1]);
  }
  close(pair[1]);
  if (!*why) return pair[0];
  close(pair[0]);
  return -1;
}

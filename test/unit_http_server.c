/* links: test/agent_memory_libc.c */
/* Random and mutated requests against the real server (civetweb included) under the address
 * sanitizer, for some seconds: each answer is empty or a whole one with the headers that every
 * response has, and the server stops cleanly afterwards. The same against the server that has no
 * threads and answers on the one that calls it. */
/* fuzz: rounds */
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "agent/runtime/agent_memory.h"
#include "agent/runtime/agent_thread.h"
#include "agent/http/client_access.h"
#include "agent/http/connection_gate.h"
#include "agent/http/connection_inbox.h"
#include "fuzz_budget.h"
#include "agent/http/http_server.h"
#include "agent/http/listen_address.h"
#include "agent/http/other_processes.h"
#include "shim/base/thread_state.h"

_Thread_local struct thread_state thread_state;
bool thread_registry_has_tid(int32_t tid) {
  return (void)tid, false;
} /* shim/threads/thread_registry.h */
static int failures;
static uint64_t random_state;
static unsigned handled, asked, handed_over;
enum { OTHER_PROCESS = 4000000 };

static unsigned random_below(unsigned limit) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (unsigned)(random_state >> 33) % limit;
}

static _Atomic bool nobody_may;

bool client_access_check(int descriptor, char text[CLIENT_ACCESS_TEXT_MAX]) {
  (void)descriptor;
  snprintf(text, CLIENT_ACCESS_TEXT_MAX, "not you");
  if (nobody_may) return false;
  return __atomic_add_fetch(&asked, 1, __ATOMIC_RELAXED) % 16 != 0;
}

enum client_found client_access_find(int descriptor, struct client *out,
                                     char text[CLIENT_ACCESS_TEXT_MAX]) {
  (void)descriptor, (void)text;
  *out = (struct client){.uid = 0};
  return CLIENT_FOUND;
}
bool connection_gate_admits(int descriptor, int listener) {
  return descriptor >= 0 && listener >= 0;
}

/* One more process shares the port. It takes what is handed to it, and answers or not. */
static bool can_be_asked(void) { return true; }
static enum tree_handover hand_over(int pid, int descriptor, const struct client *client,
                                    const char *prefix, size_t size, bool (*give_up)(void)) {
  if (give_up()) return TREE_BUSY;
  static const char answer[] =
      "HTTP/1.1 204 No Content\r\nX-Content-Type-Options: nosniff\r\nCache-Control: "
      "no-store\r\n\r\n";
  static const enum tree_handover refusals[] = {TREE_BUSY, TREE_NO_SUCH_PROCESS, TREE_REFUSES};
  if (pid != OTHER_PROCESS) return refusals[pid % 3];
  struct inbox_connection back = {
      .descriptor = dup(descriptor), .authenticated = !client, .prefix_size = (unsigned char)size};
  memcpy(back.prefix, prefix, size);
  unsigned what = __atomic_add_fetch(&handed_over, 1, __ATOMIC_RELAXED) % 3;
  if (what == 0) send(back.descriptor, answer, sizeof(answer) - 1, MSG_NOSIGNAL);
  /* The path by which a member gets it: here as well, where it is nobody's. */
  if (what == 1) {
    memset(back.prefix, 'G', back.prefix_size);
    if (connection_inbox_put(&back)) return TREE_HANDED_OVER;
  }
  close(back.descriptor);
  return TREE_HANDED_OVER;
}

static enum tree_answer would_answer(int pid, const struct client *client, char *text) {
  (void)pid, (void)client;
  return strcpy(text, "not you") ? TREE_WOULD_NOT : TREE_NOBODY;
}

static const struct other_processes others = {can_be_asked, hand_over, would_answer};

/* Stands in for routes.c: uses everything that a route may use. */
static void handle(const struct http_request *request) {
  static const char filler[1000];
  __atomic_fetch_add(&handled, 1, __ATOMIC_RELAXED);
  http_request_header(request, "Accept-Encoding");
  if (strstr(request->query, "error")) {
    http_respond_error(request->response, 400, "an error");
    return;
  }
  if (strstr(request->query, "nothing")) return;
  if (strstr(request->query, "wait"))
    http_wait(request->response, agent_monotonic_nanoseconds() + 1000000);
  if (!http_respond_begin(request->response, 200, "text/plain", NULL,
                          strstr(request->query, "sized") ? 6000 : -1))
    return;
  for (int i = 0; i < 6; i++) http_respond_write(request->response, filler, sizeof(filler));
  http_respond_write(request->response, request->body, request->body_size > 100 ? 0 : 0);
  http_respond_end(request->response);
}

static const char *const pieces[] = {"GET ",
                                     "POST ",
                                     "HEAD ",
                                     "OPTIONS ",
                                     "BREW ",
                                     "/debug/pprof/heap",
                                     "/debug/pprof/symbol",
                                     "/debug/pprof/",
                                     "/pid/4000000/",
                                     "/pid/4000000",
                                     "/pid/12",
                                     "/pid/0/",
                                     "/pid/",
                                     "?seconds=1",
                                     "?error",
                                     "?sized",
                                     "?wait",
                                     "?nothing",
                                     " HTTP/1.1\r\n",
                                     " HTTP/1.0\r\n",
                                     " HTTP/2.0\r\n",
                                     "Host: localhost:HOST\r\n",
                                     "Host: evil\r\n",
                                     "Origin: http://evil\r\n",
                                     "Origin: null\r\n",
                                     "Content-Length: 5\r\n",
                                     "Content-Length: -1\r\n",
                                     "Content-Length: 99999999999999999999\r\n",
                                     "Transfer-Encoding: chunked\r\n",
                                     "Expect: 100-continue\r\n",
                                     "Upgrade: h2c\r\n",
                                     "Connection: keep-alive\r\n",
                                     "\r\n",
                                     "\r\n\r\n",
                                     "5\r\nhello\r\n0\r\n\r\n",
                                     "ffffffff\r\n",
                                     "0x1+0x2",
                                     "%",
                                     "%00",
                                     "..",
                                     "//",
                                     "\r",
                                     "\n",
                                     ":",
                                     " ",
                                     "\t"};
static const char *const requests[] = {
    "GET /pid/4000000/debug/pprof/heap HTTP/1.1\r\nHost: localhost:HOST\r\n\r\n",
    "POST /pid/4000000/debug/pprof/symbol HTTP/1.1\r\nHost: localhost:HOST\r\nContent-Length: "
    "7\r\n\r\n0x1+0x2",
    "GET /debug/pprof/heap HTTP/1.1\r\nHost: localhost:HOST\r\n\r\n",
    "GET /debug/pprof/heap?sized HTTP/1.0\r\nHost: localhost:HOST\r\n\r\n",
    "HEAD /debug/pprof/heap?debug=1&wait HTTP/1.1\r\nHost: [::1]:HOST\r\nSec-Fetch-Site: "
    "none\r\n\r\n",
    "POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost:HOST\r\nContent-Length: 7\r\n\r\n0x1+0x2",
    "POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost:HOST\r\nTransfer-Encoding: "
    "chunked\r\n\r\n3\r\n0x1\r\n0\r\n\r\n"};
enum {
  PIECES = sizeof(pieces) / sizeof(pieces[0]),
  REQUESTS = sizeof(requests) / sizeof(requests[0])
};

static size_t append(char *text, size_t size, size_t capacity, const char *piece, unsigned port) {
  char number[8];
  for (; *piece && size + 8 < capacity; piece++) {
    if (strncmp(piece, "HOST", 4) == 0) {
      snprintf(number, sizeof(number), "%u", port);
      for (const char *digit = number; *digit; digit++) text[size++] = *digit;
      piece += 3;
    } else {
      text[size++] = *piece;
    }
  }
  return size;
}

static size_t make_request(char *text, size_t capacity, unsigned port) {
  size_t size = 0;
  unsigned kind = random_below(4);
  if (kind == 0) {
    for (unsigned i = random_below(30); i > 0; i--)
      size = append(text, size, capacity, pieces[random_below(PIECES)], port);
  } else if (kind == 1) {
    for (unsigned i = random_below(200); i > 0; i--) text[size++] = (char)random_below(256);
  } else {
    size = append(text, 0, capacity, requests[random_below(REQUESTS)], port);
    for (unsigned i = kind == 2 ? random_below(4) : 0; i > 0; i--) {
      size_t at = random_below((unsigned)size), length = random_below(20);
      switch (random_below(4)) {
        case 0: text[at] = (char)random_below(256); break;
        case 1: size = at; break;
        case 2: /* repeat a piece */
          if (size + length < capacity && at + length <= size) {
            memmove(text + at + length, text + at, size - at);
            size += length;
          }
          break;
        default: size = append(text, at, capacity, pieces[random_below(PIECES)], port);
      }
      if (size == 0) break;
    }
  }
  if (random_below(20) == 0) {
    while (size < capacity - 1) text[size++] = (char)('a' + random_below(26)); /* too long */
  }
  return size;
}

static void check_answer(const char *answer, ssize_t size) {
  if (size <= 0 || strncmp(answer, "HTTP/1.1 100", 12) == 0) return;
  if (strncmp(answer, "HTTP/1.1 ", 9) != 0 ||
      !strstr(answer, "\r\nX-Content-Type-Options: nosniff\r\n") ||
      !strstr(answer, "\r\nCache-Control: no-store\r\n") || !strstr(answer, "\r\n\r\n")) {
    printf("answer: %.300s\n", answer);
    failures++;
  }
}

static void one_connection(const struct listen_address *address) {
  static char text[12000], answer[20000];
  size_t size = make_request(text, sizeof(text), address->port);
  int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct timeval limit = {.tv_sec = 10};
  setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  if (connect(descriptor, &address->socket.generic, address->size) != 0) {
    printf("no connection\n");
    failures++;
  } else {
    for (size_t sent = 0; sent < size;) {
      size_t piece = random_below(3) ? size - sent : 1 + random_below((unsigned)(size - sent));
      ssize_t done = send(descriptor, text + sent, piece, MSG_NOSIGNAL);
      if (done <= 0) break;
      sent += (size_t)done;
    }
    shutdown(descriptor, SHUT_WR);
    ssize_t total = 0, got;
    while (total < (ssize_t)sizeof(answer) - 1 &&
           (got = recv(descriptor, answer + total, sizeof(answer) - 1 - (size_t)total, 0)) > 0) {
      total += got;
    }
    answer[total] = 0;
    check_answer(answer, total);
  }
  close(descriptor);
}

static unsigned connect_for_a_while(const struct listen_address *address) {
  double end = fuzz_now() + fuzz_seconds(6) / 2;
  unsigned connections = 0, handed_before = handed_over, handled_before = handled;
  while (fuzz_now() < end && failures < 5) {
    one_connection(address);
    connections++;
  }
  if (handed_over - handed_before < connections / 20) {
    printf("only %u of %u requests were handed over\n", handed_over - handed_before, connections);
    failures++;
  }
  if (handled - handled_before < connections / 10) {
    printf("only %u of %u requests came through\n", handled - handled_before, connections);
    failures++;
  }
  return connections;
}

/* ---- without threads ---- */

static _Atomic bool leaves;
static _Atomic unsigned chores;

static bool is_told_to_leave(void) { return leaves; }
static void do_chores(void) { chores++; }

static void *answer_alone(void *argument) {
  const struct http_server_address *own = argument;
  while (!leaves) {
    struct pollfd waits[2] = {{.fd = own->listener, .events = POLLIN},
                              {.fd = connection_inbox_event(), .events = POLLIN}};
    if (poll(waits, 2, 50) <= 0 || http_server_answer_alone(own, is_told_to_leave, do_chores))
      continue;
    printf("cannot answer alone\n");
    __atomic_add_fetch(&failures, 5, __ATOMIC_RELAXED);
    break;
  }
  return NULL;
}

static unsigned connect_to_the_lonely(const struct listen_address *address,
                                      struct http_server_address *own) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, answer_alone, own) != 0) return 0;
  unsigned connections = connect_for_a_while(address);
  leaves = true;
  pthread_join(thread, NULL);
  if (chores == 0) {
    printf("nothing was done meanwhile\n");
    failures++;
  }
  return connections;
}

/* A path whose first 64 bytes do not tell whose it is, for want of a '/', is this process's own:
 * who asks is looked at here, or nowhere. */
static void ask_without_telling_whom(const struct listen_address *address) {
  static const char form[] =
      "GET /pid/%31%32%33%34%2f%64%65%62%75%67%2f%70%70%72%6f%66%2f%68"
      "%65%61%70 HTTP/1.1\r\nHost: localhost:HOST\r\n\r\n";
  char answer[64] = "", request[256];
  size_t size = append(request, 0, sizeof request, form, address->port);
  unsigned before = handled;
  int client = socket(AF_INET, SOCK_STREAM, 0);
  nobody_may = true;
  if (connect(client, &address->socket.generic, address->size) != 0 ||
      send(client, request, size, MSG_NOSIGNAL) < 0 ||
      recv(client, answer, sizeof answer - 1, MSG_WAITALL) < 0 ||
      strncmp(answer, "HTTP/1.1 403 ", 13) != 0 || handled != before) {
    printf("who may not ask got: %s\n", answer);
    failures++;
  }
  nobody_may = false;
  close(client);
}

int main(void) {
  random_state = fuzz_seed(88172645463325252u);
  struct listen_address address;
  char reason[256];
  int listener = -1;
  if (listen_address_parse("127.0.0.1:0", &address, reason, sizeof(reason))) {
    listener = listen_address_open(&address, reason, sizeof(reason));
  }
  other_processes = &others;
  struct http_server_address own = {
      .handle = handle, .listener = listener, .address = "", .port = address.port, .origins = ""};
  if (listener < 0 || !http_server_start(&own)) {
    printf("cannot start: %s\n", reason);
    return 1;
  }
  ask_without_telling_whom(&address);
  unsigned connections = connect_for_a_while(&address);
  http_server_stop();
  connections += connect_to_the_lonely(&address, &own);
  connection_inbox_close();
  if (!agent_thread_await(0, agent_monotonic_nanoseconds() + 1000000000)) {
    printf("%u threads are left\n", agent_thread_count());
    failures++;
  }
  printf("%u connections, %u requests handled, %u handed over\n", connections, handled,
         handed_over);
  return failures != 0;
}

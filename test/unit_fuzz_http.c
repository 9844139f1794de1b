/* links: test/agent_memory_libc.c */
/* fuzz: bytes */
/* Requests of any bytes to the real server, civetweb included, on one thread: an answer is none or
 * one whole one with the headers that every response has; a route is only called for a request
 * that names this server. */
#include <arpa/inet.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shim/base/thread_state.h"
#include "agent/runtime/agent_thread.h"
#include "agent/http/client_access.h"
#include "agent/http/connection_gate.h"
#include "agent/http/connection_inbox.h"
#include "fuzz.h"
#include "agent/http/http_server.h"
#include "agent/http/other_processes.h"
#include "agent/http/query.h"

_Thread_local struct thread_state thread_state;
bool thread_registry_has_tid(int32_t tid) {
  return (void)tid, false;
} /* shim/threads/thread_registry.h */

static bool may, routed;

bool client_access_check(int descriptor, char text[CLIENT_ACCESS_TEXT_MAX]) {
  (void)descriptor;
  snprintf(text, CLIENT_ACCESS_TEXT_MAX, "not you");
  return may;
}
enum client_found client_access_find(int descriptor, struct client *out,
                                     char text[CLIENT_ACCESS_TEXT_MAX]) {
  (void)descriptor, (void)text;
  *out = (struct client){.uid = 0};
  return CLIENT_FOUND;
}
bool connection_gate_admits(int descriptor, int listener) { return descriptor >= 0 && listener; }
static bool can_be_asked(void) { return true; }
static enum tree_handover hand_over(int pid, int descriptor, const struct client *client,
                                    const char *prefix, size_t size, bool (*give_up)(void)) {
  static const enum tree_handover answers[] = {TREE_BUSY, TREE_NO_SUCH_PROCESS, TREE_REFUSES,
                                               TREE_SILENT, TREE_HANDED_OVER};
  (void)descriptor, (void)client, (void)prefix, (void)give_up;
  if (pid <= 0 || size > INBOX_PREFIX_MAX) abort();
  return answers[pid % 5];
}

static enum tree_answer would_answer(int pid, const struct client *client, char *text) {
  (void)pid, (void)client;
  snprintf(text, CLIENT_ACCESS_TEXT_MAX, "not you");
  return TREE_WOULD_NOT;
}
static const struct other_processes others = {can_be_asked, hand_over, would_answer};
const struct other_processes *other_processes = &others;

/* However that address is written. */
static bool is_loopback6(const char *host) {
  char text[INET6_ADDRSTRLEN];
  struct in6_addr address;
  return sscanf(host, "[%45[0-9a-fA-F:.]]", text) == 1 &&
         inet_pton(AF_INET6, text, &address) == 1 && IN6_IS_ADDR_LOOPBACK(&address) &&
         strcmp(strchr(host, ']'), "]:6060") == 0;
}

static bool is_own(const char *host) {
  static const char *const names[] = {"localhost:6060", "localhost.:6060", "127.0.0.1:6060"};
  if (host && *host == '[') return is_loopback6(host);
  for (size_t i = 0; host && i < sizeof names / sizeof *names; i++)
    if (strcasecmp(host, names[i]) == 0) return true;
  return false;
}

static void handle(const struct http_request *request) {
  static const char *const keys[] = {"seconds", "debug", "gc", "hz", "tid", "format"};
  const char *host = http_request_header(request, "Host");
  char value[32];
  int64_t number;
  if (!may || !is_own(host) || request->path[0] != '/') abort();
  if (strlen(request->body) > request->body_size) abort();
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
    if (query_value(request->query, keys[i], value, sizeof value) == QUERY_FOUND)
      parse_int(value, &number);
  uint64_t address;
  for (const char *at = request->body; at && *at; at = strchr(at, '+'), at = at ? at + 1 : at)
    parse_address(at, strcspn(at, "+"), &address);
  routed = true;
  http_request_header(request, "Accept-Encoding");
  if (strstr(request->query, "error")) return http_respond_error(request->response, 400, value);
  if (http_respond_begin(request->response, 200, "text/plain", NULL, -1)) {
    http_respond_write(request->response, request->path, strlen(request->path));
    http_respond_end(request->response);
  }
}

static bool never(void) { return false; }
static void nothing(void) {}

static void check_answer(int client) {
  static char answer[1 << 17];
  ssize_t size = recv(client, answer, sizeof answer - 1, MSG_DONTWAIT);
  if (size <= 0) return;
  answer[size] = 0;
  char *at = answer;
  if (strncmp(at, "HTTP/1.1 100 Continue\r\n\r\n", 25) == 0) at += 25;
  if (!*at) return;
  bool is_whole = strncmp(at, "HTTP/1.1 ", 9) == 0 && strstr(at, "\r\n\r\n") &&
                  strstr(at, "\r\nX-Content-Type-Options: nosniff\r\n") &&
                  strstr(at, "\r\nCache-Control: no-store\r\n");
  if (!is_whole || (strncmp(at + 9, "200", 3) == 0 && !routed && at[10] != '0')) {
    fprintf(stderr, "%.300s\n", at);
    abort();
  }
}

static void fuzz_one(const uint8_t *bytes, size_t size) {
  static const struct http_server_address own = {.handle = handle,
                                                 .listener = -1,
                                                 .address = "",
                                                 .port = 6060,
                                                 .origins = "https://a.example"};
  struct fuzz_input input = {bytes, bytes + size};
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) != 0) abort();
  unsigned how = fuzz_byte(&input);
  size_t read_already = how >> 2;
  may = how % 4 != 3;
  routed = false;
  if (read_already > fuzz_left(&input)) read_already = fuzz_left(&input);
  struct inbox_connection given = {.descriptor = pair[1],
                                   .prefix_size = (unsigned char)read_already};
  memcpy(given.prefix, input.at, read_already);
  input.at += read_already;
  if (fuzz_left(&input)) send(pair[0], input.at, fuzz_left(&input), MSG_NOSIGNAL | MSG_DONTWAIT);
  shutdown(pair[0], SHUT_WR);
  if (!connection_inbox_put(&given)) abort();
  if (!http_server_answer_alone(&own, never, nothing)) abort();
  check_answer(pair[0]);
  close(pair[0]);
  connection_inbox_close();
}

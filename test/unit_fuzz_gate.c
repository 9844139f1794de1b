/* fuzz: bytes */
/* Strangers at the gate who say anything, piece by piece, hang up and let time go by. Nobody is let
 * in but for a process that would answer him; who is answered gets one whole refusal; no descriptor
 * is left. */
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/runtime/agent_thread.h"
#include "agent/http/client_access.h"
#include "agent/http/connection_gate.h"
#include "agent/http/connection_inbox.h"
#include "fuzz.h"
#include "agent/http/other_processes.h"
#include "agent/http/request_process.h"

enum { CLIENTS = 40, FRIENDLY = 12, ASKED = 13 };

static int64_t now = 1;
int64_t agent_monotonic_nanoseconds(void) { return now; }
static bool is_known, has_let_in;

enum client_found client_access_find(int descriptor, struct client *out,
                                     char text[CLIENT_ACCESS_TEXT_MAX]) {
  *out = (struct client){.uid = (uid_t)(descriptor & 1)};
  snprintf(text, CLIENT_ACCESS_TEXT_MAX, "nobody knows");
  return is_known ? CLIENT_FOUND : CLIENT_UNKNOWN;
}
bool client_access_judge(const struct client *client, char text[CLIENT_ACCESS_TEXT_MAX]) {
  snprintf(text, CLIENT_ACCESS_TEXT_MAX, "not user %u", client->uid);
  return false;
}
static bool can_be_asked(void) { return true; }
static enum tree_answer would_answer(int pid, const struct client *client, char *text) {
  if (!is_known) abort(); /* for whom nobody can judge */
  if (pid == ASKED) return TREE_ASKED;
  if (pid == FRIENDLY) return has_let_in = true, TREE_WOULD_ANSWER;
  snprintf(text, CLIENT_ACCESS_TEXT_MAX, "not user %u there", client->uid);
  return pid & 1 ? TREE_WOULD_NOT : TREE_NOBODY;
}
static const struct other_processes others = {.can_be_asked = can_be_asked,
                                              .would_answer = would_answer};
const struct other_processes *other_processes = &others;

static int clients[CLIENTS];

/* 403, whole, or nothing: never more. */
static void hang_up(int client) {
  static const char start[] = "HTTP/1.1 403 Forbidden\r\n";
  char answer[2048];
  ssize_t size = recv(client, answer, sizeof answer - 1, MSG_DONTWAIT);
  if (size > 0) {
    answer[size] = 0;
    if (memcmp(answer, start, sizeof start - 1) || strstr(answer + 1, "HTTP/1.1 ")) abort();
    if (!strstr(answer, "\r\n\r\n")) abort();
  }
  close(client);
}

static void empty_inbox(void) {
  struct inbox_connection given;
  while (connection_inbox_take(&given)) {
    int process;
    if (!given.is_guest || !has_let_in || given.prefix_size > INBOX_PREFIX_MAX) abort();
    if (!request_process_find(given.prefix, given.prefix_size, &process) || process != FRIENDLY)
      abort();
    close(given.descriptor);
  }
}

static void come(struct fuzz_input *input, int *client) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) != 0) abort();
  struct inbox_connection given = {.descriptor = pair[1]};
  size_t size;
  const uint8_t *prefix = fuzz_piece(input, INBOX_PREFIX_MAX, &size);
  memcpy(given.prefix, prefix, size);
  given.prefix_size = (unsigned char)size;
  *client = pair[0];
  connection_gate_take(&given);
}

static void act(struct fuzz_input *input) {
  unsigned what = fuzz_byte(input), which = fuzz_byte(input) % CLIENTS;
  int *client = &clients[which];
  if (what % 4 == 1) now += (int64_t)(what >> 2) * 20000000;
  else if (*client < 0) come(input, client);
  else if (what % 4 == 2) hang_up(*client), *client = -1;
  else {
    size_t size;
    const uint8_t *text = fuzz_piece(input, 4096, &size);
    send(*client, text, size, MSG_NOSIGNAL | MSG_DONTWAIT);
  }
  if (what & 64) return;
  connection_gate_handle();
  empty_inbox();
}

static void fuzz_one(const uint8_t *bytes, size_t size) {
  struct fuzz_input input = {bytes, bytes + size};
  int descriptors = fuzz_descriptors();
  for (int i = 0; i < CLIENTS; i++) clients[i] = -1;
  is_known = !(fuzz_byte(&input) & 1);
  has_let_in = false;
  while (fuzz_left(&input)) act(&input);
  for (int i = 0; i < CLIENTS; i++)
    if (clients[i] >= 0) hang_up(clients[i]);
  for (int i = 0; i < 3; i++) connection_gate_handle();
  connection_gate_milliseconds();
  empty_inbox();
  connection_gate_close();
  connection_inbox_close();
  fuzz_check_descriptors(descriptors);
}

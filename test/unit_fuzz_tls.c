/* links: test/agent_memory_libc.c */
/* fuzz: bytes */
/* What somebody without a certificate sends to remote admin, in pieces: nothing but TLS records
 * comes back, and nothing gets to the server. */
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shim/base/config.h"
#include "shim/base/thread_state.h"
#include "agent/http/connection_inbox.h"
#include "fuzz.h"
#include "agent/tls/tls_connection.h"
#include "agent/tls/tls_context.h"
#include "agent/tls/tls_library.h"

_Thread_local struct thread_state thread_state;
bool thread_registry_has_tid(int32_t tid) {
  return (void)tid, false;
} /* shim/threads/thread_registry.h */
struct config config;

static struct ssl_ctx_st *make_context(void) {
  char directory[] = "/tmp/pprofagent-fuzz-XXXXXX", command[400], reason[300] = "";
  if (!mkdtemp(directory)) abort();
  snprintf(command, sizeof command,
           "cd %s && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
           " -keyout key -out certificate -subj /CN=fuzz -days 2 2>/dev/null",
           directory);
  if (system(command) != 0) printf("openssl cannot be run\n"), exit(1);
  snprintf(config.tls_certificate, sizeof config.tls_certificate, "%s/certificate", directory);
  snprintf(config.tls_client_ca, sizeof config.tls_client_ca, "%s/certificate", directory);
  snprintf(config.tls_key, sizeof config.tls_key, "%s/key", directory);
  bool has_library = tls_library_enter_thread(reason, sizeof reason);
  struct ssl_ctx_st *context = has_library ? tls_context_read(reason, sizeof reason) : NULL;
  snprintf(command, sizeof command, "rm -r %s", directory);
  if (!context || system(command) != 0) printf("%s\n", reason), exit(1);
  return context;
}

static void check_records(int client) {
  uint8_t answer[16384];
  ssize_t size = recv(client, answer, sizeof answer, MSG_DONTWAIT);
  for (ssize_t at = 0; at + 5 <= size; at += 5 + (answer[at + 3] << 8 | answer[at + 4]))
    if (answer[at] < 20 || answer[at] > 23) abort();
}

static void fuzz_one(const uint8_t *bytes, size_t size) {
  static struct ssl_ctx_st *context;
  struct fuzz_input input = {bytes, bytes + size};
  int pair[2];
  if (!context) context = make_context();
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) != 0) abort();
  struct tls_connection *connection = tls_connection_new(context, pair[1], 0);
  if (!connection) abort();
  bool goes_on = true;
  while (goes_on && fuzz_left(&input)) {
    size_t length;
    const uint8_t *piece = fuzz_piece(&input, 16384, &length);
    if (length == 0) continue;
    send(pair[0], piece, length, MSG_NOSIGNAL | MSG_DONTWAIT);
    goes_on = tls_connection_run(connection, POLLIN, 0);
    check_records(pair[0]);
  }
  shutdown(pair[0], SHUT_WR);
  for (int i = 0; goes_on && i < 4; i++)
    goes_on = tls_connection_run(connection, POLLIN | POLLRDHUP, 0);
  check_records(pair[0]);
  if (tls_connection_is_authenticated(connection) || connection_inbox_waits()) abort();
  tls_connection_free(connection);
  close(pair[0]);
}

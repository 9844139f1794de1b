/* links: test/agent_memory_libc.c */
/* The TLS front with a stand-in for the HTTP server behind it, under the address sanitizer: whole
 * answers to openssl s_client, mutated handshakes and resets, starting and stopping again and
 * again, no value of OpenSSL's left under any pthread key of this program's, and no memory. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shim/base/config.h"
#include "shim/base/thread_state.h"
#include "agent/runtime/agent_thread.h"
#include "agent/http/client_access.h"
#include "agent/http/connection_inbox.h"
#include "agent/tls/tls_front.h"

enum { ANSWER_SIZE = 3000000, KEYS = 24, ROUNDS = 4, MUTATIONS = 60 };

/* The leak sanitizer does not look into the variables of another namespace; the bytes in use are
 * compared instead. */
const char *__asan_default_options(void) { return "detect_leaks=0"; }
size_t __sanitizer_get_current_allocated_bytes(void);

_Thread_local struct thread_state thread_state;
bool thread_registry_has_tid(int32_t tid) {
  return (void)tid, false;
} /* shim/threads/thread_registry.h */
struct config config;
enum client_found client_access_find(int descriptor, struct client *out,
                                     char text[CLIENT_ACCESS_TEXT_MAX]) {
  (void)descriptor, (void)text;
  *out = (struct client){.uid = getuid()};
  return CLIENT_FOUND;
}
static int failures;
static char directory[] = "/tmp/pprofagent-test-XXXXXX";
static _Atomic int served, foreign_values;
static char answer[ANSWER_SIZE];

static void check(int condition, const char *what) {
  if (condition) return;
  fprintf(stderr, "failed: %s\n", what);
  failures++;
}

static const char *off_reason(void) {
  static char text[SHARED_TEXT_MAX];
  return tls_front_off_reason(text);
}

static int run(const char *format, ...) {
  char command[1500], whole[1700];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(command, sizeof command, format, arguments);
  va_end(arguments);
  snprintf(whole, sizeof whole, "cd %s && { %s\n} 2>>openssl.log", directory, command);
  return system(whole);
}

static void make_certificates(void) {
  static const char new_key[] = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
  check(run("openssl req -x509 %s -keyout ca.key -out ca.crt -subj /CN=authority -days 2",
            new_key) == 0,
        "make an authority");
  for (const char *const *name = (const char *const[]){"server", "client", NULL}; *name; name++) {
    check(run("openssl req %s -keyout %s.key -out %s.csr -subj /CN=%s", new_key, *name, *name,
              *name) == 0,
          "make a request");
    check(run("openssl x509 -req -in %s.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out %s.crt "
              "-days 2",
              *name, *name) == 0,
          "sign it");
  }
}

/* ---- what stands for the HTTP server ---- */

static int wait_for(int descriptor, short events) {
  struct pollfd wait = {.fd = descriptor, .events = events};
  return poll(&wait, 1, 10000) == 1;
}

/* "q": all of the answer; "n": closes without one. */
static void serve_one(struct inbox_connection *connection) {
  char request[1000];
  ssize_t size = wait_for(connection->descriptor, POLLIN)
                     ? recv(connection->descriptor, request, sizeof request, 0)
                     : 0;
  check(connection->authenticated && connection->prefix_size == 0, "authenticated");
  for (size_t sent = 0; size > 0 && request[0] == 'q' && sent < ANSWER_SIZE;) {
    ssize_t piece = send(connection->descriptor, answer + sent, ANSWER_SIZE - sent, MSG_NOSIGNAL);
    if (piece > 0) sent += (size_t)piece;
    else if (errno != EAGAIN || !wait_for(connection->descriptor, POLLOUT)) break;
  }
  close(connection->descriptor);
  served++;
}

static void *server(void *argument) {
  struct inbox_connection connection;
  (void)argument;
  while (true) {
    struct pollfd wait = {.fd = connection_inbox_event(), .events = POLLIN};
    poll(&wait, 1, -1);
    while (connection_inbox_take(&connection)) serve_one(&connection);
  }
  return NULL;
}

/* ---- clients ---- */

static unsigned start(void) {
  char reason[300] = "";
  check(tls_front_start(reason, sizeof reason), reason);
  for (int i = 0;
       i < 1000 && !*tls_front_address() && (!off_reason() || strstr(off_reason(), "not started"));
       i++)
    usleep(10000);
  const char *colon = strrchr(tls_front_address(), ':');
  check(colon != NULL, off_reason() ? off_reason() : "listens");
  return colon ? (unsigned)atoi(colon + 1) : 0;
}

static int whole_answer(unsigned port, const char *options) {
  return run("echo q | openssl s_client -quiet -connect 127.0.0.1:%u -CAfile ca.crt -cert "
             "client.crt -key client.key %s | cmp - answer >>cmp.log 2>&1",
             port, options) == 0;
}

static int connect_to(unsigned port) {
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  check(connect(descriptor, (struct sockaddr *)&address, sizeof address) == 0, "connect");
  return descriptor;
}

/* The first bytes that a real client sends. */
static size_t client_hello(unsigned char *bytes, size_t capacity) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bind(listener, (struct sockaddr *)&address, sizeof address);
  listen(listener, 1);
  getsockname(listener, (struct sockaddr *)&address, &length);
  run("openssl s_client -connect 127.0.0.1:%u </dev/null >/dev/null &", ntohs(address.sin_port));
  int connection = accept(listener, NULL, NULL);
  ssize_t size = recv(connection, bytes, capacity, 0);
  close(connection);
  close(listener);
  return size > 0 ? (size_t)size : 0;
}

/* Half of them are reset in the midst of it, the others read what comes to its end: TLS records or
 * nothing. */
static void send_mutated(unsigned port, const unsigned char *hello, size_t size) {
  unsigned char bytes[2000];
  unsigned changes = (unsigned)rand() % 8;
  memcpy(bytes, hello, size);
  for (unsigned i = 0; i < changes; i++)
    bytes[(size_t)rand() % (rand() % 2 ? 60 : size)] = (unsigned char)rand();
  int descriptor = connect_to(port);
  ssize_t sent = send(descriptor, bytes, rand() % 4 ? size : (size_t)rand() % size, MSG_NOSIGNAL);
  if (sent > 0 && rand() % 2) {
    setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1},
               sizeof(struct linger));
  } else {
    shutdown(descriptor, SHUT_WR);
    unsigned char first = 0;
    ssize_t got = recv(descriptor, &first, 1, 0);
    check(got <= 0 || (first >= 20 && first <= 23), "nothing but TLS records comes back");
    while (recv(descriptor, bytes, sizeof bytes, 0) > 0) continue;
  }
  close(descriptor);
}

static void destroy(void *value) {
  (void)value;
  foreign_values++;
}

int main(void) {
  pthread_key_t keys[KEYS];
  pthread_t thread;
  unsigned char hello[2000];
  alarm(120);
  /* Made, deleted and made again, as the second C library's are: so that the generations are the
   * same, too. */
  for (int i = 0; i < KEYS; i++) check(pthread_key_create(&keys[i], destroy) == 0, "make a key");
  for (int i = 0; i < KEYS; i++) check(pthread_key_delete(keys[i]) == 0, "delete it");
  for (int i = 0; i < KEYS; i++) check(pthread_key_create(&keys[i], destroy) == 0, "make it again");
  for (size_t i = 0; i < sizeof answer; i++) answer[i] = (char)(i * 2654435761u >> 13);
  check(mkdtemp(directory) != NULL, "a directory");
  make_certificates();
  char path[100];
  snprintf(path, sizeof path, "%s/answer", directory);
  FILE *file = fopen(path, "w");
  check(file && fwrite(answer, 1, sizeof answer, file) == sizeof answer && fclose(file) == 0,
        "write the answer");
  snprintf(config.tls_address, sizeof config.tls_address, "127.0.0.1:0");
  snprintf(config.tls_certificate, sizeof config.tls_certificate, "%s/server.crt", directory);
  snprintf(config.tls_key, sizeof config.tls_key, "%s/server.key", directory);
  snprintf(config.tls_client_ca, sizeof config.tls_client_ca, "%s/ca.crt", directory);
  pthread_create(&thread, NULL, server, NULL);
  size_t hello_size = client_hello(hello, sizeof hello);
  check(hello_size > 100, "a client hello");

  size_t after_first = 0;
  for (int round = 0; round < ROUNDS && !failures; round++) {
    unsigned port = start();
    check(whole_answer(port, "-tls1_2"), "a whole answer by TLS 1.2");
    check(whole_answer(port, "-tls1_3"), "a whole answer by TLS 1.3");
    int before = served;
    run("echo q | openssl s_client -quiet -connect 127.0.0.1:%u >/dev/null", port);
    check(served == before, "without a certificate nothing reaches the server");
    for (int i = 0; i < MUTATIONS; i++) send_mutated(port, hello, hello_size);
    check(served == before, "nor does a handshake that is not finished");
    check(whole_answer(port, ""), "a whole answer after all that");
    int open = connect_to(port); /* is cut off */
    run("sleep 0.3 | timeout 0.2 openssl s_client -quiet -connect 127.0.0.1:%u -cert client.crt "
        "-key client.key",
        port);
    tls_front_stop();
    check(!*tls_front_address() && !off_reason(), "stopped");
    check(recv(open, path, sizeof path, 0) <= 0, "cut off");
    close(open);
    check(foreign_values == 0, "no destructor of this program's got a value of OpenSSL's");
    size_t in_use = __sanitizer_get_current_allocated_bytes();
    if (round == 0) after_first = in_use;
    else if (in_use > after_first + 2000)
      fprintf(stderr, "%zu bytes in use, %zu after the first round\n", in_use, after_first),
          failures++;
  }
  run("rm -f *");
  rmdir(directory);
  if (failures) return 1;
  puts("ok");
  return 0;
}

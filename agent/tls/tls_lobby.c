#include "tls_lobby.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/http/client_access.h"

#define SECONDS INT64_C(1000000000)
enum { SILENT_SECONDS = 5 };

struct visitor {
  int descriptor;
  bool is_ready; /* has sent something; what the client still sends is not looked at */
  int64_t since_ns;
  struct tls_source source;
};

static struct visitor visitors[TLS_LOBBY_MAX]; /* in the order in which they came */
static unsigned visitor_count;

bool tls_source_equal(const struct tls_source *a, const struct tls_source *b) {
  return memcmp(a, b, sizeof *a) == 0;
}

/* False: it has gone again. */
static bool find_source(int descriptor, struct tls_source *out) {
  enum { USER = 0xffffffff }; /* no network has this, at the end */
  struct sockaddr_storage address;
  socklen_t size = sizeof address;
  char ignored[CLIENT_ACCESS_TEXT_MAX];
  struct client client;
  memset(out, 0, sizeof *out);
  if (getpeername(descriptor, (struct sockaddr *)&address, &size) != 0) return false;
  const struct sockaddr_in *four = (const struct sockaddr_in *)&address;
  const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)&address;
  bool is_six = address.ss_family == AF_INET6;
  bool is_mapped = is_six && IN6_IS_ADDR_V4MAPPED(&six->sin6_addr);
  if (is_six) memcpy(out->words, &six->sin6_addr, 8);
  uint32_t number = is_mapped ? six->sin6_addr.s6_addr32[3] : four->sin_addr.s_addr;
  if (!is_six || is_mapped) out->words[2] = number;
  bool is_loopback =
      is_six && !is_mapped ? IN6_IS_ADDR_LOOPBACK(&six->sin6_addr) : ntohl(number) >> 24 == 127;
  if (is_loopback && client_access_find(descriptor, &client, ignored) == CLIENT_FOUND)
    *out = (struct tls_source){{0, 0, client.uid, USER}};
  return true;
}

static void forget(unsigned index) {
  visitor_count--;
  memmove(&visitors[index], &visitors[index + 1], (visitor_count - index) * sizeof *visitors);
}

static void drop(unsigned index) {
  close(visitors[index].descriptor);
  forget(index);
}

static unsigned of_source(const struct tls_source *source) {
  unsigned count = 0;
  for (unsigned i = 0; i < visitor_count; i++)
    count += tls_source_equal(&visitors[i].source, source);
  return count;
}

/* Whether this one goes before that one when somebody must. */
static bool goes_before(const struct visitor *this, unsigned its, const struct visitor *that,
                        unsigned those) {
  if (its != those) return its > those;
  if (this->is_ready != that->is_ready) return that->is_ready;
  return this->since_ns < that->since_ns;
}

static unsigned one_to_drop(void) {
  unsigned found = 0, most = 0;
  for (unsigned i = 0; i < visitor_count; i++) {
    unsigned its = of_source(&visitors[i].source);
    if (i > 0 && !goes_before(&visitors[i], its, &visitors[found], most)) continue;
    found = i;
    most = its;
  }
  return found;
}

/* It may have waited to be accepted, and spoken meanwhile. */
static bool has_spoken(int descriptor) {
  char first;
  return recv(descriptor, &first, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

void tls_lobby_put(int descriptor, int64_t now_ns) {
  struct visitor visitor = {
      .descriptor = descriptor, .since_ns = now_ns, .is_ready = has_spoken(descriptor)};
  if (!find_source(descriptor, &visitor.source)) {
    close(descriptor);
    return;
  }
  if (visitor_count == TLS_LOBBY_MAX) drop(one_to_drop());
  visitors[visitor_count++] = visitor;
}

unsigned tls_lobby_wait(struct pollfd waits[TLS_LOBBY_MAX], int64_t *deadline_ns) {
  for (unsigned i = 0; i < visitor_count; i++) {
    short events = visitors[i].is_ready ? POLLRDHUP : POLLIN | POLLRDHUP;
    waits[i] = (struct pollfd){.fd = visitors[i].descriptor, .events = events};
    int64_t end = visitors[i].since_ns + SILENT_SECONDS * SECONDS;
    if (end < *deadline_ns) *deadline_ns = end;
  }
  return visitor_count;
}

void tls_lobby_hear(const struct pollfd *waits, unsigned count, int64_t now_ns) {
  for (unsigned i = count; i-- > 0;) {
    bool has_gone = waits[i].revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL);
    if (has_gone || now_ns >= visitors[i].since_ns + SILENT_SECONDS * SECONDS) drop(i);
    else if (waits[i].revents & POLLIN) visitors[i].is_ready = true;
  }
}

bool tls_lobby_is_ready(void) {
  for (unsigned i = 0; i < visitor_count; i++)
    if (visitors[i].is_ready) return true;
  return false;
}

int tls_lobby_take(struct tls_source *source) {
  unsigned found = TLS_LOBBY_MAX, fewest = 0;
  for (unsigned i = 0; i < visitor_count; i++) {
    unsigned its = of_source(&visitors[i].source);
    if (!visitors[i].is_ready || (found != TLS_LOBBY_MAX && its >= fewest)) continue;
    found = i;
    fewest = its;
  }
  if (found == TLS_LOBBY_MAX) return -1;
  int descriptor = visitors[found].descriptor;
  *source = visitors[found].source;
  forget(found);
  return descriptor;
}

void tls_lobby_clear(void) {
  while (visitor_count) drop(visitor_count - 1);
}

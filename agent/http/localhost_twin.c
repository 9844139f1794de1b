#include "localhost_twin.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "agent/runtime/allowed_calls.h"
#include "connection_gate.h"
#include "listen_address.h"
#include "agent/runtime/log.h"
#include "agent/runtime/sandbox.h"

static const char fault[] =
    "another process has this port of the other address of localhost (127.0.0.1 and ::1 are two): "
    "a client that is told localhost may get there";
static bool is_settled; /* open, or there is no such address */
static _Atomic bool is_another_s; /* read for a page: a mere flag */

/* Only the two that localhost stands for have one. */
static bool twin_of(const struct listen_address *address, struct listen_address *out) {
  const struct sockaddr_in *four = (const struct sockaddr_in *)&address->socket;
  *out = (struct listen_address){.port = address->port};
  if (address->socket.generic.sa_family == AF_INET6) {
    struct sockaddr_in *twin = (struct sockaddr_in *)&out->socket;
    twin->sin_family = AF_INET;
    twin->sin_port = htons((uint16_t)address->port);
    twin->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    out->size = sizeof *twin;
    return true;
  }
  struct sockaddr_in6 *twin = (struct sockaddr_in6 *)&out->socket;
  twin->sin6_family = AF_INET6;
  twin->sin6_port = htons((uint16_t)address->port);
  twin->sin6_addr.s6_addr[15] = 1;
  out->size = sizeof *twin;
  return address->socket.generic.sa_family == AF_INET &&
         four->sin_addr.s_addr == htonl(INADDR_LOOPBACK);
}

void localhost_twin_look(const struct listen_address *address) {
  char reason[256];
  struct listen_address twin;
  if (is_settled) return;
  is_settled = true;
  if (!twin_of(address, &twin) || sandbox_is_tighter(0)) return;
  if (allowed_calls_lack(CALLS_LOCALHOST)) return;
  int listener = listen_address_open(&twin, reason, sizeof reason);
  bool taken = listener < 0 && errno == EADDRINUSE;
  bool is_absent = listener < 0 && (errno == EADDRNOTAVAIL || errno == EAFNOSUPPORT);
  bool was_taken = atomic_exchange_explicit(&is_another_s, taken, memory_order_relaxed);
  /* else, for lack of descriptors or memory, it is tried again */
  is_settled = is_absent || (listener >= 0 && connection_gate_listen(listener));
  if (taken && !was_taken) log_event("%s", fault);
}

void localhost_twin_forget(void) {
  is_settled = false;
  atomic_store_explicit(&is_another_s, false, memory_order_relaxed);
}

const char *localhost_twin_fault(void) {
  return atomic_load_explicit(&is_another_s, memory_order_relaxed) ? fault : NULL;
}

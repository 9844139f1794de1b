#include "admin_server.h"

#include <poll.h>
#include <stdatomic.h>
#include <stddef.h>

#include "shim/base/config.h"
#include "shim/base/confinement.h"
#include "shim/cpu/sampling_signal.h"
#include "agent/dump/dumps.h"
#include "agent/http/civetweb_alone.h"
#include "agent/http/connection_gate.h"
#include "agent/http/http_server.h"
#include "agent/http/refused_connection.h"
#include "agent/pages/routes.h"
#include "agent/runtime/agent_status.h"
#include "agent/runtime/agent_thread.h"
#include "agent/runtime/log.h"
#include "agent/tree/process_tree.h"

#define MILLISECONDS INT64_C(1000000)
enum { RETRY_MILLISECONDS = 1000 };

static _Atomic bool server_runs; /* written by the admin thread; read by host threads too */

bool admin_server_runs(void) { return atomic_load(&server_runs); }

/* While a request is being answered on this thread. */
static void hear_other_processes(void) {
  struct pollfd tree = {.fd = process_tree_event(), .events = POLLIN};
  if (poll(&tree, 1, 0) > 0) process_tree_handle(); /* the admin thread sees what becomes of it */
  connection_gate_handle();
}

void admin_server_start(int listener, const struct listen_address *address, int wake,
                        bool (*stopped)(void)) {
  static int64_t retry_ns;
  static bool failed, answered_alone; /* and said so */
  int64_t now = agent_monotonic_nanoseconds();
  char where[SHARED_TEXT_MAX];
  const struct http_server_address own = {
      .handle = routes_handle,
      .listener = listener,
      .address = address->port ? agent_status_address(where) : "",
      .port = address->port,
      .origins = config.origins};
  if (now >= retry_ns && http_server_start(&own)) {
    failed = false;
    atomic_store(&server_runs, true);
    return;
  }
  if (now >= retry_ns && http_server_answer_alone(&own, stopped, hear_other_processes)) {
    if (!answered_alone) log_event("%s", civetweb_alone_text);
    answered_alone = true;
    failed = false;
    return;
  }
  if (now >= retry_ns) retry_ns = now + RETRY_MILLISECONDS * MILLISECONDS;
  static const char reason[] = "the HTTP server cannot start: out of memory or descriptors";
  if (!failed) log_event("%s", reason);
  failed = true;
  refuse_who_waits(listener, reason, wake, RETRY_MILLISECONDS);
}

void admin_server_stop(void) {
  http_server_stop();
  atomic_store(&server_runs, false);
  if (!confinement_forbids_calls() && !dumps_use_signals()) sampling_signal_retire();
}

/* Or was just now: it may have started for one whom it has not let in yet. */
bool admin_server_has_client(void) {
  const int64_t a_while = 100 * MILLISECONDS;
  return admin_server_runs() && !http_server_idle_since(agent_monotonic_nanoseconds() - a_while);
}

#include "rates.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "shim/allocation/heap_rate.h"
#include "shim/base/config.h"
#include "shim/base/config_reading.h"
#include "agent/http/client_access.h"
#include "agent/http/process_owner.h"
#include "agent/http/query.h"
#include "agent/http/response.h"
#include "agent/runtime/agent_lock.h"
#include "agent/runtime/log.h"

static struct agent_lock lock; /* one change at a time */

enum rate { RATE_HEAP, RATE_BLOCK, RATE_MUTEX, RATES };
static const char *const names[RATES] = {"memprofilerate", "block", "mutex"};

static _Atomic uint64_t *place_of(enum rate rate) {
  return rate == RATE_HEAP    ? &config.memprofile_rate
         : rate == RATE_BLOCK ? &config.blockprofile_rate
                              : &config.mutexprofile_fraction;
}

static void answer(const struct http_request *request) {
  char text[160];
  int size =
      snprintf(text, sizeof text,
               "{\"memprofilerate\":%" PRIu64 ",\"block\":%" PRIu64 ",\"mutex\":%" PRIu64 "}\n",
               config_rate(place_of(RATE_HEAP)), config_rate(place_of(RATE_BLOCK)),
               config_rate(place_of(RATE_MUTEX)));
  respond_whole(request, 200, "application/json", NULL, text, (size_t)size);
}

/* ---- who may ---- */

/* Browsers say where a POST comes from. Pages that PPROFAGENT_ORIGINS lets read change nothing. */
static bool is_from_elsewhere(const struct http_request *request) {
  const char *referer = http_request_header(request, "Referer");
  return http_request_is_foreign(request) ||
         (referer && *referer && !http_request_header(request, "Origin"));
}

static bool is_owners(const struct http_request *request) {
  struct client client;
  bool is_certified;
  if (!http_client_find(request->response, &client, &is_certified)) return false;
  return is_certified || client.uid == 0 || process_owner_may_look(client.uid);
}

/* False: that has been said. */
static bool may_change(const struct http_request *request) {
  const char *why = is_from_elsewhere(request) ? "rates are not changed by a page of another origin"
                    : is_owners(request)
                        ? NULL
                        : "rates are changed by the process's owner and by root alone";
  if (why) http_respond_error(request->response, 403, why);
  return !why;
}

/* ---- a change ---- */

struct change {
  bool given[RATES];
  uint64_t to[RATES];
};

/* NULL, or what is wrong; text: room for that. */
static const char *read_change(const char *body, struct change *out, char *text, size_t size) {
  bool any = false;
  for (int rate = 0; rate < RATES; rate++) {
    char value[24];
    enum query_result result = query_value(body, names[rate], value, sizeof value);
    if (result == QUERY_ABSENT) continue;
    any = out->given[rate] = true;
    if (result == QUERY_FOUND &&
        config_parse_number(value, (uint64_t)1 << CONFIG_RATE_MAX_BITS, &out->to[rate]))
      continue;
    snprintf(text, size,
             "invalid value for \"%s\" - must be a number from 0 to %" PRIu64 " (k, M, G allowed)",
             names[rate], (uint64_t)1 << CONFIG_RATE_MAX_BITS);
    return text;
  }
  return any ? NULL : "none is given - of memprofilerate, block and mutex";
}

/* All of it or nothing. */
static bool apply(const struct change *change) {
  agent_lock_take(&lock);
  bool done = !change->given[RATE_HEAP] || heap_rate_set(change->to[RATE_HEAP]);
  for (int rate = RATE_BLOCK; done && rate < RATES; rate++)
    if (change->given[rate])
      atomic_store_explicit(place_of((enum rate)rate), change->to[rate], memory_order_relaxed);
  agent_lock_release(&lock);
  return done;
}

static void change_rates(const struct http_request *request) {
  struct change change = {0};
  char text[160];
  const char *fault = read_change(request->body, &change, text, sizeof text);
  if (fault) return http_respond_error(request->response, 400, fault);
  if (!apply(&change))
    return http_respond_error(request->response, 503,
                              "too many different rates of the heap in this process: at most 32");
  log_event("rates changed: memprofilerate %" PRIu64 ", block %" PRIu64 ", mutex %" PRIu64,
            config_rate(place_of(RATE_HEAP)), config_rate(place_of(RATE_BLOCK)),
            config_rate(place_of(RATE_MUTEX)));
  answer(request);
}
_Static_assert(HEAP_RATES_MAX == 32, "the text above");

void handle_rates(const struct http_request *request, const struct route *route) {
  (void)route;
  if (strcmp(request->method, "POST") != 0) answer(request);
  else if (may_change(request)) change_rates(request);
}

/* What every request for a profile has in common: debug=, format=, seconds=, HEAD, the headers of
 * the answer; the checks and texts of Go's. Context: the HTTP workers; locks: none. */
#ifndef AGENT_PROFILE_REQUEST_H
#define AGENT_PROFILE_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/http/query.h"
#include "agent/profiles/profile.h"
#include "routes.h"

enum {
  MAX_DELTA_SECONDS = 3600,
  MAX_DELTAS = 4, /* at once: each holds a snapshot and one of the server's workers */
  PARAMETER_MAX = 64
};

/* QUERY_ABSENT where its value is "" too. */
enum query_result given_parameter(const struct http_request *request, const char *key,
                                  char text[PARAMETER_MAX]);

/* strconv.Atoi with its error ignored: 0 when it is no number, clamped when it is too large. */
int64_t integer_parameter(const struct http_request *request, const char *key);

/* hz=, from `least` to 1000; false: an error has been sent. */
bool rate_parameter(const struct http_request *request, uint32_t least, uint32_t usual,
                    uint32_t *hz);

/* As "90s", 10m. False: an error has been sent. */
bool duration_parameter(const struct http_request *request, const char *key, double *seconds,
                        bool *given);

enum delta { DELTA_NO, DELTA_YES, DELTA_REFUSED };

/* The checks of seconds= in their order; refused: the error has been sent. */
enum delta delta_parameters(const struct http_request *request, int64_t *seconds);

/* The forms of an answer: debug= and format=. */
enum profile_form {
  FORM_PROTO,
  FORM_TEXT, /* debug=1 */
  FORM_JSON,
  FORM_TOP,
  FORM_COLLAPSED,
  FORM_REFUSED
};

/* Checks sample_index= too, before anything is recorded. Refused: the error has been sent. */
enum profile_form form_parameter(const struct http_request *request, const struct route *route);

/* True, and said: the route is off and has nothing from before. An empty profile would look like a
 * program in which nothing happened. */
bool refuse_while_off(const struct http_request *request, const struct route *route);

/* The headers alone, without the work and without the wait. */
void send_profile_head(const struct http_request *request, const struct route *route, bool delta,
                       enum profile_form form);
/* Releases the profile; NULL: it could not be collected. */
void send_profile(const struct http_request *request, const struct route *route,
                  struct profile *profile, bool delta, enum profile_form form);

/* Around a delta; false: too many are running, which has been said. */
bool begin_delta(const struct http_request *request);
void end_delta(void);
/* Waits for the second moment of a delta whose first was at `start` (CLOCK_MONOTONIC, ns); false,
 * and said: the client is gone, or there was no first (have_first). */
bool wait_for_delta(const struct http_request *request, bool have_first, int64_t start,
                    int64_t seconds);

/* Answers every form of a profile whose delta is the difference of two. send_records: for debug=2
 * and above; NULL: as debug=1. */
typedef struct profile *(*profile_collector)(
    const struct http_request *request); /* NULL: could not be collected */
void serve_profile(const struct http_request *request, const struct route *route,
                   profile_collector collect,
                   void (*send_records)(const struct http_request *request));

#endif

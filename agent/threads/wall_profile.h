/* The wall-clock profile: where threads spend their time, waiting included. Context: HTTP workers;
 * locks: none of its own (wall_looks.h). */
#ifndef AGENT_WALL_PROFILE_H
#define AGENT_WALL_PROFILE_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/http/http_server.h"
#include "agent/profiles/profile.h"
#include "wall_looks.h"

enum {
  WALL_PROFILE_MAX_CLIENTS = 4,
  WALL_PROFILE_MAX_SECONDS = 3600,
  WALL_PROFILE_DEFAULT_SECONDS = 30,
  WALL_PROFILE_DEFAULT_HZ = 20,
  WALL_PROFILE_MAX_HZ = 1000
};

enum wall_profile_result {
  WALL_PROFILE_DONE,
  WALL_PROFILE_CANCELED, /* the client went away */
  WALL_PROFILE_TOO_MANY, /* WALL_PROFILE_MAX_CLIENTS are running */
  WALL_PROFILE_NO_MEMORY
};

enum wall_profile_result wall_profile_collect(struct http_response *response, int64_t seconds,
                                              uint32_t hz, struct wall_options options,
                                              struct profile **out);

/* For the health page: since the start; the rates are of the last profile. */
struct wall_profile_status {
  uint32_t running;
  uint64_t instants, unmoved, walks, unread, lost, asked_millihertz, reached_millihertz;
};
struct wall_profile_status wall_profile_status(void);

#endif

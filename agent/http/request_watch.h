/* Whether anybody still waits for what a thread works on: code far below a request asks, which is
 * not told of it. Context: agent threads; locks: none.
 */
#ifndef AGENT_REQUEST_WATCH_H
#define AGENT_REQUEST_WATCH_H

#include <stdbool.h>
#include <stdint.h>

struct request_watch {
  bool (*wanted)(void); /* NULL: the descriptor tells */
  int descriptor; /* the client's */
  bool is_over;
  int64_t next_look_ns;
};

/* From here to the end this thread works for the client behind descriptor. watch: the caller's. */
void request_watch_begin(struct request_watch *watch, int descriptor);
/* The same where no client asks: wanted tells, and once it says no that stands. */
void request_watch_begin_for(struct request_watch *watch, bool (*wanted)(void));
void request_watch_end(void);

/* False: the client has hung up, or the server stops. Cheap: it looks now and then. */
bool request_is_wanted(void);

#endif

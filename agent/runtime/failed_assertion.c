/* An assertion of linked-in code (protobuf-c, zlib) must not abort the host: the Makefile sends
 * __assert_fail here, and the agent thread that failed stops for good. Context: agent threads. */
#include <unistd.h>

#include "log.h"

__attribute__((noreturn)) void agent_failed_assertion(const char *assertion, const char *file,
                                                      unsigned line, const char *function);
void agent_failed_assertion(const char *assertion, const char *file, unsigned line,
                            const char *function) {
  log_event("internal error: %s:%u: %s: %s", file, line, function, assertion);
  for (;;) pause();
}

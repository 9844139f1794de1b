#include "paced_poll.h"

#include <errno.h>
#include <time.h>

#define MILLISECONDS 1000000
enum { PAUSE_MILLISECONDS = 200 };

void paced_poll_pause(void) {
  const struct timespec pause = {.tv_nsec = PAUSE_MILLISECONDS * MILLISECONDS};
  nanosleep(&pause, NULL);
}

int paced_poll(struct pollfd *waits, nfds_t count, int timeout_ms) {
  int ready = poll(waits, count, timeout_ms), error = errno;
  if (ready < 0 && error != EINTR) paced_poll_pause();
  errno = error;
  return ready;
}

#include "paced_poll.h"

#include <errno.h>
#include <time.h>

#define MILLISECONDS 1000000
enum { PAUSE_MILLISECONDS = 200 };

int paced_poll(struct pollfd *waits, nfds_t count, int timeout_ms) {
  int ready = poll(waits, count, timeout_ms), error = errno;
  if (ready < 0 && error != EINTR) {
    const struct timespec pause = {.tv_nsec = PAUSE_MILLISECONDS * MILLISECONDS};
    nanosleep(&pause, NULL);
    errno = error;
  }
  return ready;
}

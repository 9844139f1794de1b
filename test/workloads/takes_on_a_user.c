/* A root daemon that takes on a user for its file accesses, as sshd, samba, cron and rsyncd do:
 * UID, microseconds as that user, microseconds as root; for ever. */
#define _GNU_SOURCE
#include <time.h>

#include "workload.h"

static void sleep_for(long microseconds) {
  struct timespec pause = {microseconds / 1000000, microseconds % 1000000 * 1000};
  nanosleep(&pause, NULL);
}

int main(int count, char **words) {
  CHECK(count == 4);
  for (;;) {
    sleep_for(atol(words[3]));
    CHECK(seteuid((uid_t)atoi(words[1])) == 0);
    sleep_for(atol(words[2]));
    CHECK(seteuid(0) == 0);
  }
}

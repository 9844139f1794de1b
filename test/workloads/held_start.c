/* A library that holds a program before main until the file HELD_START is there: so that somebody
 * is recording already when it does its first thing. */
#include <stdlib.h>
#include <unistd.h>

__attribute__((constructor)) static void hold(void) {
  const char *path = getenv("HELD_START");
  while (path && access(path, F_OK) != 0) usleep(1000);
}

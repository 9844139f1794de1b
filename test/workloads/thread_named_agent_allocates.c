/* Allocates on a thread that has the name of the agent's threads. */
#include <stdlib.h>
#include <sys/prctl.h>

int main(void) {
  if (prctl(PR_SET_NAME, "pprofagent") != 0) return 2;
  return malloc(100) == NULL;
}

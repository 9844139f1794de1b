/* Calls a function of libc's from a thread that has the name of the agent's threads. */
#include <sys/prctl.h>
#include <unistd.h>

int main(void) {
  if (prctl(PR_SET_NAME, "pprofagent") != 0) return 2;
  return getppid() == 0;
}

#include "host_end.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/runtime/agent_thread.h"

bool only_agent_threads_left(int *exit_code) {
  char text[1024];
  int descriptor = open("/proc/self/stat", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (descriptor < 0) return false;
  ssize_t size = read(descriptor, text, sizeof(text) - 1);
  close(descriptor);
  if (size <= 0) return false;
  text[size] = 0;
  const char *at = strrchr(text, ')');
  if (!at || at[1] != ' ' || at[2] != 'Z') return false;
  at += 2;
  /* proc(5): 3 is the state, 20 num_threads, 52 exit_code */
  for (int field = 3; field < 20 && at; field++) at = strchr(at + 1, ' ');
  if (!at || strtoul(at, NULL, 10) > agent_thread_count() + 1) return false;
  for (int field = 20; field < 52 && at; field++) at = strchr(at + 1, ' ');
  *exit_code = at ? (int)(strtoul(at, NULL, 10) >> 8 & 0xff) : 0;
  return true;
}

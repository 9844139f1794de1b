/* exec_with PROGRAM ARGUMENT...: executes it with the environment that stdin lists, one string a
 * line, as it is. */
#include "workload.h"

int main(int argc, char **argv) {
  static char text[65536], *environment[100];
  size_t size = fread(text, 1, sizeof text - 1, stdin), count = 0;
  CHECK(argc > 1 && size > 0);
  for (char *line = strtok(text, "\n"); line && count < 99; line = strtok(NULL, "\n"))
    environment[count++] = line;
  execve(argv[1], argv + 1, environment);
  return 95;
}

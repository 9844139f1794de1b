/* Which paths tell how many threads a process has. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "shim/base/agent_hooks.h"
#include "shim/processes/thread_count_path.h"

bool agent_is_process(int32_t tid) { return tid == 4711; }

/* Of a length of its own, so that a byte read too many is seen. */
static enum thread_count_path path_of(const char *text, bool relative) {
  char *path = malloc(strlen(text) + 1);
  strcpy(path, text);
  bool may_be = thread_count_path_may_be(path, relative);
  enum thread_count_path found = may_be ? thread_count_path_of(path) : COUNTS_NO_THREADS;
  free(path);
  return found;
}

static bool is_found(const char *path, bool relative, enum thread_count_path expected) {
  enum thread_count_path found = path_of(path, relative);
  if (found != expected) printf("%s: %d, expected %d\n", path, found, expected);
  return found == expected;
}

static const struct {
  const char *path;
  enum thread_count_path counts;
} absolute[] = {
    {"/proc/self/task", COUNTS_BY_DIRECTORY},
    {"/proc/self/task/", COUNTS_BY_DIRECTORY},
    {"/proc/self/task//", COUNTS_BY_DIRECTORY},
    {"/proc/4711/task", COUNTS_BY_DIRECTORY},
    {"/proc/self/stat", COUNTS_BY_TEXT},
    {"/proc/self/status", COUNTS_BY_TEXT},
    {"/proc/thread-self/stat", COUNTS_BY_TEXT},
    {"/proc/thread-self/status", COUNTS_BY_TEXT},
    {"/proc/4711/stat", COUNTS_BY_TEXT},
    {"/proc/4711/status", COUNTS_BY_TEXT},
    {"", COUNTS_NO_THREADS},
    {"/", COUNTS_NO_THREADS},
    {"/proc", COUNTS_NO_THREADS},
    {"/proc/", COUNTS_NO_THREADS},
    {"/proc/self", COUNTS_NO_THREADS},
    {"/proc/self/", COUNTS_NO_THREADS},
    {"/proc/self/tas", COUNTS_NO_THREADS},
    {"/proc/self/tasks", COUNTS_NO_THREADS},
    {"/proc/self/task/4711", COUNTS_NO_THREADS},
    {"/proc/self/statm", COUNTS_NO_THREADS},
    {"/proc/self/stat/", COUNTS_NO_THREADS},
    {"/proc/self/statu", COUNTS_NO_THREADS},
    {"/proc/self/statusx", COUNTS_NO_THREADS},
    {"/proc/self/maps", COUNTS_NO_THREADS},
    {"/proc/selfish/task", COUNTS_NO_THREADS},
    {"/proc/4712/task", COUNTS_NO_THREADS},
    {"/proc/47110/stat", COUNTS_NO_THREADS},
    {"/proc/471/stat", COUNTS_NO_THREADS},
    {"/proc/4294971007/stat", COUNTS_NO_THREADS}, /* 4711 + 2^32 */
    {"/proc/4711stat", COUNTS_NO_THREADS},
    {"/proc//task", COUNTS_NO_THREADS},
    {"/proc/stat", COUNTS_NO_THREADS},
    {"/procself/task", COUNTS_NO_THREADS},
    {"/process/self/task", COUNTS_NO_THREADS},
    {"self/task", COUNTS_NO_THREADS}, /* in the working directory */
};

static const struct {
  const char *path;
  enum thread_count_path counts;
} relative[] = {
    {"self/task/", COUNTS_BY_DIRECTORY},
    {"self/stat", COUNTS_BY_TEXT},
    {"4711/task", COUNTS_BY_DIRECTORY},
    {"thread-self/status", COUNTS_BY_TEXT},
    {"4712/task", COUNTS_NO_THREADS},
    {"task", COUNTS_NO_THREADS},
    {"stat", COUNTS_NO_THREADS},
    {"s", COUNTS_NO_THREADS},
    {"", COUNTS_NO_THREADS},
    {"/proc/self/task", COUNTS_BY_DIRECTORY},
};

int main(void) {
  for (size_t i = 0; i < sizeof absolute / sizeof *absolute; i++)
    CHECK(is_found(absolute[i].path, false, absolute[i].counts));
  for (size_t i = 0; i < sizeof relative / sizeof *relative; i++)
    CHECK(is_found(relative[i].path, true, relative[i].counts));
  return failures != 0;
}

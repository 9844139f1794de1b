#include "thread_count_path.h"

#include <stddef.h>
#include <stdint.h>

#include "shim/base/agent_hooks.h"

/* What follows the word; NULL: it is not there. */
static const char *after(const char *text, const char *word) {
  while (*word)
    if (*text++ != *word++) return NULL;
  return text;
}

/* The same for this process's number. */
static const char *after_own_number(const char *text) {
  enum { DIGITS_MAX = 9 };
  int32_t number = 0;
  int digits = 0;
  for (; *text >= '0' && *text <= '9'; text++) {
    if (++digits > DIGITS_MAX) return NULL;
    number = number * 10 + (*text - '0');
  }
  return digits && *text == '/' && agent_is_process(number) ? text + 1 : NULL;
}

static const char *after_own_directory(const char *text) {
  const char *rest = after(text, "self/");
  if (!rest) rest = after(text, "thread-self/");
  return rest ? rest : after_own_number(text);
}

enum thread_count_path thread_count_path_of(const char *path) {
  const char *rest = *path == '/' ? after(path, "/proc/") : path;
  if (rest) rest = after_own_directory(rest);
  if (!rest) return COUNTS_NO_THREADS;
  const char *end = after(rest, "task");
  while (end && *end == '/') end++;
  if (end && !*end) return COUNTS_BY_DIRECTORY;
  end = after(rest, "stat");
  if (end && *end == 'u') end = after(end, "us");
  return end && !*end ? COUNTS_BY_TEXT : COUNTS_NO_THREADS;
}

#include "preload_variable.h"

#include <dlfcn.h>
#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

static const char NAME[] = "LD_PRELOAD=";
static const char SEPARATORS[] = ": "; /* ld.so(8) */

const char *preload_variable_own_path(void) {
  struct dl_find_object found;
  return _dl_find_object((void *)NAME, &found) == 0 && found.dlfo_link_map->l_name
             ? found.dlfo_link_map->l_name
             : "";
}

static const char *basename_of(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

static bool has_basename(const char *entry, size_t size, const char *name) {
  size_t length = strlen(name);
  return size >= length && memcmp(entry + size - length, name, length) == 0 &&
         (size == length || entry[size - length - 1] == '/');
}

/* True when the last entry has gone. */
static bool remove_entries(char *list, const char *name) {
  char *end = list + strlen(list);
  bool removed = false;
  for (char *entry = list; entry <= end;) {
    size_t size = strcspn(entry, SEPARATORS);
    char *rest = entry + size;
    if (!has_basename(entry, size, name)) {
      entry = rest + 1;
      continue;
    }
    removed = true;
    if (rest < end) rest++;
    else if (entry > list) entry--;
    size_t gone = (size_t)(rest - entry);
    memmove(entry, rest, (size_t)(end - rest));
    end -= gone;
    memset(end, 0, gone); /* /proc/PID/environ shows what is behind the end, too */
  }
  return removed && list[strspn(list, SEPARATORS)] == 0;
}

void preload_variable_remove(char **environment, const char *library) {
  const char *name = basename_of(library);
  if (!*name) return;
  char **kept = environment;
  for (char **variable = environment; *variable; variable++) {
    bool gone = strncmp(*variable, NAME, sizeof NAME - 1) == 0 &&
                remove_entries(*variable + sizeof NAME - 1, name);
    if (!gone) *kept++ = *variable;
  }
  *kept = NULL;
}

#include "config_reading.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void config_add_fault(struct config *out, const char *format, ...) {
  if (out->fault_count == CONFIG_FAULTS_MAX) return;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(out->faults[out->fault_count++], CONFIG_FAULT_LENGTH, format, arguments);
  va_end(arguments);
}

bool config_parse_number(const char *text, uint64_t limit, uint64_t *value) {
  uint64_t number = 0;
  const char *at = text;
  for (; *at >= '0' && *at <= '9'; at++)
    if (__builtin_mul_overflow(number, 10, &number) ||
        __builtin_add_overflow(number, (uint64_t)(*at - '0'), &number))
      return false;
  if (at == text) return false;
  unsigned shift = *at == 'k' || *at == 'K'   ? 10
                   : *at == 'M' || *at == 'm' ? 20
                   : *at == 'G' || *at == 'g' ? 30
                                              : 0;
  if (shift) at++;
  if (*at || (shift && number >> (64 - shift)) || number << shift > limit) return false;
  *value = number << shift;
  return true;
}

/* Programs change their directory, and processes that share a unix socket start in several. */
void config_make_absolute(const char *name, char *path, size_t size, struct config *out) {
  char directory[4096];
  if (!*path || *path == '/') return;
  size_t length = strlen(path) + 1,
         prefix = getcwd(directory, sizeof directory) && *directory == '/' ? strlen(directory) : 0;
  if (prefix == 0 || prefix + 1 + length > size) {
    config_add_fault(
        out,
        "%s: the relative path \"%.60s\" cannot be made absolute (the directory's name is "
        "too long, or it is gone)",
        name, path);
    return;
  }
  memmove(path + prefix + 1, path, length);
  memcpy(path, directory, prefix);
  path[prefix] = '/';
}

#include "duration.h"

#include <stdint.h>
#include <string.h>

/* The unit's seconds; *text is moved behind it. 0: it is none. */
static double unit_seconds(const char **text) {
  static const struct {
    char name[3];
    int32_t milliseconds;
  } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
  for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
    size_t length = strlen(units[i].name);
    if (strncmp(*text, units[i].name, length) != 0) continue;
    *text += length;
    return units[i].milliseconds / 1e3;
  }
  return 0;
}

/* "90", "1.5", ".5"; *text is moved behind it. False: it is none. Not strtod: libc may not be
 * ready yet, when the loader is still busy. */
static bool decimal(const char **text, double *number) {
  const char *at = *text;
  double scale = 1;
  bool any = false, has_point = false;
  for (*number = 0; (*at >= '0' && *at <= '9') || (*at == '.' && !has_point); at++) {
    if (*at == '.') {
      has_point = true;
      continue;
    }
    any = true;
    if (has_point) scale *= 10;
    *number = *number * 10 + (*at - '0');
  }
  *number /= scale;
  *text = at;
  return any;
}

bool parse_duration(const char *text, double *seconds) {
  const double longest = 1000 * 365.25 * 86400;
  const char *start = text;
  *seconds = 0;
  do {
    double number;
    bool is_first = text == start;
    if (!decimal(&text, &number)) return false;
    bool is_plain = !*text && is_first;
    double unit = is_plain ? 1 : unit_seconds(&text);
    if (unit == 0) return false;
    *seconds += number * unit;
  } while (*text);
  return *seconds <= longest;
}

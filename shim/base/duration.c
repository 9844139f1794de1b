#include "duration.h"

#include <stdint.h>
#include <stdlib.h>
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

bool parse_duration(const char *text, double *seconds) {
  const double longest = 1000 * 365.25 * 86400;
  const char *start = text;
  *seconds = 0;
  do {
    size_t digits = strspn(text, "0123456789.");
    char *end;
    double number = strtod(text, &end);
    if (digits == 0 || end != text + digits) return false;
    bool is_plain = !*end && text == start;
    text = end;
    double unit = is_plain ? 1 : unit_seconds(&text);
    if (unit == 0) return false;
    *seconds += number * unit;
  } while (*text);
  return *seconds <= longest;
}

#include "dump_name.h"

#include <stdio.h>
#include <string.h>

struct place {
  char *out;
  size_t size, used; /* used >= size: it does not fit */
};

static void put(struct place *place, char c) {
  if (place->used < place->size) place->out[place->used] = c;
  place->used++;
}

static void put_text(struct place *place, const char *text) {
  while (*text) put(place, *text++);
}

/* It is the program's to choose, and never leads to another directory. */
static void put_program(struct place *place, const char *name) {
  static const char kept[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-";
  if (!*name) name = "unknown";
  for (const char *c = name; *c; c++)
    put(place, strchr(kept, *c) && (c > name || *c != '.') ? *c : '_');
}

/* Not by gmtime, which may take libc's lock of time zones. From days since 1970 to a date of the
 * Gregorian calendar, by years that begin in March. */
static void put_time(struct place *place, int64_t nanos) {
  char text[40];
  int64_t milliseconds = nanos / 1000000, seconds = milliseconds / 1000, days = seconds / 86400;
  int64_t of_day = seconds % 86400, shifted = days + 719468; /* since 0000-03-01 */
  int64_t era = shifted / 146097, of_era = shifted % 146097;
  int64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
  int64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  int64_t month = (5 * of_year + 2) / 153, day = of_year - (153 * month + 2) / 5 + 1;
  int64_t year = year_of_era + era * 400 + (month >= 10);
  snprintf(text, sizeof text, "%04d%02d%02dT%02d%02d%02d.%03dZ", (int)year,
           (int)(month < 10 ? month + 3 : month - 9), (int)day, (int)(of_day / 3600),
           (int)(of_day / 60 % 60), (int)(of_day % 60), (int)(milliseconds % 1000));
  put_text(place, text);
}

bool dump_name_write(const char *pattern, const struct dump_name *name, char *out, size_t size) {
  struct place place = {out, size, 0};
  char number[16];
  snprintf(number, sizeof number, "%d", name->pid);
  for (const char *at = pattern; *at; at++) {
    if (*at != '%') {
      put(&place, *at);
      continue;
    }
    switch (*++at) {
      case 'p': put_text(&place, number); break;
      case 'n': put_program(&place, name->program); break;
      case 't': put_time(&place, name->time_nanos); break;
      case 'k': put_text(&place, name->kind); break;
      case '%': put(&place, '%'); break;
      default: /* of a relative path's directory: dump_config.c lets no other pass */
        put(&place, '%');
        at--;
    }
  }
  put(&place, 0);
  return place.used <= size;
}

#include "query.h"

#include <stdlib.h>
#include <string.h>

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

enum decoded { DECODED, DECODED_TOO_LONG, DECODED_BAD };

/* Decodes text[0 .. size) into out, NUL-terminated. An escaped NUL is as bad as a bad escape: no
 * parameter has one. */
static enum decoded decode(const char *text, size_t size, char *out, size_t out_size) {
  size_t used = 0;
  bool too_long = false;
  for (size_t i = 0; i < size; i++) {
    char c = text[i];
    if (c == '+') {
      c = ' ';
    } else if (c == '%') {
      int high = i + 1 < size ? hex_digit(text[i + 1]) : -1,
          low = i + 2 < size ? hex_digit(text[i + 2]) : -1;
      if (high < 0 || low < 0 || (high == 0 && low == 0)) return DECODED_BAD;
      c = (char)(high * 16 + low);
      i += 2;
    } else if (c == ';') {
      return DECODED_BAD;
    }
    if (used + 1 >= out_size)
      too_long = true; /* go on: a bad escape further on still spoils the pair */
    else out[used++] = c;
  }
  if (too_long) return DECODED_TOO_LONG;
  out[used] = 0;
  return DECODED;
}

enum query_result query_value(const char *query, const char *key, char *out, size_t size) {
  char name[32];
  for (const char *pair = query, *next; *pair; pair = next) {
    size_t length = strcspn(pair, "&");
    next = pair + length + (pair[length] == '&');
    const char *equals = memchr(pair, '=', length);
    size_t name_length = equals ? (size_t)(equals - pair) : length;
    if (decode(pair, name_length, name, sizeof name) != DECODED || strcmp(name, key) != 0) continue;
    const char *value = equals ? equals + 1 : pair + length;
    enum decoded decoded = decode(value, length - (size_t)(value - pair), out, size);
    if (decoded == DECODED_BAD) continue;
    return decoded == DECODED ? QUERY_FOUND : QUERY_TOO_LONG;
  }
  return QUERY_ABSENT;
}

bool parse_int(const char *text, int64_t *out) {
  bool negative = *text == '-';
  if (*text == '-' || *text == '+') text++;
  *out = 0;
  if (!*text) return false;
  uint64_t value = 0, limit = negative ? (uint64_t)INT64_MAX + 1 : INT64_MAX;
  bool overflow = false;
  for (; *text; text++) {
    if (*text < '0' || *text > '9') return false;
    unsigned digit = (unsigned)(*text - '0');
    if (value > (limit - digit) / 10) overflow = true;
    else value = value * 10 + digit;
  }
  if (overflow) value = limit;
  *out = negative ? (int64_t)(0 - value) : (int64_t)value;
  return !overflow;
}

bool parse_address(const char *text, size_t size, uint64_t *out) {
  unsigned base = 10;
  if (size > 1 && text[0] == '0') {
    char kind = (char)(text[1] | 0x20);
    unsigned skip = 2;
    if (kind == 'x') base = 16;
    else if (kind == 'o') base = 8;
    else if (kind == 'b') base = 2;
    else base = 8, skip = 1;
    text += skip;
    size -= skip;
  }
  uint64_t value = 0;
  if (size == 0) return false;
  for (size_t i = 0; i < size; i++) {
    int digit = hex_digit(text[i]);
    if (digit < 0 || (unsigned)digit >= base) return false;
    if (value > (UINT64_MAX - (unsigned)digit) / base) return false;
    value = value * base + (unsigned)digit;
  }
  *out = value;
  return true;
}

bool parse_float(const char *text, double *out) {
  char *end;
  /* What strtod takes and ParseFloat does not: blanks before, nan(...). */
  if (!*text || strspn(text, " \t\n\v\f\r") || strpbrk(text, "(xX")) return false;
  *out = strtod(text, &end);
  return !*end;
}

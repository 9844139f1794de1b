/* Query strings and the numbers in them, with the rules of Go's net/url and strconv, which clients
 * rely on. Context: any; nothing is allocated. */
#ifndef AGENT_QUERY_H
#define AGENT_QUERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum query_result {
  QUERY_ABSENT,
  QUERY_FOUND,
  QUERY_TOO_LONG /* does not fit into out; no value that means anything here is longer than a few
                    digits */
};

/* The first value of key in "a=1&b=2", decoded. A pair with a bad %-escape or a ';' is skipped, as
 * Go does. */
enum query_result query_value(const char *query, const char *key, char *out, size_t size);

/* strconv.ParseInt(text, 10, 64): optional sign, decimal digits, nothing else; false (and *out
 * clamped as Go does, or 0) otherwise. */
bool parse_int(const char *text, int64_t *out);

/* strconv.ParseFloat(text, 64) of decimal numbers, "inf" and "nan"; false otherwise. */
bool parse_float(const char *text, double *out);

/* strconv.ParseUint(text, 0, 64) on text[0 .. size): 0x, 0o, 0b, leading-0 octal or decimal. */
bool parse_address(const char *text, size_t size, uint64_t *out);

#endif

/* Query strings, numbers, addresses and durations, as Go's packages read them. */
#include <stdint.h>
#include <string.h>

#include "agent/http/query.h"
#include "shim/base/duration.h"
#include "check.h"

static void test_query(void) {
  char value[8];
  CHECK(query_value("a=1&b=2", "b", value, sizeof value) == QUERY_FOUND && strcmp(value, "2") == 0);
  CHECK(query_value("a=1&b", "b", value, sizeof value) == QUERY_FOUND && !*value);
  CHECK(query_value("%62=%32+", "b", value, sizeof value) == QUERY_FOUND &&
        strcmp(value, "2 ") == 0);
  CHECK(query_value("b=%zz&b=3", "b", value, sizeof value) == QUERY_FOUND &&
        strcmp(value, "3") == 0);
  CHECK(query_value("b=1;c=2", "b", value, sizeof value) == QUERY_ABSENT);
  CHECK(query_value("b=%00", "b", value, sizeof value) == QUERY_ABSENT);
  CHECK(query_value("b=%4", "b", value, sizeof value) == QUERY_ABSENT);
  CHECK(query_value("b=12345678", "b", value, sizeof value) == QUERY_TOO_LONG);
  CHECK(query_value("&&=&", "b", value, sizeof value) == QUERY_ABSENT);
  static const struct {
    const char *text;
    bool ok;
    int64_t value;
  } numbers[] = {{"0", true, 0},
                 {"+7", true, 7},
                 {"-9223372036854775808", true, INT64_MIN},
                 {"9223372036854775807", true, INT64_MAX},
                 {"9223372036854775808", false, INT64_MAX},
                 {"-9223372036854775809", false, INT64_MIN},
                 {"", false, 0},
                 {"+", false, 0},
                 {"1 ", false, 0},
                 {" 1", false, 0},
                 {"1_0", false, 0},
                 {"0x1", false, 0},
                 {"--1", false, 0},
                 {"999999999999999999999x", false, 0}};
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    int64_t number = 42;
    CHECK(parse_int(numbers[i].text, &number) == numbers[i].ok);
    CHECK(number == numbers[i].value);
  }
  static const struct {
    const char *text;
    bool ok;
    uint64_t value;
  } addresses[] = {{"0x1F", true, 31},
                   {"0XfF", true, 255},
                   {"017", true, 15},
                   {"0o17", true, 15},
                   {"0b11", true, 3},
                   {"17", true, 17},
                   {"0", true, 0},
                   {"0xffffffffffffffff", true, UINT64_MAX},
                   {"0x10000000000000000", false, 0},
                   {"18446744073709551616", false, 0},
                   {"0x", false, 0},
                   {"08", false, 0},
                   {"", false, 0},
                   {"-1", false, 0},
                   {"1f", false, 0}};
  for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
    uint64_t address = 0;
    bool ok = parse_address(addresses[i].text, strlen(addresses[i].text), &address);
    CHECK(ok == addresses[i].ok && (!ok || address == addresses[i].value));
  }
}

static void test_durations(void) {
  static const struct {
    const char *text;
    double seconds; /* below 0: refused */
  } durations[] = {
      {"90s", 90},         {"10m", 600}, {"1h30m", 5400}, {"250ms", 0.25}, {"1.5h", 5400},
      {"2d", 172800},      {"7", 7},     {"0", 0},        {"", -1},        {"m", -1},
      {"-1s", -1},         {"+1s", -1},  {"1s5", -1},     {"1 s", -1},     {"1e3s", -1},
      {"0x10", -1},        {"inf", -1},  {"nan", -1},     {"1.2.3s", -1},  {"1S", -1},
      {"99999999999h", -1}};
  for (size_t i = 0; i < sizeof durations / sizeof *durations; i++) {
    double seconds;
    bool ok = parse_duration(durations[i].text, &seconds);
    if (ok != (durations[i].seconds >= 0) || (ok && seconds != durations[i].seconds))
      printf("duration %s\n", durations[i].text), failures++;
  }
}

int main(void) {
  test_query();
  test_durations();
  return failures != 0;
}

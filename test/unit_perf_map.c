/* links: agent/symbols/perf_map.c test/agent_memory_libc.c */
/* flags: -DPERF_MAP_PIECES_MAX=600 */
/* Maps of JIT code against a model that looks at every line for every address; windows, limits,
 * ages; bytes that make no sense. */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/symbols/perf_map.h"

extern int64_t agent_memory_fail_after;

static int failures;
static char path[] = "/tmp/pprofagent-test-XXXXXX";

#define CHECK(condition)                                                         \
  do {                                                                           \
    if (!(condition)) failures++, printf("line %d: %s\n", __LINE__, #condition); \
  } while (0)

static void write_file(const char *bytes, size_t size) {
  int descriptor = open(path, O_WRONLY | O_TRUNC);
  CHECK(write(descriptor, bytes, size) == (ssize_t)size);
  close(descriptor);
}

static struct perf_map *read_text(const char *text) {
  unsigned losses;
  write_file(text, strlen(text));
  struct perf_map *map = perf_map_read(path, 0, UINT64_MAX, &losses);
  CHECK(losses == 0);
  return map;
}

static bool is_named(struct perf_map *map, uint64_t address, const char *name, uint64_t start) {
  uint64_t found = 0;
  const char *text = map == NULL ? NULL : perf_map_find(map, address, &found);
  if (name == NULL) return text == NULL;
  return text != NULL && strcmp(text, name) == 0 && found == start;
}

static void check_lines(void) {
  struct perf_map *map = read_text(
      "1000 100 outer\n0x1040 0X10 inner\n9 x bad\n\n \n1080 0 empty\n1090 10\n10a0 10 \n2000 10 a "
      "name, of words\r\n"
      "FFFFFFFFFFFFFFF0 20 wraps\n3000 10 first\n3000 8 second\n2fff 1 before\n11111111111111111 1 "
      "long\n4000 1 cut");
  CHECK(is_named(map, 0x1000, "outer", 0x1000) && is_named(map, 0x103f, "outer", 0x1000) &&
        is_named(map, 0x1040, "inner", 0x1040));
  CHECK(is_named(map, 0x104f, "inner", 0x1040) && is_named(map, 0x1050, "outer", 0x1000) &&
        is_named(map, 0x1095, "outer", 0x1000));
  CHECK(is_named(map, 0x1100, NULL, 0) && is_named(map, 0xfff, NULL, 0) &&
        is_named(map, 0, NULL, 0) && is_named(map, UINT64_MAX, NULL, 0));
  CHECK(is_named(map, 0x2000, "a name, of words", 0x2000) &&
        is_named(map, 0x2fff, "before", 0x2fff));
  CHECK(is_named(map, 0x3007, "second", 0x3000) && is_named(map, 0x3008, NULL, 0) &&
        is_named(map, 0x4000, NULL, 0));
  perf_map_release(map);
  map = read_text("  1000 10   spaced\n\t2000\t10\ttabbed\n");
  CHECK(is_named(map, 0x1000, "spaced", 0x1000) && is_named(map, 0x2000, "tabbed", 0x2000));
  perf_map_release(map);
  map = read_text("1040 10 inner\n1000 100 outer\n"); /* the later line covers the earlier one,
                                                         which begins nearer */
  CHECK(is_named(map, 0x1044, "outer", 0x1000));
  perf_map_release(map);
  CHECK(read_text("") == NULL && read_text("\n") == NULL && read_text("no map\n") == NULL &&
        read_text("1 1 x") == NULL);
}

/* The file goes on while it is read, and is written anew while it is open. */
static void check_changes(void) {
  struct perf_map *map = read_text("1000 100 first\n2000 100 second\n");
  write_file("1000 100 third\n", 15);
  CHECK(is_named(map, 0x1000, "third", 0x1000) && is_named(map, 0x2000, NULL, 0));
  write_file("9000 100 other\n", 15);
  CHECK(is_named(map, 0x1000, NULL, 0));
  perf_map_release(map);
}

static void check_age(void) {
  unsigned losses;
  const int64_t second = 1000000000, start = 1700000000 * second;
  static const struct {
    int64_t seconds, nanoseconds;
    bool stale;
  } cases[] = {{1700000000, 500, false},      {1699999999, 990000000, false},
               {1699999999, 900000000, true}, {1700000100, 0, false},
               {1699999999, 0, false},        {1699999990, 0, true},
               {1600000000, 1, true},         {0, 1, true}};
  write_file("1000 100 f\n", 11);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct timespec times[2] = {{.tv_sec = cases[i].seconds, .tv_nsec = cases[i].nanoseconds},
                                {.tv_sec = cases[i].seconds, .tv_nsec = cases[i].nanoseconds}};
    CHECK(utimensat(AT_FDCWD, path, times, 0) == 0);
    struct perf_map *map = perf_map_read(path, start, UINT64_MAX, &losses);
    if ((map == NULL) != cases[i].stale ||
        losses != (cases[i].stale ? (unsigned)PERF_MAP_STALE : 0))
      failures++, printf("age %zu\n", i);
    perf_map_release(map);
    map = perf_map_read(path, 0, UINT64_MAX, &losses); /* not known when the process started */
    CHECK(map != NULL && losses == 0);
    perf_map_release(map);
  }
}

/* Lines and names that are longer than what is read at once. */
static void check_windows(void) {
  enum { LONG = 3 << 20 };
  char *text = malloc(4 * LONG), *at = text, name[40];
  for (int i = 0; i < 100; i++) at += sprintf(at, "%x 10 short%d\n", 0x1000 + 16 * i, i);
  at += sprintf(at, "90000 10 ");
  memset(at, 'x', LONG);
  at += LONG;
  at += sprintf(at, "\n");
  memset(at, 'y', LONG);
  at += LONG;
  at += sprintf(at, "\n");
  for (int i = 0; i < 100; i++)
    at += sprintf(at, "%x 10 later%0*d\n", 0x1800 + 16 * i, 20000 + i, i);
  at += sprintf(at, "1000 10 last\n");
  write_file(text, (size_t)(at - text));
  unsigned losses;
  struct perf_map *map = perf_map_read(path, 0, UINT64_MAX, &losses);
  uint64_t start;
  CHECK(losses == 0 && is_named(map, 0x1000, "last", 0x1000) &&
        is_named(map, 0x1015, "short1", 0x1010));
  const char *found = perf_map_find(map, 0x90001, &start);
  CHECK(found != NULL && strlen(found) > 10000 && strspn(found, "x") == strlen(found)); /* cut */
  for (int i = 0; i < 100; i++) {
    snprintf(name, sizeof name, "later%030d", 0);
    found = perf_map_find(map, 0x1800 + 16 * (uint64_t)i, &start);
    CHECK(found != NULL && strncmp(found, name, 30) == 0 && start == 0x1800 + 16 * (uint64_t)i);
  }
  perf_map_release(map);
  free(text);
}

/* More functions than the index may hold: the latest are kept, and it is said. */
static void check_limit(void) {
  enum { LINES = 5000 };
  char *text = malloc(LINES * 40), *at = text, name[40];
  unsigned losses;
  for (int round = 0; round < 20; round++) /* the same places again and again: nothing is lost */
    for (int i = 0; i < 250; i++) at += sprintf(at, "%x 10 f%d_%d\n", 0x1000 + 16 * i, i, round);
  write_file(text, (size_t)(at - text));
  struct perf_map *map = perf_map_read(path, 0, UINT64_MAX, &losses);
  CHECK(losses == 0 && is_named(map, 0x1000, "f0_19", 0x1000) &&
        is_named(map, 0x1000 + 16 * 249, "f249_19", 0x1000 + 16 * 249));
  perf_map_release(map);
  at = text;
  for (int i = 0; i < LINES; i++) at += sprintf(at, "%x 10 f%d\n", 0x1000 + 16 * i, i);
  write_file(text, (size_t)(at - text));
  map = perf_map_read(path, 0, UINT64_MAX, &losses);
  CHECK(losses == PERF_MAP_LIMIT && is_named(map, 0x1000, NULL, 0));
  for (int i = LINES - 150; i < LINES; i++) {
    snprintf(name, sizeof name, "f%d", i);
    CHECK(is_named(map, 0x1000 + 16 * (uint64_t)i, name, 0x1000 + 16 * (uint64_t)i));
  }
  perf_map_release(map);
  const uint64_t last = 0x1000 + 16 * (LINES - 1);
  for (uint64_t memory = 0; memory <= 16 << 10; memory += 8 << 10) { /* more than fit into it */
    map = perf_map_read(path, 0, memory, &losses);
    CHECK(losses == PERF_MAP_LIMIT && is_named(map, last, "f4999", last));
    CHECK(is_named(map, 0x1000 + 16 * (LINES - 400), NULL, 0));
    perf_map_release(map);
  }
  free(text);
}

static uint64_t random_state = 88172645463325252u;
static unsigned random_below(unsigned limit) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (unsigned)(random_state >> 33) % limit;
}

static void check_model(void) {
  enum { LINES = 60, SPACE = 300 };
  struct {
    unsigned start, end;
    bool replaced;
  } lines[LINES];
  char text[LINES * 40], name[20];
  for (int round = 0; round < 250; round++) {
    char *at = text;
    unsigned count = random_below(LINES), step = 1 + random_below(20);
    for (unsigned i = 0; i < count; i++) {
      lines[i].start = 1000 + random_below(SPACE / step) * step;
      lines[i].end = lines[i].start + 1 + random_below(2 * step + (random_below(8) ? 0 : SPACE));
      lines[i].replaced = false;
      for (unsigned k = 0; k < i; k++)
        lines[k].replaced = lines[k].replaced || lines[k].start == lines[i].start;
      at += sprintf(at, "%s%x %x f%u\n%s", random_below(2) ? "0x" : "", lines[i].start,
                    lines[i].end - lines[i].start, i, random_below(9) ? "" : "zz\n");
    }
    *at = 0;
    struct perf_map *map = read_text(text);
    for (unsigned address = 990; address < 1000 + 3 * SPACE; address++) {
      int wanted = -1;
      for (unsigned i = 0; i < count; i++)
        if (!lines[i].replaced && address >= lines[i].start && address < lines[i].end)
          wanted = (int)i;
      snprintf(name, sizeof name, "f%d", wanted);
      if (!is_named(map, address, wanted < 0 ? NULL : name, wanted < 0 ? 0 : lines[wanted].start))
        failures++, printf("address %#x is not %s in\n%s", address, name, text);
      if (failures > 3) return;
    }
    perf_map_release(map);
  }
}

static void check_bytes(void) {
  static const char pieces[] = "0123456789abcdefx \n\n\r\t\0Zf";
  char text[600];
  unsigned losses;
  uint64_t start;
  for (int round = 0; round < 2500; round++) {
    size_t size = random_below(sizeof text);
    for (size_t i = 0; i < size; i++)
      text[i] =
          random_below(12) ? pieces[random_below(sizeof pieces - 1)] : (char)random_below(256);
    write_file(text, size);
    agent_memory_fail_after = random_below(4) ? INT64_MAX : random_below(6);
    struct perf_map *map = perf_map_read(path, 0, UINT64_MAX, &losses);
    agent_memory_fail_after = INT64_MAX;
    if (map == NULL) continue;
    for (uint64_t address = 0; address < 64; address++) perf_map_find(map, address, &start);
    perf_map_find(map, (uint64_t)random_below(1u << 30) << random_below(34), &start);
    perf_map_release(map);
  }
}

int main(void) {
  close(mkstemp(path));
  check_lines();
  check_changes();
  check_age();
  check_windows();
  check_limit();
  check_model();
  check_bytes();
  unlink(path);
  return failures != 0;
}

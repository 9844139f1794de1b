#include "perf_map.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "agent_memory.h"
#include "elf_file.h"

/* from libbacktrace: glibc's qsort may use the host's malloc */
#include "backtrace.h"
#include "internal.h"

static const uint64_t FILE_LIMIT = 64ULL << 20, MEMORY_LIMIT = 160ULL << 20;
enum { MIN_LINE = 6, MAX_HEX_DIGITS = 16 };

struct jit_function {
  uint64_t start, end;
  const char *name;
  uint32_t line; /* later lines win */
};

struct perf_map {
  struct region *region;
  struct jit_function *functions;
  size_t count;
};

static bool parse_hex(const char **at, uint64_t *value) {
  const char *p = *at;
  if (p[0] == '0' && (p[1] == 'x' || p[1] == 'X')) p += 2;
  int digits = 0;
  for (*value = 0; digits <= MAX_HEX_DIGITS; p++, digits++) {
    unsigned digit;
    if (*p >= '0' && *p <= '9')
      digit = (unsigned)(*p - '0');
    else if ((*p | 32) >= 'a' && (*p | 32) <= 'f')
      digit = (unsigned)((*p | 32) - 'a') + 10;
    else
      break;
    *value = *value << 4 | digit;
  }
  if (digits == 0 || digits > MAX_HEX_DIGITS || *p != ' ') return false;
  while (*p == ' ') p++;
  *at = p;
  return true;
}

static bool parse_line(const char *line, struct jit_function *function) {
  uint64_t size;
  if (!parse_hex(&line, &function->start) || !parse_hex(&line, &size) || size == 0 || *line == '\0') return false;
  function->end = function->start + size;
  function->name = line;
  return function->end > function->start;
}

static int compare_functions(const void *left, const void *right) {
  const struct jit_function *a = left, *b = right;
  if (a->start != b->start) return a->start < b->start ? -1 : 1;
  return a->line < b->line ? -1 : a->line > b->line;
}

static bool parse(struct perf_map *map, char *text, uint64_t size) {
  size_t lines = 0;
  for (uint64_t i = 0; i < size; i++) lines += text[i] == '\n';
  map->functions = region_alloc(map->region, (lines + 1) * sizeof *map->functions);
  if (map->functions == NULL) return false;
  uint32_t number = 0;
  /* a last line without its newline is still being written */
  for (char *line = text, *end; (end = memchr(line, '\n', size - (uint64_t)(line - text))) != NULL; line = end + 1) {
    *end = '\0';
    if (end > line && end[-1] == '\r') end[-1] = '\0';
    struct jit_function *function = &map->functions[map->count];
    function->line = number++;
    if (parse_line(line, function)) map->count++;
  }
  backtrace_qsort(map->functions, map->count, sizeof *map->functions, compare_functions);
  return true;
}

struct perf_map *perf_map_read(const char *path) {
  int descriptor = elf_file_open_path(path);
  if (descriptor < 0) return NULL;
  struct stat status;
  struct perf_map *map = NULL;
  if (fstat(descriptor, &status) == 0 && (status.st_uid == geteuid() || status.st_uid == 0) && status.st_size >= MIN_LINE) {
    uint64_t size = (uint64_t)status.st_size < FILE_LIMIT ? (uint64_t)status.st_size : FILE_LIMIT, got = 0;
    map = agent_calloc(1, sizeof *map);
    if (map != NULL) map->region = region_create(MEMORY_LIMIT);
    char *text = map == NULL || map->region == NULL ? NULL : region_alloc(map->region, size + 1);
    while (text != NULL && got < size) {
      ssize_t count = pread(descriptor, text + got, size - got, (off_t)got);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) break;
      got += (uint64_t)count;
    }
    if (text == NULL || !parse(map, text, got)) {
      perf_map_release(map);
      map = NULL;
    }
  }
  close(descriptor);
  return map;
}

void perf_map_release(struct perf_map *map) {
  if (map == NULL) return;
  region_destroy(map->region);
  agent_free(map);
}

const char *perf_map_find(const struct perf_map *map, uint64_t address, uint64_t *start) {
  size_t low = 0, high = map->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (map->functions[middle].start <= address)
      low = middle + 1;
    else
      high = middle;
  }
  /* The last one that begins at or before address: what an earlier one that reached as far meant has been overwritten since. */
  if (low == 0 || map->functions[low - 1].end <= address) return NULL;
  *start = map->functions[low - 1].start;
  return map->functions[low - 1].name;
}

void perf_map_default_path(char path[PERF_MAP_PATH_SIZE]) {
  snprintf(path, PERF_MAP_PATH_SIZE, "/tmp/perf-%d.map", (int)getpid());
}

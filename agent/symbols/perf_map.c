#include "perf_map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "agent/runtime/agent_memory.h"
#include "agent/runtime/trusted_path.h"

/* from libbacktrace: glibc's qsort may use the host's malloc */
#include "backtrace.h"
#include "internal.h"

#ifndef PERF_MAP_PIECES_MAX
#define PERF_MAP_PIECES_MAX                                                                     \
  (5U << 19) /* lines; 60 MiB, and as much while overlaps are resolved: a map of 150 MB without \
                any overlap */
#endif

static const uint64_t FILE_LIMIT = 1ULL << 30; /* of a larger file, the end */
enum {
  WINDOW = 1 << 20,
  HEAD_SIZE = 64, /* the numbers of a line and its name's first byte */
  LINE_SIZE = 16 << 10, /* a name that is longer is cut */
  FIRST_PIECES = 4096,
  LEAST_PIECES = 64,
  FIRST_OPEN = 64,
  MAX_HEX_DIGITS = 16
};

/* Addresses that one line names. Later lines are further on in the file. */
struct piece {
  uint64_t start, end, line_at;
};

struct perf_map {
  int descriptor;
  struct piece *pieces; /* in order of address, none overlaps another */
  size_t count;
  char line[LINE_SIZE + 1];
};

/* While the file is read. */
struct reader {
  struct piece *pieces;
  size_t count, capacity, limit;
  uint64_t memory; /* that may be taken */
  unsigned losses;
  bool failed;
  uint64_t line_at; /* of the line that is being read */
  char head[HEAD_SIZE + 1];
  size_t head_size;
};

/* ---- one line: at is read up to its NUL or newline ---- */

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

static bool parse_hex(const char **at, uint64_t *value) {
  const char *p = *at;
  while (is_blank(*p)) p++;
  if (p[0] == '0' && (p[1] == 'x' || p[1] == 'X')) p += 2;
  int digits = 0;
  for (*value = 0; digits <= MAX_HEX_DIGITS; p++, digits++) {
    unsigned digit;
    if (*p >= '0' && *p <= '9') digit = (unsigned)(*p - '0');
    else if ((*p | 32) >= 'a' && (*p | 32) <= 'f') digit = (unsigned)((*p | 32) - 'a') + 10;
    else break;
    *value = *value << 4 | digit;
  }
  if (digits == 0 || digits > MAX_HEX_DIGITS || !is_blank(*p)) return false;
  while (is_blank(*p)) p++;
  *at = p;
  return true;
}

/* The name, or NULL where the line makes no sense. */
static const char *parse_line(const char *line, struct piece *piece) {
  uint64_t size;
  if (!parse_hex(&line, &piece->start) || !parse_hex(&line, &size) || size == 0) return NULL;
  piece->end = piece->start + size;
  return *line != '\0' && *line != '\n' && *line != '\r' && piece->end > piece->start ? line : NULL;
}

/* ---- which line an address belongs to ---- */

static int compare_pieces(const void *left, const void *right) {
  const struct piece *a = left, *b = right;
  if (a->start != b->start) return a->start < b->start ? -1 : 1;
  return a->line_at < b->line_at ? -1 : a->line_at > b->line_at;
}

/* The pieces that reach over the place where cut is, the latest line first: a binary heap. */
struct open_pieces {
  struct piece *heap;
  size_t count, capacity;
  bool failed;
};

static bool is_later(const struct open_pieces *open, size_t a, size_t b) {
  return open->heap[a].line_at > open->heap[b].line_at;
}

static void swap(struct open_pieces *open, size_t a, size_t b) {
  struct piece kept = open->heap[a];
  open->heap[a] = open->heap[b];
  open->heap[b] = kept;
}

static void push(struct open_pieces *open, const struct piece *piece) {
  if (open->count == open->capacity) {
    size_t capacity = open->capacity == 0 ? FIRST_OPEN : 2 * open->capacity;
    struct piece *grown = agent_realloc(open->heap, capacity * sizeof *grown);
    if (grown == NULL) {
      open->failed = true;
      return;
    }
    open->heap = grown;
    open->capacity = capacity;
  }
  size_t at = open->count++;
  open->heap[at] = *piece;
  for (; at > 0 && is_later(open, at, (at - 1) / 2); at = (at - 1) / 2)
    swap(open, at, (at - 1) / 2);
}

static void pop(struct open_pieces *open) {
  open->heap[0] = open->heap[--open->count];
  for (size_t at = 0;;) {
    size_t latest = at;
    for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < open->count; child++)
      if (is_later(open, child, latest)) latest = child;
    if (latest == at) return;
    swap(open, at, latest);
    at = latest;
  }
}

struct cutting {
  struct open_pieces open;
  size_t made;
  size_t ahead; /* the most that were made beyond those that had been read */
};

/* Cuts pieces, which are in order, so that none overlaps another and the latest line has each
 * address. out: where they go, or NULL to count; it may be the same memory, if it begins as far
 * below pieces as they get ahead. */
static void cut(struct cutting *cutting, const struct piece *pieces, size_t count,
                struct piece *out) {
  struct open_pieces *open = &cutting->open;
  struct piece last = {0};
  uint64_t at = 0;
  cutting->made = cutting->ahead = 0;
  for (size_t next = 0; (next < count || open->count > 0) && !open->failed;) {
    if (open->count == 0) at = pieces[next].start;
    while (next < count && pieces[next].start <= at && !open->failed) push(open, &pieces[next++]);
    while (open->count > 0 && open->heap[0].end <= at) pop(open);
    if (open->count == 0) continue;
    const struct piece *top = &open->heap[0];
    uint64_t end = next < count && pieces[next].start < top->end ? pieces[next].start : top->end;
    bool goes_on = cutting->made > 0 && last.end == at && last.line_at == top->line_at;
    if (!goes_on) cutting->made++;
    if (cutting->made > next && cutting->made - next > cutting->ahead)
      cutting->ahead = cutting->made - next;
    last = (struct piece){goes_on ? last.start : at, end, top->line_at};
    if (out != NULL) out[cutting->made - 1] = last;
    at = end;
  }
}

/* Puts the pieces in order. A line replaces an earlier one that began at the same place: that
 * function is gone, also where it was longer. */
static void order(struct reader *reader) {
  size_t kept = 0;
  backtrace_qsort(reader->pieces, reader->count, sizeof *reader->pieces, compare_pieces);
  for (size_t i = 0; i < reader->count; i++)
    if (i + 1 == reader->count || reader->pieces[i + 1].start != reader->pieces[i].start)
      reader->pieces[kept++] = reader->pieces[i];
  reader->count = kept;
}

/* Drops the older half of the file's lines, and again, until there is room for many more. */
static void drop_oldest(struct reader *reader) {
  uint64_t oldest = UINT64_MAX;
  for (size_t i = 0; i < reader->count; i++)
    if (reader->pieces[i].line_at < oldest) oldest = reader->pieces[i].line_at;
  while (reader->count > reader->limit / 4 * 3) {
    size_t kept = 0;
    oldest += (reader->line_at - oldest) / 2 + 1;
    for (size_t i = 0; i < reader->count; i++)
      if (reader->pieces[i].line_at >= oldest) reader->pieces[kept++] = reader->pieces[i];
    reader->count = kept;
    reader->losses |= PERF_MAP_LIMIT;
  }
}

/* False: no memory. */
static bool resolve(struct reader *reader) {
  struct cutting cutting = {0};
  order(reader);
  for (;;) {
    cut(&cutting, reader->pieces, reader->count, NULL);
    size_t needed = reader->count + cutting.ahead + cutting.open.capacity;
    if (cutting.open.failed || needed * sizeof *reader->pieces <= reader->memory ||
        reader->count < LEAST_PIECES)
      break;
    reader->limit = reader->count;
    drop_oldest(reader);
  }
  size_t ahead = cutting.ahead, count = reader->count;
  struct piece *grown = cutting.open.failed
                            ? NULL
                            : agent_realloc(reader->pieces, (count + ahead + 1) * sizeof *grown);
  if (grown != NULL) {
    memmove(grown + ahead, grown, count * sizeof *grown);
    cut(&cutting, grown + ahead, count, grown);
    reader->pieces = grown;
    reader->count = cutting.made;
  }
  agent_free(cutting.open.heap);
  return grown != NULL && !cutting.open.failed;
}

/* ---- the file ---- */

static bool make_room(struct reader *reader) {
  if (reader->count < reader->capacity) return true;
  if (reader->count >= reader->limit) {
    order(reader);
    drop_oldest(reader);
  }
  size_t capacity = reader->count < FIRST_PIECES ? FIRST_PIECES : 2 * reader->count;
  if (capacity > reader->limit) capacity = reader->limit;
  struct piece *grown = agent_realloc(reader->pieces, capacity * sizeof *grown);
  if (grown == NULL) return false;
  reader->pieces = grown;
  reader->capacity = capacity;
  return true;
}

static void take_line(struct reader *reader, const char *line) {
  struct piece piece = {.line_at = reader->line_at};
  if (parse_line(line, &piece) == NULL) return;
  if (make_room(reader)) reader->pieces[reader->count++] = piece;
  else reader->failed = true;
}

/* The next bytes of the file, from offset on. What is behind the last newline waits for the rest of
 * its line. */
static void take_window(struct reader *reader, const char *bytes, size_t size, uint64_t offset) {
  for (const char *at = bytes, *limit = bytes + size; at < limit && !reader->failed;) {
    const char *newline = memchr(at, '\n', (size_t)(limit - at));
    size_t length = (size_t)((newline == NULL ? limit : newline) - at);
    bool whole = reader->head_size == 0 && newline != NULL;
    if (!whole) {
      size_t room = HEAD_SIZE - reader->head_size, part = length < room ? length : room;
      memcpy(reader->head + reader->head_size, at, part);
      reader->head_size += part;
      reader->head[reader->head_size] = '\0';
    }
    if (newline == NULL) return;
    take_line(reader, whole ? at : reader->head);
    reader->head_size = 0;
    at = newline + 1;
    reader->line_at = offset + (uint64_t)(at - bytes);
  }
}

static ssize_t read_at(int descriptor, void *bytes, size_t size, uint64_t offset) {
  ssize_t got;
  do got = pread(descriptor, bytes, size, (off_t)offset);
  while (got < 0 && errno == EINTR);
  return got;
}

static void read_file(struct reader *reader, int descriptor, uint64_t size) {
  char *window = agent_malloc(WINDOW);
  uint64_t offset = size > FILE_LIMIT ? size - FILE_LIMIT : 0;
  bool in_a_line = offset > 0;
  if (offset > 0) reader->losses |= PERF_MAP_LIMIT;
  reader->failed = window == NULL;
  while (offset < size && !reader->failed) {
    uint64_t left = size - offset;
    ssize_t got = read_at(descriptor, window, left < WINDOW ? (size_t)left : WINDOW, offset);
    if (got <= 0) break;
    const char *from = in_a_line ? memchr(window, '\n', (size_t)got) : window;
    if (in_a_line && from != NULL) from++;
    if (from != NULL) {
      size_t skipped = (size_t)(from - window);
      if (in_a_line) reader->line_at = offset + skipped;
      in_a_line = false;
      take_window(reader, from, (size_t)got - skipped, offset + skipped);
    }
    offset += (uint64_t)got;
  }
  agent_free(window);
}

/* The kernel's clock of files lags a tick, and the process's start is known to a hundredth; some
 * file systems know whole seconds only. */
static bool is_stale(const struct stat *status, int64_t started_nanos) {
  const int64_t second = 1000000000, exact = 50 * 1000 * 1000;
  int64_t written = status->st_mtim.tv_sec * second + status->st_mtim.tv_nsec;
  return started_nanos > 0 &&
         written + (status->st_mtim.tv_nsec == 0 ? 2 * second : exact) < started_nanos;
}

static size_t piece_limit(uint64_t memory) {
  uint64_t affordable = memory / sizeof(struct piece);
  if (affordable < LEAST_PIECES) return LEAST_PIECES;
  return affordable < PERF_MAP_PIECES_MAX ? (size_t)affordable : PERF_MAP_PIECES_MAX;
}

/* A link in /tmp may be anybody's: it is not followed. */
static int open_map(const char *path) {
  return open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
}

struct perf_map *perf_map_read(const char *path, int64_t started_nanos, uint64_t memory,
                               unsigned *losses) {
  int descriptor = open_map(path);
  struct stat status;
  struct reader reader = {.limit = piece_limit(memory), .memory = memory};
  struct perf_map *map = NULL;
  *losses = 0;
  if (descriptor < 0) return NULL;
  if (fstat(descriptor, &status) == 0 && trusted_path_is_own(&status)) {
    if (is_stale(&status, started_nanos)) {
      *losses = PERF_MAP_STALE;
    } else {
      read_file(&reader, descriptor, (uint64_t)status.st_size);
      /* Half a map would give addresses to lines that later ones have overwritten. */
      bool whole = !reader.failed && (reader.count == 0 || resolve(&reader));
      map = whole && reader.count > 0 ? agent_calloc(1, sizeof *map) : NULL;
      *losses = reader.losses | (!whole || (reader.count > 0 && map == NULL) ? PERF_MAP_LIMIT : 0);
    }
  }
  if (map == NULL) {
    agent_free(reader.pieces);
    close(descriptor);
    return NULL;
  }
  map->descriptor = descriptor;
  map->pieces = reader.pieces;
  map->count = reader.count;
  return map;
}

uint64_t perf_map_bytes(const struct perf_map *map) {
  return map == NULL ? 0 : sizeof *map + map->count * sizeof *map->pieces;
}

void perf_map_release(struct perf_map *map) {
  if (map == NULL) return;
  close(map->descriptor);
  agent_free(map->pieces);
  agent_free(map);
}

/* The line again, which may have been overwritten meanwhile: it must still name the address. */
static const char *read_name(struct perf_map *map, uint64_t line_at, uint64_t address,
                             uint64_t *start) {
  struct piece piece;
  ssize_t got = read_at(map->descriptor, map->line, LINE_SIZE, line_at);
  if (got <= 0) return NULL;
  map->line[got] = '\0';
  size_t length = strcspn(map->line, "\n");
  if (length > 0 && map->line[length - 1] == '\r') length--;
  map->line[length] = '\0';
  const char *name = parse_line(map->line, &piece);
  if (name == NULL || address < piece.start || address >= piece.end) return NULL;
  *start = piece.start;
  return name;
}

const char *perf_map_find(struct perf_map *map, uint64_t address, uint64_t *start) {
  size_t low = 0, high = map->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (map->pieces[middle].start <= address) low = middle + 1;
    else high = middle;
  }
  if (low == 0 || map->pieces[low - 1].end <= address) return NULL;
  return read_name(map, map->pieces[low - 1].line_at, address, start);
}

void perf_map_default_path(char path[PERF_MAP_PATH_SIZE]) {
  snprintf(path, PERF_MAP_PATH_SIZE, "/tmp/perf-%d.map", (int)getpid());
}

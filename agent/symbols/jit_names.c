#include "jit_names.h"

#include <stdbool.h>
#include <string.h>

#include "agent/runtime/agent_memory.h"
#include "announced_object.h"

/* from libbacktrace: glibc's qsort may use the host's malloc */
#include "backtrace.h"
#include "internal.h"

struct announced_name {
  uint64_t start, end;
  uint32_t text; /* in names->texts */
  uint32_t order; /* the newer ones are lower */
};

struct jit_names {
  struct perf_map *map;
  struct announced_name *items;
  size_t count, capacity;
  char *texts;
  size_t texts_size, texts_capacity;
  uint64_t room; /* bytes that may still be taken */
  bool cut;
};

enum { NAME_MAX_BYTES = 16 << 10, OVERLAPS_MAX = 64 };

/* Room for more of one of the two arrays. False: there is none. */
static bool grow(struct jit_names *names, void **array, size_t *capacity, size_t wanted,
                 size_t item_size) {
  if (wanted <= *capacity) return true;
  size_t larger = wanted + wanted / 2 + 64;
  uint64_t more = (larger - *capacity) * item_size;
  void *grown = more <= names->room ? agent_realloc(*array, larger * item_size) : NULL;
  if (!grown) return false;
  names->room -= more;
  *array = grown;
  *capacity = larger;
  return true;
}

static bool take(void *taker, const struct announced_function *function) {
  struct jit_names *names = taker;
  size_t length = strnlen(function->name, NAME_MAX_BYTES - 1);
  if (names->texts_size + length + 1 > UINT32_MAX ||
      !grow(names, (void **)&names->items, &names->capacity, names->count + 1,
            sizeof *names->items) ||
      !grow(names, (void **)&names->texts, &names->texts_capacity, names->texts_size + length + 1,
            1)) {
    names->cut = true;
    return false;
  }
  char *text = names->texts + names->texts_size;
  memcpy(text, function->name, length);
  text[length] = '\0';
  names->items[names->count] = (struct announced_name){
      function->start, function->end, (uint32_t)names->texts_size, (uint32_t)names->count};
  names->count++;
  names->texts_size += length + 1;
  return true;
}

static int compare(const void *left, const void *right) {
  const struct announced_name *a = left, *b = right;
  if (a->start != b->start) return a->start < b->start ? -1 : 1;
  return a->order > b->order ? -1 : a->order < b->order;
}

static void read_announced(struct jit_names *names) {
  struct jit_list list;
  jit_interface_read(&list);
  for (size_t i = 0; i < list.count && !names->cut; i++) {
    struct announced_object object;
    if (!announced_object_open(&object, &list.objects[i])) continue;
    if (!announced_object_functions(&object, names->room, take, names)) names->cut = true;
    announced_object_close(&object);
  }
  jit_list_release(&list);
  if (names->count) backtrace_qsort(names->items, names->count, sizeof *names->items, compare);
}

struct jit_names *jit_names_read(int64_t started_nanos, uint64_t memory, unsigned *losses) {
  char path[PERF_MAP_PATH_SIZE];
  struct jit_names *names = agent_calloc(1, sizeof *names);
  *losses = 0;
  if (!names) return NULL;
  perf_map_default_path(path);
  names->map = perf_map_read(path, started_nanos, memory, losses);
  uint64_t taken = perf_map_bytes(names->map);
  names->room = taken < memory ? memory - taken : 0;
  read_announced(names);
  if (names->cut) *losses |= JIT_NAMES_LIMIT;
  return names;
}

void jit_names_release(struct jit_names *names) {
  if (!names) return;
  perf_map_release(names->map);
  agent_free(names->items);
  agent_free(names->texts);
  agent_free(names);
}

uint64_t jit_names_bytes(const struct jit_names *names) {
  if (!names) return 0;
  return perf_map_bytes(names->map) + names->capacity * sizeof *names->items +
         names->texts_capacity;
}

/* Of several the one that begins last; of those that begin together the newest. */
static const char *find_announced(const struct jit_names *names, uint64_t address,
                                  uint64_t *start) {
  size_t low = 0, high = names->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (names->items[middle].start <= address) low = middle + 1;
    else high = middle;
  }
  for (size_t i = low; i > 0 && low - i < OVERLAPS_MAX; i--) {
    const struct announced_name *item = &names->items[i - 1];
    if (item->end <= address) continue;
    *start = item->start;
    return names->texts + item->text;
  }
  return NULL;
}

const char *jit_names_find(struct jit_names *names, uint64_t address, uint64_t *start) {
  const char *name = names->map ? perf_map_find(names->map, address, start) : NULL;
  return name ? name : find_announced(names, address, start);
}

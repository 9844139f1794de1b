#define _GNU_SOURCE
#include "shared_objects.h"

#include <string.h>
#include <unistd.h>

#include "agent/runtime/agent_memory.h"
#include "symbol_memory.h"

enum { USED_SHARE = 2, IDLE_SHARE = 4 /* of the budget, for all objects */ };

/* Under the symbolizer's lock. */
static struct shared_object *objects;
static uint64_t uses, generation;

uint64_t shared_objects_generation(void) { return generation; }

void shared_objects_forget(void) {
  objects = NULL;
  generation++;
}

void shared_objects_drop(struct shared_object *object) {
  for (struct shared_object **at = &objects; object != NULL && *at != NULL; at = &(*at)->next) {
    if (*at != object) continue;
    *at = object->next;
    generation++;
    object_symbols_close(object->symbols);
    agent_free(object->key);
    agent_free(object);
    return;
  }
}

bool shared_objects_drop_others(const struct shared_object *keep) {
  bool any = false;
  for (struct shared_object *object = objects, *next; object != NULL; object = next) {
    next = object->next;
    if (object == keep) continue;
    shared_objects_drop(object);
    any = true;
  }
  return any;
}

static void drop_oldest_above(uint64_t limit) {
  for (;;) {
    uint64_t bytes = 0;
    struct shared_object *oldest = NULL;
    for (struct shared_object *object = objects; object != NULL; object = object->next) {
      bytes += object_symbols_bytes(object->symbols);
      if (oldest == NULL || object->last_use < oldest->last_use) oldest = object;
    }
    if (bytes <= limit || oldest == NULL) return;
    shared_objects_drop(oldest);
  }
}

/* Whether /proc/self/exe is that file. Of an unlinked program the link says "PATH (deleted)", where
 * map->path is PATH. */
static bool is_main_program(const struct mapping *map) {
  static const char mark[] = " (deleted)";
  char program[4096];
  ssize_t length = readlink("/proc/thread-self/exe", program, sizeof program);
  size_t path_length = strlen(map->path);
  if (length < 0 || (size_t)length < path_length || memcmp(program, map->path, path_length) != 0)
    return false;
  size_t rest = (size_t)length - path_length;
  return rest == 0 || (map->deleted && rest == sizeof mark - 1 &&
                       memcmp(program + path_length, mark, rest) == 0);
}

static struct shared_object *find(const char *key) {
  for (struct shared_object *object = objects; object != NULL; object = object->next)
    if (strcmp(object->key, key) == 0) return object;
  return NULL;
}

/* The half of what is in use may be old objects'; more room is made when it is needed. */
static struct shared_object *open_object(const char *key, const struct mapping *map) {
  struct shared_object *object = agent_calloc(1, sizeof *object);
  if (object == NULL) return NULL;
  symbol_memory_look();
  drop_oldest_above(symbol_memory_budget() / USED_SHARE);
  object->key = agent_strdup(key);
  object->symbols = object->key == NULL ? NULL : object_symbols_open(map, is_main_program(map));
  if (object->symbols == NULL) {
    agent_free(object->key);
    agent_free(object);
    return NULL;
  }
  object->next = objects;
  return objects = object;
}

struct shared_object *shared_objects_get(const char *key, const struct mapping *map, bool *opened) {
  struct shared_object *object = find(key);
  if (object != NULL && object->idle) {
    object->idle = false;
    if (!object_symbols_open_files(object->symbols)) {
      shared_objects_drop(object);
      object = NULL;
    }
  }
  *opened = object == NULL;
  if (object == NULL) object = open_object(key, map);
  if (object != NULL) object->last_use = ++uses;
  return object;
}

void shared_objects_idle(void) {
  for (struct shared_object *object = objects, *next; object != NULL; object = next) {
    next = object->next;
    object_symbols_forget(object->symbols);
    object->idle = true;
    if (!object_symbols_close_files(object->symbols)) shared_objects_drop(object);
  }
  drop_oldest_above(symbol_memory_budget() / IDLE_SHARE);
}

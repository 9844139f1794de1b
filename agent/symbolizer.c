#define _GNU_SOURCE
#include "symbolizer.h"

#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent_memory.h"
#include "demangle.h"
#include "large_stack.h"
#include "memory_headroom.h"
#include "object_symbols.h"
#include "perf_map.h"
#include "plt_symbols.h"
#include "process_info.h"
#include "symbol_cache.h"
#include "trusted_path.h"

static const uint64_t CACHE_TRIM_BYTES = 64ULL << 20, CACHE_BYTE_LIMIT = 1ULL << 30, JIT_CACHE_BYTE_LIMIT = 256ULL << 20;
/* Objects' tables kept open in one session beyond the one in use; the others are read again when they are asked for. */
static const uint64_t OPEN_OBJECT_BYTES = 512ULL << 20;

/* One object as this session sees it. */
struct session_object {
  struct session_object *next;
  uint64_t bias;
  bool unloaded;
  const char *path, *build_id; /* interned; with bias and unloaded, what tells objects apart */
  const char *owner;           /* key in the cache, interned */
  struct object_symbols *symbols; /* NULL until an address is not in the cache */
  unsigned counted_losses;
  uint64_t last_use;
};

struct symbolizer_session {
  struct session_object *objects, *latest;
  struct perf_map *perf_map; /* read when first asked for */
  bool perf_map_read;
  struct symbol_cache *jit; /* names of JIT code change: they live for one session */
  uint64_t clock;
};

static const struct symbol_location unknown_location;
static const char JIT_OWNER[] = "";

/* Everything below is written under the lock. */
static struct {
  _Atomic uint32_t lock; /* 0, or the pid of the process whose thread holds it | WAITERS */
  unsigned open_sessions;
  pid_t process; /* whose sessions these are: a forked child starts anew */
  struct symbol_cache *cache;
  struct large_stack stack;
} state;

/* Of the cache; written under the lock, read without it: a lookup may hold the lock for seconds. */
static _Atomic uint64_t cache_bytes;

static struct {
#define X(identifier, text) _Atomic uint64_t identifier;
  SYMBOLIZER_LOSS_COUNTERS(X)
#undef X
} counters;

#define COUNT(identifier) atomic_fetch_add_explicit(&counters.identifier, 1, memory_order_relaxed)

/* Not a pthread mutex: that would be the host's, seen by the profile of contended locks. The owner's pid is in the word, since
 * a fork copies a lock that some thread of the parent holds: the child may take it, and finds everything under it in an unknown
 * state. */
static const uint32_t WAITERS = 1U << 31;

static void lock(void) {
  uint32_t self = (uint32_t)getpid();
  uint32_t seen = 0;
  bool waited = false;
  while (!atomic_compare_exchange_strong_explicit(&state.lock, &seen, waited ? self | WAITERS : self, memory_order_acquire,
                                                  memory_order_relaxed)) {
    if ((seen & ~WAITERS) == 0) continue;
    if ((seen & ~WAITERS) != self) { /* held when this process was forked */
      if (!atomic_compare_exchange_strong_explicit(&state.lock, &seen, self, memory_order_acquire, memory_order_relaxed)) {
        seen = 0;
        continue;
      }
      state.cache = NULL; /* lost with whatever the thread was doing: a fork's copy is not worth a repair */
      state.stack.memory = NULL;
      state.open_sessions = 0;
      state.process = (pid_t)self;
      return;
    }
    uint32_t marked = seen | WAITERS;
    if (seen == marked ||
        atomic_compare_exchange_strong_explicit(&state.lock, &seen, marked, memory_order_relaxed, memory_order_relaxed))
      syscall(SYS_futex, &state.lock, FUTEX_WAIT_PRIVATE, marked, NULL, NULL, 0);
    waited = true; /* others may wait as well: keep the mark */
    seen = 0;
  }
  if (state.process != (pid_t)self) {
    state.process = (pid_t)self;
    state.open_sessions = 0; /* those of the parent's threads */
  }
}

static void unlock(void) {
  atomic_store_explicit(&cache_bytes, symbol_cache_bytes(state.cache), memory_order_relaxed);
  uint32_t was = atomic_exchange_explicit(&state.lock, 0, memory_order_release);
  if ((was & WAITERS) != 0) syscall(SYS_futex, &state.lock, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

struct symbolizer_session *symbolizer_open(void) {
  struct symbolizer_session *session = agent_calloc(1, sizeof *session);
  if (session == NULL) return NULL;
  lock();
  state.open_sessions++;
  unlock();
  return session;
}

void symbolizer_close(struct symbolizer_session *session) {
  if (session == NULL) return;
  while (session->objects != NULL) {
    struct session_object *object = session->objects;
    session->objects = object->next;
    object_symbols_close(object->symbols);
    agent_free(object);
  }
  perf_map_release(session->perf_map);
  symbol_cache_destroy(session->jit);
  agent_free(session);
  lock();
  if (state.open_sessions > 0 && --state.open_sessions == 0) {
    large_stack_release(&state.stack);
    if (symbol_cache_bytes(state.cache) > CACHE_TRIM_BYTES) {
      symbol_cache_destroy(state.cache);
      state.cache = NULL;
    }
  }
  unlock();
}

/* What the cache knows an object by: its build-id, or the file as it is now; and where it is mapped, as addresses are runtime
 * ones. */
static const char *object_owner(const struct mapping *map) {
  char text[4600];
  struct stat file = {0};
  if (map->build_id[0] == '\0' && map->path[0] == '/') stat(map->path, &file);
  snprintf(text, sizeof text, "%lx %d %d %s %s %lx %lx %lx %lx.%lx", (unsigned long)map->bias,
           map->unloaded, map->deleted, map->build_id, map->path, (unsigned long)file.st_dev,
           (unsigned long)file.st_ino, (unsigned long)file.st_size,
           (unsigned long)file.st_ctim.tv_sec,
           (unsigned long)file.st_ctim.tv_nsec); /* not mtime, which can be set */
  return symbol_cache_intern(state.cache, text);
}

static bool is_object(const struct session_object *object, const struct mapping *map) {
  return object->bias == map->bias && object->unloaded == map->unloaded && strcmp(object->build_id, map->build_id) == 0 &&
         strcmp(object->path, map->path) == 0;
}

static struct session_object *find_object(struct symbolizer_session *session, const struct mapping *map) {
  if (session->latest != NULL && is_object(session->latest, map)) return session->latest;
  for (struct session_object *object = session->objects; object != NULL; object = object->next)
    if (is_object(object, map)) return session->latest = object;
  struct session_object *object = agent_calloc(1, sizeof *object);
  if (object == NULL) return NULL;
  object->bias = map->bias;
  object->unloaded = map->unloaded;
  object->path = symbol_cache_intern(state.cache, map->path);
  object->build_id = symbol_cache_intern(state.cache, map->build_id);
  object->owner = object_owner(map);
  if (object->path == NULL || object->build_id == NULL || object->owner == NULL) {
    agent_free(object);
    return NULL;
  }
  object->next = session->objects;
  session->objects = object;
  return session->latest = object;
}

/* Closes those that were not used for longest until the rest is within bounds. */
static void close_old_objects(struct symbolizer_session *session, const struct session_object *keep) {
  uint64_t spare = memory_headroom() / 2,
           limit = spare < OPEN_OBJECT_BYTES ? spare : OPEN_OBJECT_BYTES;
  for (;;) {
    uint64_t bytes = 0;
    struct session_object *oldest = NULL;
    for (struct session_object *object = session->objects; object != NULL; object = object->next) {
      if (object->symbols == NULL || object == keep) continue;
      bytes += object_symbols_bytes(object->symbols);
      if (oldest == NULL || object->last_use < oldest->last_use) oldest = object;
    }
    if (bytes <= limit || oldest == NULL) return;
    object_symbols_close(oldest->symbols);
    oldest->symbols = NULL;
  }
}

static void count_losses(struct session_object *object) {
  unsigned losses = object_symbols_losses(object->symbols) & ~object->counted_losses;
  object->counted_losses |= losses;
  if ((losses & OBJECT_FILE_MISSING) != 0) COUNT(symbols_files_missing);
  if ((losses & OBJECT_MALFORMED) != 0) COUNT(symbols_files_malformed);
  if ((losses & OBJECT_MEMORY_LIMIT) != 0) COUNT(symbols_memory_limit);
  if ((losses & OBJECT_INLINED_CUT) != 0) COUNT(symbols_inlined_cut);
  if ((losses & OBJECT_SPLIT_MISSING) != 0) COUNT(symbols_split_missing);
}

/* How much of the end of name says that it is a stub of the linkage table. */
static size_t stub_suffix(const char *name, size_t length) {
  const size_t suffix = sizeof PLT_NAME_SUFFIX - 1;
  return length > suffix && strcmp(name + length - suffix, PLT_NAME_SUFFIX) == 0 ? suffix : 0;
}

/* Fills the names of frame from a raw one, which is taken as it is: other languages and JITs write
 * any byte into theirs. A stub bears the name of its function, readable, and what it is. */
static void name_frame(struct symbol_cache *cache, struct symbol_frame *frame, const char *raw) {
  char plain[DEMANGLE_INPUT_MAX + 1], readable[DEMANGLE_OUTPUT_MAX + sizeof PLT_NAME_SUFFIX];
  bool too_costly;
  frame->system_name = raw == NULL || raw[0] == '\0' ? NULL : symbol_cache_intern(cache, raw);
  frame->function = frame->system_name;
  if (frame->system_name == NULL) return;
  size_t length = strlen(raw), suffix = stub_suffix(raw, length);
  const char *mangled = raw;
  if (suffix > 0 && length - suffix < sizeof plain) {
    memcpy(plain, raw, length - suffix);
    plain[length - suffix] = '\0';
    mangled = plain;
  }
  size_t readable_length = demangle(mangled, readable, &too_costly);
  if (too_costly) COUNT(symbols_not_demangled);
  if (readable_length == 0) return;
  memcpy(readable + readable_length, raw + length - suffix, suffix + 1);
  const char *function = symbol_cache_intern(cache, readable);
  if (function != NULL) frame->function = function;
}

/* Whether /proc/self/exe is that file. Of an unlinked program the link says "PATH (deleted)", where map->path is PATH. */
static bool is_main_program(const struct mapping *map) {
  static const char mark[] = " (deleted)";
  char program[4096];
  ssize_t length = readlink("/proc/thread-self/exe", program, sizeof program);
  size_t path_length = strlen(map->path);
  if (length < 0 || (size_t)length < path_length || memcmp(program, map->path, path_length) != 0) return false;
  size_t rest = (size_t)length - path_length;
  return rest == 0 || (map->deleted && rest == sizeof mark - 1 && memcmp(program + path_length, mark, rest) == 0);
}

struct lookup {
  struct symbolizer_session *session;
  const struct mapping *map;
  struct session_object *object;
  uint64_t address;
  const struct symbol_location *location;
};

/* Context: the large stack. */
static void look_up_in_object(void *argument) {
  struct lookup *lookup = argument;
  struct session_object *object = lookup->object;
  const struct mapping *map = lookup->map;
  if (object->symbols == NULL) {
    close_old_objects(lookup->session, object);
    object->symbols = object_symbols_open(map, is_main_program(map));
    if (object->symbols == NULL) return;
  }
  object->last_use = ++lookup->session->clock;
  struct dwarf_frame found[DWARF_MAX_FRAMES];
  uint64_t symbol_start;
  size_t count = object_symbols_find(object->symbols, lookup->address - map->bias, found, &symbol_start);
  count_losses(object);
  struct symbol_frame frames[DWARF_MAX_FRAMES];
  for (size_t i = 0; i < count; i++) {
    name_frame(state.cache, &frames[i], found[i].name);
    frames[i].filename = found[i].filename == NULL ? NULL : symbol_cache_intern(state.cache, found[i].filename);
    frames[i].line = found[i].line;
  }
  if (count == 0 || frames[count - 1].function == NULL) COUNT(symbols_unnamed);
  if (symbol_start != 0) symbol_start += map->bias;
  lookup->location = symbol_cache_add(state.cache, object->owner, lookup->address, symbol_start, frames, (uint32_t)count);
}

/* Context: the large stack. */
static void look_up_jit_code(void *argument) {
  struct lookup *lookup = argument;
  struct symbolizer_session *session = lookup->session;
  if (!session->perf_map_read) {
    char path[PERF_MAP_PATH_SIZE];
    unsigned losses;
    perf_map_default_path(path);
    session->perf_map = perf_map_read(path, process_start_nanos(), memory_headroom() / 2, &losses);
    session->perf_map_read = true;
    if ((losses & PERF_MAP_STALE) != 0) COUNT(symbols_perf_map_stale);
    if ((losses & PERF_MAP_LIMIT) != 0) COUNT(symbols_perf_map_limit);
  }
  struct symbol_frame frame = {0};
  uint64_t start = 0;
  const char *name = session->perf_map == NULL ? NULL : perf_map_find(session->perf_map, lookup->address, &start);
  if (name != NULL) {
    name_frame(session->jit, &frame, name);
  } else {
    COUNT(symbols_unnamed);
  }
  lookup->location = symbol_cache_add(session->jit, JIT_OWNER, lookup->address, start, &frame, frame.function != NULL);
}

const struct symbol_location *symbolizer_resolve(struct symbolizer_session *session, const struct mapping *map,
                                                 uint64_t address) {
  if (session == NULL) return &unknown_location;
  struct lookup lookup = {.session = session, .map = map, .address = address};
  lock();
  if (state.cache == NULL) state.cache = symbol_cache_create(CACHE_BYTE_LIMIT);
  if (map == NULL || map->kind == MAPPING_ANONYMOUS || map->no_object) {
    if (session->jit == NULL) session->jit = symbol_cache_create(JIT_CACHE_BYTE_LIMIT);
    if (session->jit != NULL) {
      lookup.location = symbol_cache_find(session->jit, JIT_OWNER, address);
      if (lookup.location == NULL) large_stack_call(&state.stack, look_up_jit_code, &lookup);
    }
  } else if (state.cache != NULL && (lookup.object = find_object(session, map)) != NULL) {
    lookup.location = symbol_cache_find(state.cache, lookup.object->owner, address);
    if (lookup.location == NULL) large_stack_call(&state.stack, look_up_in_object, &lookup);
  }
  unlock();
  return lookup.location != NULL ? lookup.location : &unknown_location;
}

void symbolizer_read_counters(struct symbolizer_counters *out) {
#define X(identifier, text) out->identifier = atomic_load_explicit(&counters.identifier, memory_order_relaxed);
  SYMBOLIZER_LOSS_COUNTERS(X)
#undef X
  out->symbols_files_not_trusted = trusted_path_refused();
}

uint64_t symbolizer_cache_bytes(void) {
  return atomic_load_explicit(&cache_bytes, memory_order_relaxed);
}

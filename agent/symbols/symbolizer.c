#define _GNU_SOURCE
#include "symbolizer.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shim/base/raw_syscall.h"
#include "agent/runtime/agent_lock.h"
#include "agent/runtime/agent_memory.h"
#include "announced_code.h"
#include "demangle.h"
#include "jit_names.h"
#include "large_stack.h"
#include "plt_symbols.h"
#include "agent/runtime/process_info.h"
#include "section_windows.h"
#include "shared_objects.h"
#include "symbol_cache.h"
#include "symbol_memory.h"
#include "agent/runtime/trusted_path.h"

/* Of the budget: for names that any request may use, how much of them is kept when nobody asks, for
 * names of JIT code in one request. */
enum { CACHE_SHARE = 2, CACHE_IDLE_SHARE = 4, JIT_CACHE_SHARE = 4 };
/* A request may close other objects for one that needs room so often. */
enum { CLOSINGS_MAX = 64 };
/* All names of a request together, beyond what each may take: about a second. */
static const uint64_t DEMANGLE_STEPS_REQUEST = 1 << 27;

/* One object as this session sees it. */
struct session_object {
  struct session_object *next;
  uint64_t bias;
  bool unloaded;
  const char *path, *build_id; /* interned; with bias and unloaded, what tells objects apart */
  const char *owner; /* key in the cache, interned */
  struct shared_object *shared; /* NULL until an address is not in the cache */
  uint64_t generation; /* of shared_objects.h, when that was found */
  unsigned counted_losses;
};

/* Where one address is worked on. */
struct workplace {
  struct symbol_frame frames[DWARF_MAX_FRAMES];
  char plain[DEMANGLE_INPUT_MAX + 1];
  char readable[DEMANGLE_OUTPUT_MAX + sizeof PLT_NAME_SUFFIX];
};

struct symbolizer_session {
  struct session_object *objects, *latest;
  struct jit_names *jit_names; /* read when first asked for */
  bool jit_names_read;
  uint64_t jit_names_taken; /* of the budget: no more than there was, whatever it needs at least */
  struct symbol_cache *jit; /* names of JIT code change: they live for one session */
  struct workplace *work;
  uint64_t demangle_steps; /* left */
  unsigned closings;
  bool given_up;
};

static const struct symbol_location unknown_location;
static const char JIT_OWNER[] = "";

/* Everything below is written under the lock. */
static struct {
  _Atomic uint32_t lock; /* 0, or the pid of the process whose thread holds it | WAITERS */
  unsigned open_sessions;
  pid_t process; /* whose sessions these are: a forked child starts anew */
  struct symbol_cache *cache;
} state;

/* Names are read, and objects, on one stack. Whoever holds the lock above may take this one, not
 * the reverse: names are read without it. */
static struct {
  struct agent_lock lock;
  struct large_stack stack;
} large;

static bool (*_Atomic still_wanted)(void);

/* Of the cache; written under the lock, read without it: a lookup may hold the lock for seconds. */
static _Atomic uint64_t cache_bytes;

static struct {
#define X(identifier, text) _Atomic uint64_t identifier;
  SYMBOLIZER_LOSS_COUNTERS(X)
#undef X
} counters;

#define COUNT(identifier) atomic_fetch_add_explicit(&counters.identifier, 1, memory_order_relaxed)

/* Not a pthread mutex: that would be the host's, seen by the profile of contended locks. The
 * owner's pid is in the word, since a fork copies a lock that some thread of the parent holds: the
 * child may take it, and finds everything under it in an unknown state. */
static const uint32_t WAITERS = 1U << 31;

static void lock(void) {
  uint32_t self = (uint32_t)getpid();
  uint32_t seen = 0;
  bool waited = false;
  while (!atomic_compare_exchange_strong_explicit(&state.lock, &seen,
                                                  waited ? self | WAITERS : self,
                                                  memory_order_acquire, memory_order_relaxed)) {
    if ((seen & ~WAITERS) == 0) continue;
    if ((seen & ~WAITERS) != self) { /* held when this process was forked */
      if (!atomic_compare_exchange_strong_explicit(&state.lock, &seen, self, memory_order_acquire,
                                                   memory_order_relaxed)) {
        seen = 0;
        continue;
      }
      state.cache =
          NULL; /* lost with whatever the thread was doing: a fork's copy is not worth a repair */
      large.stack.memory = NULL;
      atomic_store_explicit(&large.lock.state, 0, memory_order_relaxed);
      shared_objects_forget();
      symbol_memory_forget();
      state.open_sessions = 0;
      state.process = (pid_t)self;
      return;
    }
    uint32_t marked = seen | WAITERS;
    if (seen == marked ||
        atomic_compare_exchange_strong_explicit(&state.lock, &seen, marked, memory_order_relaxed,
                                                memory_order_relaxed))
      raw_futex_wait(&state.lock, marked, NULL);
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
  if ((was & WAITERS) != 0) raw_futex_wake(&state.lock, 1);
}

void symbolizer_watch(bool (*wanted)(void)) {
  atomic_store_explicit(&still_wanted, wanted, memory_order_relaxed);
}

static bool is_unwanted(void) {
  bool (*wanted)(void) = atomic_load_explicit(&still_wanted, memory_order_relaxed);
  return wanted != NULL && !wanted();
}

bool symbolizer_given_up(struct symbolizer_session *session) {
  if (session != NULL && !session->given_up) session->given_up = is_unwanted();
  return session != NULL && session->given_up;
}

struct symbolizer_session *symbolizer_open(void) {
  struct symbolizer_session *session = agent_calloc(1, sizeof *session);
  if (session == NULL) return NULL;
  session->demangle_steps = DEMANGLE_STEPS_REQUEST;
  symbol_memory_look();
  lock();
  state.open_sessions++;
  section_windows_ask(is_unwanted);
  unlock();
  return session;
}

static void release_stack(void) {
  agent_lock_take(&large.lock);
  large_stack_release(&large.stack);
  agent_lock_release(&large.lock);
}

static void close_last(void) {
  release_stack();
  shared_objects_idle();
  if (symbol_cache_bytes(state.cache) > symbol_memory_budget() / CACHE_IDLE_SHARE) {
    symbol_cache_destroy(state.cache);
    state.cache = NULL;
  }
}

void symbolizer_close(struct symbolizer_session *session) {
  if (session == NULL) return;
  while (session->objects != NULL) {
    struct session_object *object = session->objects;
    session->objects = object->next;
    agent_free(object);
  }
  symbol_memory_give(session->jit_names_taken);
  jit_names_release(session->jit_names);
  symbol_cache_destroy(session->jit);
  if (session->work != NULL) symbol_memory_give(sizeof *session->work);
  agent_free(session->work);
  agent_free(session);
  lock();
  if (state.open_sessions > 0 && --state.open_sessions == 0) close_last();
  unlock();
}

/* What the cache knows an object by: its build-id, or the file as it is now; and where it is
 * mapped, as addresses are runtime ones. */
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
  return object->bias == map->bias && object->unloaded == map->unloaded &&
         strcmp(object->build_id, map->build_id) == 0 && strcmp(object->path, map->path) == 0;
}

static struct session_object *find_object(struct symbolizer_session *session,
                                          const struct mapping *map) {
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

static void count_losses(struct session_object *object) {
  unsigned losses = object_symbols_losses(object->shared->symbols) & ~object->counted_losses;
  object->counted_losses |= losses;
  if ((losses & OBJECT_FILE_MISSING) != 0) COUNT(symbols_files_missing);
  if ((losses & OBJECT_MALFORMED) != 0) COUNT(symbols_files_malformed);
  if ((losses & OBJECT_MEMORY_LIMIT) != 0) COUNT(symbols_memory_limit);
  if ((losses & OBJECT_INLINED_CUT) != 0) COUNT(symbols_inlined_cut);
  if ((losses & OBJECT_SPLIT_MISSING) != 0) COUNT(symbols_split_missing);
  if ((losses & OBJECT_TOO_COSTLY) != 0) COUNT(symbols_too_costly);
}

/* How much of the end of name says that it is a stub of the linkage table. */
static size_t stub_suffix(const char *name, size_t length) {
  const size_t suffix = sizeof PLT_NAME_SUFFIX - 1;
  return length > suffix && strcmp(name + length - suffix, PLT_NAME_SUFFIX) == 0 ? suffix : 0;
}

/* ---- one name: without the symbolizer's lock ---- */

struct reading {
  struct symbolizer_session *session;
  const char *mangled;
  size_t length; /* of the readable name; 0: there is none */
};

/* Context: the large stack. */
static void read_name(void *argument) {
  struct reading *reading = argument;
  struct symbolizer_session *session = reading->session;
  size_t steps = DEMANGLE_STEPS_PLAIN + (size_t)session->demangle_steps;
  if (steps > DEMANGLE_STEPS_MAX) steps = DEMANGLE_STEPS_MAX;
  bool too_costly;
  reading->length = demangle(reading->mangled, session->work->readable, &steps, &too_costly);
  uint64_t beyond = steps > DEMANGLE_STEPS_PLAIN ? steps - DEMANGLE_STEPS_PLAIN : 0;
  session->demangle_steps -= beyond < session->demangle_steps ? beyond : session->demangle_steps;
  if (too_costly) COUNT(symbols_not_demangled);
}

/* What a raw name, which is taken as it is, reads as: other languages and JITs write any byte into
 * theirs. A stub bears the name of its function, readable, and what it is. In work->readable; NULL:
 * the raw name itself. */
static const char *readable_name(struct symbolizer_session *session, const char *raw) {
  struct workplace *work = session->work;
  size_t length = strlen(raw), suffix = stub_suffix(raw, length);
  struct reading reading = {.session = session, .mangled = raw};
  if (raw[0] != '_') return NULL;
  if (suffix > 0 && length - suffix < sizeof work->plain) {
    memcpy(work->plain, raw, length - suffix);
    work->plain[length - suffix] = '\0';
    reading.mangled = work->plain;
  }
  agent_lock_take(&large.lock);
  large_stack_call(&large.stack, read_name, &reading);
  agent_lock_release(&large.lock);
  if (reading.length == 0) return NULL;
  memcpy(work->readable + reading.length, raw + length - suffix, suffix + 1);
  return work->readable;
}

/* Fills the names of a frame that has its raw one. is_shared: the cache is everybody's. */
static void name_frame(struct symbolizer_session *session, struct symbol_cache *cache,
                       bool is_shared, struct symbol_frame *frame) {
  if (frame->system_name == NULL) return;
  if (is_shared) lock();
  const char *known = symbol_cache_readable(frame->system_name);
  if (is_shared) unlock();
  if (known == NULL) {
    const char *readable = readable_name(session, frame->system_name);
    if (is_shared) lock();
    known = readable == NULL ? NULL : symbol_cache_intern(cache, readable);
    if (known == NULL) known = frame->system_name;
    symbol_cache_set_readable(frame->system_name, known);
    if (is_shared) unlock();
  }
  frame->function = known;
}

/* ---- one address ---- */

struct lookup {
  struct symbolizer_session *session;
  const struct mapping *map;
  struct session_object *object;
  uint64_t address, symbol_start;
  size_t count; /* of work->frames, which have their raw names */
  bool ran;
};

static const char *intern(struct symbol_cache *cache, const char *text) {
  return text == NULL || text[0] == '\0' ? NULL : symbol_cache_intern(cache, text);
}

/* False: no memory. */
static bool find_shared(struct lookup *lookup, bool *opened) {
  struct session_object *object = lookup->object;
  *opened = false;
  if (object->shared != NULL && object->generation == shared_objects_generation()) return true;
  object->shared = shared_objects_get(object->owner, lookup->map, opened);
  object->generation = shared_objects_generation();
  return object->shared != NULL;
}

/* Again, alone: others are closed where memory was short. */
static bool make_room(struct lookup *lookup, unsigned losses_before) {
  struct session_object *object = lookup->object;
  unsigned losses = object_symbols_losses(object->shared->symbols);
  if ((losses & ~losses_before & OBJECT_MEMORY_LIMIT) == 0) return false;
  if (lookup->session->closings >= CLOSINGS_MAX) return false;
  lookup->session->closings++;
  if (!shared_objects_drop_others(object->shared)) return false;
  shared_objects_drop(object->shared);
  bool opened;
  object->shared = NULL;
  return find_shared(lookup, &opened);
}

/* Context: the large stack, the lock is held. */
static void look_up_in_object(void *argument) {
  struct lookup *lookup = argument;
  struct session_object *object = lookup->object;
  const struct mapping *map = lookup->map;
  struct symbol_frame *frames = lookup->session->work->frames;
  struct dwarf_frame found[DWARF_MAX_FRAMES];
  bool opened;
  if (!find_shared(lookup, &opened)) return;
  unsigned losses = opened ? 0 : object_symbols_losses(object->shared->symbols);
  do
    lookup->count = object_symbols_find(object->shared->symbols, lookup->address - map->bias, found,
                                        &lookup->symbol_start);
  while (make_room(lookup, losses));
  if (object->shared == NULL) return;
  if (symbolizer_given_up(lookup->session)) { /* perhaps in the middle of it */
    shared_objects_drop(object->shared);
    object->shared = NULL;
    return;
  }
  count_losses(object);
  for (size_t i = 0; i < lookup->count; i++) {
    frames[i] = (struct symbol_frame){.system_name = intern(state.cache, found[i].name),
                                      .filename = intern(state.cache, found[i].filename),
                                      .line = found[i].line};
    frames[i].function = frames[i].system_name;
  }
  if (lookup->symbol_start != 0) lookup->symbol_start += map->bias;
  lookup->ran = true;
}

/* False: no memory. */
static bool prepare(struct symbolizer_session *session) {
  if (session->work != NULL) return true;
  if (!symbol_memory_take(sizeof *session->work)) return false;
  session->work = agent_malloc(sizeof *session->work);
  if (session->work == NULL) symbol_memory_give(sizeof *session->work);
  return session->work != NULL;
}

/* What is known of the address, or NULL and, where it could be looked up, its raw names. */
static const struct symbol_location *look_up(struct lookup *lookup) {
  struct symbolizer_session *session = lookup->session;
  const struct symbol_location *known = NULL;
  lock();
  if (state.cache == NULL) state.cache = symbol_cache_create(symbol_memory_budget() / CACHE_SHARE);
  if (state.cache != NULL && (lookup->object = find_object(session, lookup->map)) != NULL) {
    known = symbol_cache_find(state.cache, lookup->object->owner, lookup->address);
    if (known == NULL && prepare(session)) {
      agent_lock_take(&large.lock);
      large_stack_call(&large.stack, look_up_in_object, lookup);
      agent_lock_release(&large.lock);
    }
  }
  unlock();
  return known;
}

static const struct symbol_location *resolve_in_object(struct lookup *lookup) {
  const struct symbol_location *location = look_up(lookup);
  if (location != NULL) return location;
  if (!lookup->ran) {
    if (!lookup->session->given_up) COUNT(symbols_no_memory);
    return NULL;
  }
  struct symbol_frame *frames = lookup->session->work->frames;
  for (size_t i = 0; i < lookup->count; i++)
    name_frame(lookup->session, state.cache, true, &frames[i]);
  lock();
  location = symbol_cache_find(state.cache, lookup->object->owner, lookup->address);
  if (location == NULL) /* another request may have been as fast */
    location = symbol_cache_add(state.cache, lookup->object->owner, lookup->address,
                                lookup->symbol_start, frames, (uint32_t)lookup->count);
  unlock();
  if (location == NULL) COUNT(symbols_no_memory);
  else if (lookup->count == 0 || frames[lookup->count - 1].function == NULL) COUNT(symbols_unnamed);
  return location;
}

/* ---- JIT code: its names are the session's ---- */

static void read_jit_names(struct symbolizer_session *session) {
  unsigned losses;
  session->jit_names_read = true;
  announced_code_update(true); /* for the stacks to come: nothing else looks meanwhile */
  lock();
  uint64_t before = symbol_memory_left();
  if (before < symbol_memory_budget() / 2) shared_objects_drop_others(NULL);
  uint64_t room = symbol_memory_left() / 4 * 3;
  if (!symbol_memory_take(room)) room = 0;
  unlock();
  session->jit_names = jit_names_read(process_start_nanos(), room, &losses);
  uint64_t taken = jit_names_bytes(session->jit_names);
  session->jit_names_taken = taken < room ? taken : room;
  symbol_memory_give(room - session->jit_names_taken);
  if ((losses & PERF_MAP_STALE) != 0) COUNT(symbols_perf_map_stale);
  if ((losses & PERF_MAP_LIMIT) != 0) COUNT(symbols_perf_map_limit);
  if ((losses & JIT_NAMES_LIMIT) != 0) COUNT(symbols_announced_limit);
}

static const struct symbol_location *resolve_jit_code(struct symbolizer_session *session,
                                                      uint64_t address) {
  if (session->jit == NULL)
    session->jit = symbol_cache_create(symbol_memory_budget() / JIT_CACHE_SHARE);
  if (session->jit == NULL || !prepare(session)) return NULL;
  const struct symbol_location *known = symbol_cache_find(session->jit, JIT_OWNER, address);
  if (known != NULL) return known;
  if (!session->jit_names_read) read_jit_names(session);
  struct symbol_frame frame = {0};
  uint64_t start = 0;
  const char *name =
      session->jit_names == NULL ? NULL : jit_names_find(session->jit_names, address, &start);
  frame.system_name = intern(session->jit, name);
  name_frame(session, session->jit, false, &frame);
  if (name == NULL) COUNT(symbols_unnamed);
  return symbol_cache_add(session->jit, JIT_OWNER, address, start, &frame, frame.function != NULL);
}

const struct symbol_location *symbolizer_resolve(struct symbolizer_session *session,
                                                 const struct mapping *map, uint64_t address) {
  if (session == NULL || symbolizer_given_up(session)) return &unknown_location;
  struct lookup lookup = {.session = session, .map = map, .address = address};
  const struct symbol_location *location =
      map == NULL || map->kind == MAPPING_ANONYMOUS || map->no_object
          ? resolve_jit_code(session, address)
          : resolve_in_object(&lookup);
  return location != NULL ? location : &unknown_location;
}

void symbolizer_read_counters(struct symbolizer_counters *out) {
#define X(identifier, text) \
  out->identifier = atomic_load_explicit(&counters.identifier, memory_order_relaxed);
  SYMBOLIZER_LOSS_COUNTERS(X)
#undef X
  out->symbols_files_not_trusted = trusted_path_refused();
}

uint64_t symbolizer_cache_bytes(void) {
  return atomic_load_explicit(&cache_bytes, memory_order_relaxed);
}

/* Names for addresses: function, file, line and inlined frames, from DWARF, symbol tables and JIT
 * maps.
 *
 * Work is done in sessions: every string and location that a session returned stays valid until it
 * ends; the name cache is trimmed, and the debug information that was read is given back, when no
 * session is open. Context: agent threads; locks: its own.
 */
#ifndef AGENT_SYMBOLIZER_H
#define AGENT_SYMBOLIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mappings.h"

struct symbol_frame {
  const char *function; /* demangled, or NULL */
  const char *system_name; /* as in the symbol table; equal to function when nothing was mangled;
                              NULL when function is */
  const char *filename; /* absolute where the debug information says so; NULL when unknown */
  uint32_t line; /* 0 when unknown */
};

struct symbol_location {
  uint64_t
      symbol_start; /* runtime address of the enclosing (not inlined) function, 0 when unknown */
  uint32_t frame_count; /* 0: nothing is known */
  struct symbol_frame frames[]; /* innermost inlined function first */
};

struct symbolizer_session;

struct symbolizer_session *symbolizer_open(void);
void symbolizer_close(struct symbolizer_session *session);

/* address: the exact address to name (callers have already subtracted 1 from a return address);
 * map: its mapping, or NULL. Never NULL: an unknown address gives a location with frame_count 0. */
const struct symbol_location *symbolizer_resolve(struct symbolizer_session *session,
                                                 const struct mapping *map, uint64_t address);

/* wanted: asked now and then while a request symbolizes, on its thread; false: the client has gone,
 * or the thread is to end. NULL: always wanted. */
void symbolizer_watch(bool (*wanted)(void));
/* Whether that was so: addresses resolved since then have no names, and the answer must not be
 * taken for a whole one. */
bool symbolizer_given_up(struct symbolizer_session *session);

/* X(identifier, text for the index page), for /debug/pprof/health. */
#define SYMBOLIZER_FILE_COUNTERS(X)                                                                \
  X(symbols_files_missing,                                                                         \
    "object files that are gone or were replaced: their functions may have no name")               \
  X(symbols_files_malformed, "object files whose symbols or debug information cannot be read")     \
  X(symbols_memory_limit,                                                                          \
    "object files that need more than PPROFAGENT_SYMBOL_MEMORY (64 MB where it is not set), or "   \
    "half of the memory that the program has left: functions without lines, or without names")     \
  X(symbols_too_costly,                                                                            \
    "object files whose debug information takes too long to read for its size: no lines")          \
  X(symbols_inlined_cut,                                                                           \
    "object files with more than 1,024 inlined calls at one address: those between the ends were " \
    "left out")                                                                                    \
  X(symbols_split_missing,                                                                         \
    "object files whose .dwo or .dwp files are missing or of another build: inlined calls may "    \
    "have no names")                                                                               \
  X(symbols_files_not_trusted,                                                                     \
    "readings of files with names refused: another user has written them, or may")                 \
  X(symbols_perf_map_stale,                                                                        \
    "readings of a /tmp/perf-PID.map refused: it is older than this process")                      \
  X(symbols_perf_map_limit,                                                                        \
    "readings of a /tmp/perf-PID.map without its oldest lines: there are too many")                \
  X(symbols_announced_limit,                                                                       \
    "readings of what is announced to debuggers without the oldest names: there are too many")     \
  X(symbols_not_demangled, "addresses whose mangled name is too long or too costly to read")       \
  X(symbols_no_memory, "addresses without a name for want of memory (PPROFAGENT_SYMBOL_MEMORY)")
#define SYMBOLIZER_LOSS_COUNTERS(X) \
  SYMBOLIZER_FILE_COUNTERS(X)       \
  X(symbols_unnamed, "addresses looked up and found in no symbol table")

struct symbolizer_counters {
#define X(identifier, text) uint64_t identifier;
  SYMBOLIZER_LOSS_COUNTERS(X)
#undef X
};
void symbolizer_read_counters(struct symbolizer_counters *out);
uint64_t symbolizer_cache_bytes(void);

#endif

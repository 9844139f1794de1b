/* A profile between its source (heap_profile.c, cpu_profile.c, ...) and its encoders
 * (profile_proto.c, profile_text.c). Everything hangs on agent_memory; profile_release gives it
 * back. Context: agent threads. */
#ifndef AGENT_PROFILE_H
#define AGENT_PROFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/http/byte_sink.h"
#include "agent/symbols/mappings.h"
#include "agent/symbols/symbolizer.h"

enum { PROFILE_MAX_VALUES = 5, PROFILE_MAX_LABELS = 4 };

struct profile_value_type {
  const char *type, *unit;
};

struct profile_location {
  uint64_t address; /* exact address (a return address minus 1); for a marker its value in
                       stack_table.h */
  const struct mapping *map; /* NULL for a marker or an address in no mapping */
  const char *marker; /* "[truncated: ...]" or NULL */
  const struct symbol_location *symbol; /* NULL for a marker */
};

struct profile_label {
  const char *key, *text; /* text NULL: numeric */
  int64_t number;
  const char *unit;
};

struct profile_sample {
  int64_t values[PROFILE_MAX_VALUES];
  uint32_t location_count;
  const uint32_t *locations; /* indexes into profile.locations, leaf first */
  uint32_t label_count;
  const struct profile_label *labels;
};

struct profile {
  const char *name; /* "heap", "allocs", ... */
  uint32_t value_count;
  struct profile_value_type value_types[PROFILE_MAX_VALUES];
  struct profile_value_type period_type;
  int64_t period;
  const char *default_sample_type; /* NULL: unset */
  int64_t time_nanos, duration_nanos; /* wall clock of the (second) snapshot, or of a window's
                                         start; 0 duration: a moment */
  int64_t monotonic_nanos; /* of the snapshot too: what durations are made of, as the wall clock may
                              be set */
  bool lacks_names; /* some were left out (profile_builder.h) */
  size_t sample_count, location_count;
  struct profile_sample *samples;
  struct profile_location *locations;
  struct mappings *mappings;
  struct symbolizer_session *symbols;
  uint32_t comment_count;
  const char *const
      *comments; /* what a reader must know (losses): pprof prints them above its reports */
  const char
      *text_trailer; /* lines that begin with "# ", for the end of the debug=1 form; or NULL */
  bool text_has_labels; /* the heap form, too, has a line with the labels of each record */
  struct profile_block *blocks; /* what profile_alloc gave out */
  struct profile *subtracted; /* profile_delta.h: released with this one, whose samples use its
                                 names; or NULL */
};

/* An empty profile; NULL when out of memory. */
struct profile *profile_new(const char *name);
/* Zeroed memory that lives as long as the profile; NULL when out of memory. */
void *profile_alloc(struct profile *profile, size_t size);
void profile_release(struct profile *profile); /* NULL is fine */
int64_t profile_wall_clock(void); /* now, for time_nanos */
void profile_taken_now(struct profile *profile); /* sets both clocks */

/* One line more for who reads the profile. False: out of memory. */
bool profile_add_comment(struct profile *profile, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Of two lists of `count` labels, in the same order. */
bool profile_labels_equal(const struct profile_label *a, const struct profile_label *b,
                          uint32_t count);
uint64_t profile_labels_hash(const struct profile_label *labels, uint32_t count);

/* gzip'ed profile.proto, as Go's runtime/pprof writes it. False: out of memory or the sink gave up.
 */
bool profile_encode_proto(const struct profile *profile, struct byte_sink *sink);
/* The debug=1 text of Go's runtime/pprof, ending with the memory map: the heap form for a profile
 * of four values, the form of contention (block, mutex) for one of two, the form of counts
 * (goroutine, threadcreate) for one of one. */
bool profile_encode_text(const struct profile *profile, struct byte_sink *sink);

#endif

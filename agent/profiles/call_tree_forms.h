/* The forms in which a profile's call tree is sent: JSON (docs/views.md), collapsed stacks, and the
 * table of functions of `go tool pprof -top`. Context: agent threads; locks: none. */
#ifndef AGENT_CALL_TREE_FORMS_H
#define AGENT_CALL_TREE_FORMS_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/http/byte_sink.h"
#include "profile.h"

enum { CALL_TREE_NODES = 10000 };

struct call_tree_options {
  const char *process; /* its name and number */
  int pid;
  uint32_t value; /* the sample type of collapsed stacks and of the table */
  uint64_t node_count; /* JSON, the table: at most so many nodes or rows; 0: all */
};

/* False: out of memory, or the receiver is gone. */
bool call_tree_write_json(const struct profile *profile, const struct call_tree_options *options,
                          struct byte_sink *sink);
bool call_tree_write_collapsed(const struct profile *profile,
                               const struct call_tree_options *options, struct byte_sink *sink);
bool call_tree_write_top(const struct profile *profile, const struct call_tree_options *options,
                         struct byte_sink *sink);

/* The sample type that pprof shows when it is not told which. */
uint32_t profile_default_value(const struct profile *profile);

#endif

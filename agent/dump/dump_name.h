/* From PPROFAGENT_DUMP's pattern to a file's path. Context: any; locks: none. */
#ifndef AGENT_DUMP_NAME_H
#define AGENT_DUMP_NAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dump_name {
  const char *program, *kind; /* of the program's name only letters, digits and ._+- are kept, the
                                 others are _ */
  int pid;
  int64_t time_nanos; /* wall clock; in UTC, as 20260131T235959.123Z */
};

/* False: it does not fit. */
bool dump_name_write(const char *pattern, const struct dump_name *name, char *out, size_t size);

#endif

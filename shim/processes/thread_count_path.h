/* The paths in /proc by which a program counts its threads: the directory that has an entry, and a
 * link, for each, and the two files with a field for their number. */
#ifndef SHIM_THREAD_COUNT_PATH_H
#define SHIM_THREAD_COUNT_PATH_H

#include <stdbool.h>

enum thread_count_path { COUNTS_NO_THREADS, COUNTS_BY_DIRECTORY, COUNTS_BY_TEXT };

/* Relative ones too, "self/task": they are for a descriptor of /proc. Only as programs write them:
 * no links, no "..", nothing relative to the process's own directory. Context: any. */
enum thread_count_path thread_count_path_of(const char *path);

/* False of nearly all others, at the price of a comparison or two. path: one that the kernel has
 * read. */
static inline bool thread_count_path_may_be(const char *path, bool relative) {
  if (path[0] == '/')
    return path[1] == 'p' && path[2] == 'r' && path[3] == 'o' && path[4] == 'c' && path[5] == '/';
  return relative && (path[0] == 's' || path[0] == 't' || (path[0] >= '0' && path[0] <= '9'));
}

#endif

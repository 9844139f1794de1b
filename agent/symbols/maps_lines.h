/* The lines of /proc/self/maps. Context: agent threads. */
#ifndef AGENT_MAPS_LINES_H
#define AGENT_MAPS_LINES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The whole file, NUL-terminated, in agent_malloc'ed memory; NULL: it cannot be read, or there is
 * no memory. */
char *maps_read(void);

struct maps_line {
  uint64_t start, limit, offset;
  dev_t device;
  ino_t inode;
  bool executable;
  char *path; /* "" for none */
};
/* Of "START-END rwxp OFFSET MAJOR:MINOR INODE     PATH", which ends with NUL; the path points into
 * it. False: it is no such line. */
bool maps_line_parse(char *text, struct maps_line *line);

/* Cuts off the kernel's " (deleted)". False: there was none. */
bool maps_strip_deleted(char *path);
/* Shared anonymous memory and the like: a path, but no file that anybody could open. */
bool maps_is_no_file(const char *path);

#endif

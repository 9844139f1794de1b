/* The file that a mapping was made from, opened again by its path: what lies there now may be
 * another's. Context: agent threads; locks: none. */
#ifndef AGENT_MAPPED_FILE_H
#define AGENT_MAPPED_FILE_H

#include "mappings.h"

/* The file that the kernel has mapped, or one that root or this user has put in its place: whether
 * that is the same object its build-id has to tell. -1: neither. (File systems that show a mapping
 * under another device than the file, as overlayfs and btrfs do, make it one of the latter.) */
int mapped_file_open(const struct mapping *map);

#endif

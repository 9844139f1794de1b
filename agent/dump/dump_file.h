/* A profile's file: whole or not there. It is written beside, under a hidden name of its own, and
 * renamed. The way to its directory is walked as trusted_path.h says, no link is followed, and
 * nothing of another user's is replaced. Context: agent threads; locks: none; three descriptors. */
#ifndef AGENT_DUMP_FILE_H
#define AGENT_DUMP_FILE_H

#include <stdbool.h>
#include <stddef.h>

enum { DUMP_ERROR_MAX = 224 };

/* durable: it is on the disk when this returns, which may take as long as the disk does; else it is
 * the kernel's to write, and a power cut may lose it. False: error says why, to follow the path in
 * a sentence, and no file is left. */
bool dump_file_write(const char *path, const void *bytes, size_t size, bool durable,
                     char error[DUMP_ERROR_MAX]);

/* One that was written before; that it has gone is fine. */
void dump_file_remove(const char *path);

#endif

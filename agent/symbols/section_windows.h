/* Sections of one object's files, of which only what is being read is in memory: address space is
 * reserved for the whole, and windows of it are filled from the file when they are asked for. All
 * are emptied when they come to too much. A file that is truncated or overwritten meanwhile gives
 * an error or other bytes, never a fault: it is read, not mapped.
 *
 * libbacktrace asks for what it reads (backtrace_bring); so must everybody who follows a pointer
 * into such a section. What was brought in stays until the next call.
 * Context: agent threads; locks: the symbolizer's (one thread reads at a time).
 */
#ifndef AGENT_SECTION_WINDOWS_H
#define AGENT_SECTION_WINDOWS_H

#include <stdbool.h>

#include "elf_file.h"

struct section_windows;

/* NULL: no memory. */
struct section_windows *section_windows_create(void);
void section_windows_destroy(struct section_windows *windows);

/* As elf_section_read. What is compressed, or not in a file, is copied into the file's region. */
bool section_windows_open(struct section_windows *windows, struct elf_file *file,
                          const Elf64_Shdr *section, struct elf_bytes *out);

/* Those that backtrace_bring means, for one more lookup; NULL: all is in memory. */
void section_windows_use(struct section_windows *windows);
/* Gives the memory of the windows back. */
void section_windows_empty(struct section_windows *windows);
/* Between two requests no file is kept open. False: they are not there any more, or are others. */
void section_windows_close_files(struct section_windows *windows);
bool section_windows_open_files(struct section_windows *windows);

/* Too much was read for the size of the sections: a malformed file may send its reader in circles,
 * or make it read the same bytes again for each of its units. */
bool section_windows_overdrawn(const struct section_windows *windows);
/* A section could not be opened for lack of memory or address space. */
bool section_windows_short(const struct section_windows *windows);
uint64_t section_windows_bytes(const struct section_windows *windows);

/* Asked now and then while something is read; true: stop, nobody wants it any more. NULL: never. */
void section_windows_ask(bool (*unwanted)(void));

#endif

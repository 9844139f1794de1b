/* Function, file and line of the addresses of one object file, by libbacktrace's DWARF reader (dwarf.c alone: we find, read and
 * check the sections ourselves). Context: agent threads; locks: the caller's (one thread per region).
 */
#ifndef AGENT_DWARF_NAMES_H
#define AGENT_DWARF_NAMES_H

#include "elf_file.h"

struct dwarf_names;

struct dwarf_frame {
  const char *name;     /* linkage name where the compiler gave one, else the plain name; or NULL */
  const char *filename; /* or NULL */
  uint32_t line;
};

/* Inlined functions at one address. Of more the innermost and the outermost are kept, with a marker
 * where the others were. */
enum { DWARF_MAX_FRAMES = 1024 };

enum dwarf_loss { /* bits */
  DWARF_INLINED_CUT = 1,  /* the marker was needed */
  DWARF_SPLIT_MISSING = 2 /* no .dwo or .dwp of a unit: no inlined functions in it */
};

/* Reads the debug sections of file; alternate (or NULL) is what its .gnu_debugaltlink names.
 * object: the path of the object, beside which split debug information may be. NULL: there are
 * none, or (malformed set, or the region exhausted) they cannot be read. */
struct dwarf_names *dwarf_names_open(struct elf_file *file, struct elf_file *alternate,
                                     const char *object, bool *malformed);
/* Closes files; the memory is the region's. NULL is allowed. */
void dwarf_names_close(struct dwarf_names *names);

/* Fills frames, innermost first, and returns how many; the last is the function that is not inlined. 0: nothing is known. The
 * strings live as long as the region. */
size_t dwarf_names_find(struct dwarf_names *names, uint64_t address, struct dwarf_frame frames[DWARF_MAX_FRAMES]);

/* What was lost since it was opened. */
unsigned dwarf_names_losses(const struct dwarf_names *names);

#endif

/* Function, file and line of the addresses of one object file, by libbacktrace's DWARF reader
 * (dwarf.c alone: we find, read and check the sections ourselves). Context: agent threads; locks:
 * the caller's (one thread per region).
 */
#ifndef AGENT_DWARF_NAMES_H
#define AGENT_DWARF_NAMES_H

#include "elf_file.h"
#include "section_windows.h"

struct dwarf_names;

struct dwarf_frame {
  const char *name; /* linkage name where the compiler gave one, else the plain name; or NULL */
  const char *filename; /* or NULL */
  uint32_t line;
};

/* Inlined functions at one address. Of more the innermost and the outermost are kept, with a marker
 * where the others were. */
enum {
  DWARF_MAX_FRAMES = 1024,
  DWARF_NAME_MAX = 1 << 20 /* names and paths are cut here */
};

enum dwarf_loss { /* bits */
                  DWARF_INLINED_CUT = 1, /* the marker was needed */
                  DWARF_SPLIT_MISSING =
                      2, /* no .dwo or .dwp of a unit: no inlined functions in it */
                  DWARF_MEMORY = 4, /* the list of units, or a unit, does not fit into memory */
                  DWARF_TOO_COSTLY =
                      8, /* more was read than an honest file needs: the rest is not known */
                  DWARF_MALFORMED = 16
};

/* Reads the debug sections of file; alternate (or NULL) is what its .gnu_debugaltlink names.
 * object: the path of the object, beside which split debug information may be. NULL: there are
 * none, or they cannot be read (*losses, or the region exhausted). windows must outlive it. */
struct dwarf_names *dwarf_names_open(struct elf_file *file, struct elf_file *alternate,
                                     struct section_windows *windows, const char *object,
                                     unsigned *losses);
/* Closes files; what stays is the region's. NULL is allowed. */
void dwarf_names_close(struct dwarf_names *names);

/* Fills frames, innermost first, and returns how many; the last is the function that is not
 * inlined. 0: nothing is known. The strings live until the next call. */
size_t dwarf_names_find(struct dwarf_names *names, uint64_t address,
                        struct dwarf_frame frames[DWARF_MAX_FRAMES]);

/* Gives up what can be read again. */
void dwarf_names_forget(struct dwarf_names *names);
/* A package of split debug information is open. */
bool dwarf_names_has_package(const struct dwarf_names *names);
/* Beside the region. */
uint64_t dwarf_names_bytes(const struct dwarf_names *names);

/* What was lost since it was opened. */
unsigned dwarf_names_losses(const struct dwarf_names *names);

#endif

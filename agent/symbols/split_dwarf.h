/* Split debug information of one object: what -gsplit-dwarf leaves in .dwo files, and what dwp
 * gathers from them in a package beside the object (PROGRAM.dwp). Which file is asked for, its
 * skeleton in the object says; whether a file is the right one, the dwo_id of its units (checked by
 * the caller). Context: agent threads; locks: the caller's (one thread per region).
 */
#ifndef AGENT_SPLIT_DWARF_H
#define AGENT_SPLIT_DWARF_H

#include "elf_file.h"

struct split_dwarf;
struct dwarf_sections; /* libbacktrace's */

struct split_unit {
  const char *directory; /* the compilation's, or NULL */
  const char *name; /* of the .dwo file */
  uint64_t id;
};

/* What belongs to one unit is read into details, the rest into region. object, debug_file: paths of
 * the object and of the file that the skeletons were read from, "" when unknown; owner: the
 * latter's. NULL: the region is exhausted. */
struct split_dwarf *split_dwarf_create(struct region *region, struct region *details,
                                       const char *object, const char *debug_file, uid_t owner);
void split_dwarf_close(struct split_dwarf *split);
bool split_dwarf_has_package(const struct split_dwarf *split); /* open */

/* Sets the sections of the unit to what is in the place of that number, if anything; the places are
 * counted from 0. False: there are no more. */
bool split_dwarf_sections(struct split_dwarf *split, const struct split_unit *unit, int place,
                          struct dwarf_sections *sections);

#endif

/* Finds the file that holds an object's debug information when the object itself does not: by
 * build-id, by .gnu_debuglink, and what dwz moved out (.gnu_debugaltlink). A file is taken only
 * when its build-id (or the link's checksum) says that it belongs, and only if it is root's, this
 * process's user's or of who owns the file that names it: a build-id is no secret.
 * Context: agent threads; locks: none.
 */
#ifndef AGENT_DEBUG_FILES_H
#define AGENT_DEBUG_FILES_H

#include "elf_file.h"

/* Opens the debug file of object (whose path is given, "" when unknown, and build-id, "" when it
 * has none). False: there is none. */
bool debug_file_open(struct elf_file *debug, struct elf_file *object, const char *path,
                     const char *build_id);

/* Opens the file that .gnu_debugaltlink of file names. False: there is none, or it is not the right
 * one. */
bool debug_file_open_alternate(struct elf_file *alternate, struct elf_file *file);

/* Opens what /usr/lib/debug holds for that build-id alone, when the object is gone. */
bool debug_file_open_by_build_id(struct elf_file *debug, struct region *region,
                                 const char *build_id);

/* Opens a file of split debug information (.dwo, .dwp). Its units tell whether it is right. also:
 * the owner of the file that names it. */
bool debug_file_open_split(struct elf_file *split, struct region *region, const char *path,
                           uid_t also);

/* The path that file was opened by, as the kernel knows it; "" when it is not known. */
void debug_file_path(const struct elf_file *file, char *path, size_t size);

#endif

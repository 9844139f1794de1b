/* Where code is mapped: /proc/self/maps joined with the module registry, so that dlclosed modules
 * keep their place. Context: agent threads. */
#ifndef AGENT_MAPPINGS_H
#define AGENT_MAPPINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum mapping_kind {
  MAPPING_FILE, /* an ELF file (or one that was, when deleted is set) */
  MAPPING_VDSO,
  MAPPING_ANONYMOUS /* executable memory without a file: JIT code */
};

/* In profiles; as perf has it: pprof does not look for a file, and shows [anon]. */
#define MAPPING_ANONYMOUS_NAME "//anon"

struct mapping {
  uint64_t start, limit,
      offset; /* as in /proc/self/maps: runtime range and file offset of the executable segment */
  dev_t device; /* of the file, and its inode; 0: not known */
  ino_t inode;
  uint64_t bias; /* runtime address - address in the file's program headers (ELF files and vdso) */
  enum mapping_kind kind;
  bool deleted; /* the file was unlinked or replaced: its name must not be trusted, its build-id may
                   be */
  bool no_object; /* a file, but none of ELF that is mapped here: JIT code, if any */
  bool unloaded; /* dlclosed: no longer in /proc/self/maps */
  uint32_t first_epoch; /* as in module_registry.h; 0 when the registry does not know it */
  const char *path; /* absolute, " (deleted)" stripped; "[vdso]"; "" for anonymous memory */
  char build_id[65]; /* hex, or "" */
};

struct mappings {
  size_t count;
  struct mapping *items; /* items[0] is the main program */
};

/* NULL when out of memory. */
struct mappings *mappings_collect(void);
void mappings_release(struct mappings *set);

/* The mapping that address meant at that epoch (UINT32_MAX: now), or NULL. */
const struct mapping *mappings_find(const struct mappings *set, uint64_t address, uint32_t epoch);

#endif

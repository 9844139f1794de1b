/* Reads ELF files that may be malformed, truncated while they are read, or no files at all: every
 * offset is checked, contents are copied by pread (a mapping of a file that shrinks would kill the
 * host), and what was read lies in the caller's region. Context: agent threads; locks: none (one
 * thread per file).
 */
#ifndef AGENT_ELF_FILE_H
#define AGENT_ELF_FILE_H

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "libbacktrace_region.h"

enum {
  BUILD_ID_HEX_MAX = 65,
  ELF_PADDING = 8 /* zero bytes after every copy: strings at the end of a section always end */
};

struct elf_file {
  struct region *region;
  int descriptor; /* -1: in memory */
  const uint8_t *memory; /* the whole file, when descriptor is -1 */
  uint64_t size;
  uid_t owner; /* (uid_t)-1: in memory */
  Elf64_Ehdr header;
  const Elf64_Shdr *sections; /* section_count of them; none when the file has no section headers */
  uint32_t section_count;
  const char *section_names; /* NUL-terminated block of section_names_size bytes */
  uint64_t section_names_size;
};

struct elf_bytes {
  const uint8_t *data; /* followed by at least ELF_PADDING zero bytes, unless it is a part */
  uint64_t size;
};

/* A regular file opened for reading, or -1. Never blocks (FIFO) and never becomes a controlling
 * terminal. */
int elf_file_open_path(const char *path);

/* Takes the descriptor, or the memory (which must outlive the file). False: no ELF file of this
 * machine's kind; nothing to close. */
bool elf_file_from_descriptor(struct elf_file *file, struct region *region, int descriptor);
bool elf_file_from_memory(struct elf_file *file, struct region *region, const uint8_t *memory,
                          uint64_t size);
void elf_file_close(struct elf_file *file);

/* Copies bytes of the file into the region. */
bool elf_file_read(struct elf_file *file, uint64_t offset, uint64_t size, struct elf_bytes *out);

const char *elf_section_name(const struct elf_file *file, const Elf64_Shdr *section);
/* The first section of that name that has contents in this file, or NULL. */
const Elf64_Shdr *elf_section_find(const struct elf_file *file, const char *name);
/* Its contents, decompressed when needed (by zlib or zstd; also in the old .zdebug form). */
bool elf_section_read(struct elf_file *file, const Elf64_Shdr *section, struct elf_bytes *out);

/* As hex; false when the file has none. */
bool elf_file_build_id(struct elf_file *file, char hex[BUILD_ID_HEX_MAX]);
/* Finds the GNU build-id in the contents of a note segment or section. */
bool elf_notes_build_id(const uint8_t *notes, uint64_t size, char hex[BUILD_ID_HEX_MAX]);
void build_id_to_hex(const uint8_t *bytes, size_t size, char hex[BUILD_ID_HEX_MAX]);

#endif

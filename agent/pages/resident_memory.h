/* Why resident memory is larger than the heap: what it consists of, from /proc/self/smaps.
 *
 * glibc's own figures (mallinfo2) are not asked for: it takes each arena's lock, for which a
 * program's threads would then wait, and walks what is free.
 * Context: agent threads; locks: its own.
 */
#ifndef AGENT_RESIDENT_MEMORY_H
#define AGENT_RESIDENT_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/http/text_sink.h"

/* X(identifier, title, sentence). Together they are all of it. */
#define RESIDENT_KINDS(X)                                                                          \
  X(brk_heap, "Allocator's first area",                                                            \
    "Grown by brk: live objects, and what was freed and not given back.")                          \
  X(arenas, "Allocator's further arenas",                                                          \
    "Areas of 64 MB that glibc gives to groups of threads; what is freed in one is of use to it "  \
    "alone (MALLOC_ARENA_MAX bounds them).")                                                       \
  X(anonymous, "Other anonymous memory",                                                           \
    "Large blocks of the allocator, all of another allocator's, the program's own mmap, stacks "   \
    "that libc keeps for later threads, zeroed variables.")                                        \
  X(stacks, "Stacks", "Of the threads there are; pages that were touched once stay.")              \
  X(file_pages, "Pages of files",                                                                  \
    "Code and data, as in the files: shared with whoever maps them, dropped or written back when " \
    "memory is short.")                                                                            \
  X(file_copies, "Copies of files' pages",                                                         \
    "The program's own: variables, tables that the loader filled in.")                             \
  X(shared, "Shared memory", "memfd, /dev/shm, System V, shared anonymous mappings.")              \
  X(other, "Not told apart", "Mappings beyond the first 20,000, and what came meanwhile.")

enum resident_kind {
#define X(identifier, title, sentence) RESIDENT_##identifier,
  RESIDENT_KINDS(X)
#undef X
      RESIDENT_KIND_COUNT
};

struct resident_memory {
  const char *fault; /* one sentence why nothing is known; NULL */
  const char *coarse; /* why the program's own memory is all in `anonymous`; NULL */
  uint64_t bytes[RESIDENT_KIND_COUNT], total;
  uint64_t lazily_freed; /* of it: MADV_FREE'd, the kernel takes it when it needs it */
  uint64_t huge; /* of it: in huge pages, which may be touched in part */
  uint64_t swapped; /* not in it */
  int64_t taken_ns; /* CLOCK_MONOTONIC */
};

/* As it was read last, if that was less than a second or a hundred times its cost ago. */
void resident_memory_read(struct resident_memory *out);

/* ---- its parts ---- */

/* Reads one line of smaps after the other. Stacks: addresses near the top of each, sorted. */
struct resident_reader {
  struct resident_memory *out;
  const uintptr_t *stacks;
  size_t stack_count;
  uint64_t start, end; /* of the mapping that is being read */
  enum resident_kind kind;
  bool writable, may_be_arena; /* the next mapping tells */
  uint64_t arena_bytes;
  uint32_t mappings;
};
enum { RESIDENT_MAPPINGS_MAX = 20000 };
/* False: enough has been read. */
bool resident_reader_line(struct resident_reader *reader, const char *line);
void resident_reader_end(struct resident_reader *reader);

/* The index page's table. */
void resident_memory_write_html(struct text_sink *text);

#endif

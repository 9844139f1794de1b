/* links: test/stub_announced_code.c agent/symbols/libbacktrace_region.c
 *      test/stub_module_registry.c test/agent_memory_libc.c agent/symbols/section_windows.c */
/* flags: -w -fno-sanitize=shift --param asan-stack=0 -DREGION_SEPARATE_BLOCKS
 *      -DSECTION_WINDOW=4096 -DSMALL_SECTION=0 -DHAVE_CONFIG_H -idirafter
 *      build/deps/src/gdb/include build/deps/src/gdb/libbacktrace/dwarf.c
 *      build/deps/src/gdb/libbacktrace/elf.c build/deps/src/gdb/libbacktrace/sort.c */
/* fuzz: bytes */
/* A file with any contents where an object's names are looked for: ELF, DWARF, symbol tables. What
 * comes is text, in no more time than the file's size allows (libFuzzer's -timeout). Mutants of
 * whole programs: unit_symbolizer_fuzz.c. */
#include <elf.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "fuzz.h"
#include "agent/symbols/symbolizer.h"

enum { ADDRESSES = 24, SEGMENTS_MAX = 16 };

static volatile size_t sum;

static void resolve(struct symbolizer_session *session, const struct mapping *map,
                    uint64_t address) {
  const struct symbol_location *found = symbolizer_resolve(session, map, address);
  for (uint32_t i = 0; i < found->frame_count; i++) {
    const struct symbol_frame *frame = &found->frames[i];
    if (frame->function) sum += strlen(frame->function) + strlen(frame->system_name);
    if (frame->filename) sum += strlen(frame->filename);
  }
}

/* Of executable segments, and of the file. */
static void resolve_some(struct symbolizer_session *session, const struct mapping *map,
                         const uint8_t *bytes, size_t size) {
  Elf64_Ehdr header;
  for (size_t i = 0; i < ADDRESSES; i++) resolve(session, map, size * i / ADDRESSES);
  if (size < sizeof header) return;
  memcpy(&header, bytes, sizeof header);
  for (unsigned i = 0; i < header.e_phnum && i < SEGMENTS_MAX; i++) {
    Elf64_Phdr segment;
    uint64_t at = header.e_phoff + i * sizeof segment;
    if (header.e_phoff > size || at + sizeof segment > size) return;
    memcpy(&segment, bytes + at, sizeof segment);
    if (segment.p_type != PT_LOAD || !(segment.p_flags & PF_X)) continue;
    for (uint64_t n = 0; n < ADDRESSES; n++)
      resolve(session, map, segment.p_vaddr + segment.p_memsz / ADDRESSES * n + n % 3);
  }
}

static void fuzz_one(const uint8_t *bytes, size_t size) {
  static unsigned long number; /* no two are the same file */
  char path[64];
  snprintf(path, sizeof path, "/tmp/pprofagent-fuzz-%d-%lu", (int)getpid(), number++);
  int descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
  if (descriptor < 0 || write(descriptor, bytes, size) != (ssize_t)size) abort();
  close(descriptor);
  struct mapping map = {.limit = UINT64_MAX, .kind = MAPPING_FILE, .path = path};
  struct symbolizer_session *session = symbolizer_open();
  resolve_some(session, &map, bytes, size);
  symbolizer_close(session);
  unlink(path);
}

#include "section_windows.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "agent/runtime/agent_memory.h"
#include "symbol_memory.h"

/* from libbacktrace */
#include "backtrace.h"
#include "internal.h"

#ifndef SECTION_WINDOW /* for tests */
#define SECTION_WINDOW (16 << 10)
#define SMALL_SECTION (64 << 10) /* read whole */
#endif

enum {
  WINDOW = SECTION_WINDOW,
  PAGE = 4096,
  PATH_SIZE = 4096,
  SECTIONS_MAX = 32,
  FILES_MAX = 4, /* the object, its debug file, what dwz moved out */
  SHARE = 8, /* of the budget, for windows */
  /* Reading is counted in bytes that are looked at. An honest file is looked at two or three times,
   * and each address may need one more look at its unit. */
  STEPS_A_BYTE = 16,
  STEPS_A_WINDOW = 4096,
  STEPS_AT_ONCE = 1 << 16
};
static const uint64_t STEPS_FREE = 64 << 20, STEPS_A_LOOKUP = 1 << 20;

struct section {
  uint8_t *base;
  uint64_t size;
  uint64_t *filled; /* a bit a window; NULL: all is there */
  int file;
  uint64_t offset;
};

struct source {
  int descriptor; /* -1: closed */
  char *path; /* NULL: not known */
  struct stat status;
};

struct section_windows {
  struct section sections[SECTIONS_MAX];
  unsigned section_count;
  struct source files[FILES_MAX];
  unsigned file_count;
  uint64_t bytes; /* of filled windows */
  uint64_t steps; /* left */
  bool overdrawn, stopped, is_short;
};

/* Under the symbolizer's lock. */
static struct section_windows *current;
static bool (*is_unwanted)(void);
struct backtrace_window backtrace_window;

void section_windows_ask(bool (*unwanted)(void)) { is_unwanted = unwanted; }

struct section_windows *section_windows_create(void) {
  struct section_windows *windows = agent_calloc(1, sizeof *windows);
  if (windows != NULL) windows->steps = STEPS_FREE;
  return windows;
}

static uint64_t window_count(const struct section *section) {
  return (section->size + WINDOW - 1) / WINDOW;
}

static uint64_t bitmap_bytes(const struct section *section) {
  return (window_count(section) + 63) / 64 * sizeof(uint64_t);
}

/* A page of zeros behind the last window ends every string. */
static uint64_t reserved_bytes(const struct section *section) {
  return window_count(section) * WINDOW + PAGE;
}

static void forget_window(void) { backtrace_window.low = backtrace_window.high = NULL; }

void section_windows_empty(struct section_windows *windows) {
  if (windows == NULL) return;
  if (windows == current) forget_window();
  for (unsigned i = 0; i < windows->section_count && windows->bytes > 0; i++) {
    struct section *section = &windows->sections[i];
    if (section->filled == NULL) continue;
    madvise(section->base, reserved_bytes(section), MADV_DONTNEED);
    memset(section->filled, 0, bitmap_bytes(section));
  }
  symbol_memory_give(windows->bytes);
  windows->bytes = 0;
}

void section_windows_close_files(struct section_windows *windows) {
  if (windows == NULL) return;
  for (unsigned i = 0; i < windows->file_count; i++)
    if (windows->files[i].descriptor >= 0) {
      close(windows->files[i].descriptor);
      windows->files[i].descriptor = -1;
    }
}

static bool is_same_file(const struct stat *a, const struct stat *b) {
  return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
         a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

bool section_windows_open_files(struct section_windows *windows) {
  for (unsigned i = 0; windows != NULL && i < windows->file_count; i++) {
    struct source *file = &windows->files[i];
    struct stat status;
    if (file->descriptor >= 0) continue;
    file->descriptor = file->path == NULL ? -1 : elf_file_open_path(file->path);
    if (file->descriptor < 0 || fstat(file->descriptor, &status) != 0 ||
        !is_same_file(&status, &file->status))
      return false;
  }
  return true;
}

void section_windows_destroy(struct section_windows *windows) {
  if (windows == NULL) return;
  section_windows_empty(windows);
  section_windows_close_files(windows);
  for (unsigned i = 0; i < windows->section_count; i++) {
    struct section *section = &windows->sections[i];
    if (section->filled == NULL) continue;
    agent_pages_unmap(section->base, reserved_bytes(section));
    symbol_memory_give(bitmap_bytes(section));
    agent_free(section->filled);
  }
  for (unsigned i = 0; i < windows->file_count; i++) agent_free(windows->files[i].path);
  if (current == windows) section_windows_use(NULL);
  agent_free(windows);
}

/* ---- opening ---- */

static char *path_of(int descriptor) {
  /* thread-self: agent threads have a descriptor table of their own */
  char self[64], path[PATH_SIZE];
  snprintf(self, sizeof self, "/proc/thread-self/fd/%d", descriptor);
  ssize_t got = readlink(self, path, sizeof path);
  if (got <= 0 || got == sizeof path) return NULL;
  path[got] = '\0';
  return agent_strdup(path);
}

/* A descriptor of our own, one a file; -1: too many. */
static int source_of(struct section_windows *windows, const struct elf_file *file) {
  struct stat status;
  if (fstat(file->descriptor, &status) != 0) return -1;
  for (unsigned i = 0; i < windows->file_count; i++)
    if (is_same_file(&windows->files[i].status, &status)) return (int)i;
  if (windows->file_count == FILES_MAX) return -1;
  int descriptor = fcntl(file->descriptor, F_DUPFD_CLOEXEC, 0);
  if (descriptor < 0) return -1;
  windows->files[windows->file_count] = (struct source){descriptor, path_of(descriptor), status};
  return (int)windows->file_count++;
}

static bool reserve(struct section_windows *windows, struct elf_file *file,
                    const Elf64_Shdr *header, struct section *section) {
  if (header->sh_offset > file->size || header->sh_size > file->size - header->sh_offset)
    return false;
  *section = (struct section){.size = header->sh_size, .offset = header->sh_offset};
  section->file = source_of(windows, file);
  if (section->file < 0) return false;
  windows->is_short = true;
  if (!symbol_memory_take(bitmap_bytes(section))) return false;
  section->filled = agent_calloc(1, bitmap_bytes(section));
  section->base = section->filled == NULL ? NULL : agent_pages_map(reserved_bytes(section));
  windows->is_short = section->base == NULL;
  if (section->base != NULL) return true;
  agent_free(section->filled);
  symbol_memory_give(bitmap_bytes(section));
  return false;
}

static bool is_compressed(const struct elf_file *file, const Elf64_Shdr *header) {
  return (header->sh_flags & SHF_COMPRESSED) != 0 ||
         strncmp(elf_section_name(file, header), ".zdebug", 7) == 0;
}

bool section_windows_open(struct section_windows *windows, struct elf_file *file,
                          const Elf64_Shdr *header, struct elf_bytes *out) {
  struct section section;
  bool copied = windows == NULL || file->descriptor < 0 || header->sh_size <= SMALL_SECTION ||
                header->sh_type == SHT_NOBITS || is_compressed(file, header) ||
                windows->section_count == SECTIONS_MAX;
  if (copied) {
    if (!elf_section_read(file, header, out)) return false;
    section = (struct section){.base = (uint8_t *)(uintptr_t)out->data, .size = out->size};
  } else {
    if (!reserve(windows, file, header, &section)) return false;
    *out = (struct elf_bytes){.data = section.base, .size = section.size};
  }
  if (windows == NULL) return true;
  windows->steps += STEPS_A_BYTE * out->size;
  if (windows->section_count < SECTIONS_MAX) windows->sections[windows->section_count++] = section;
  return true;
}

/* ---- bringing in ---- */

static bool is_stopped(struct section_windows *windows) {
  if (!windows->stopped) windows->stopped = is_unwanted != NULL && is_unwanted();
  return windows->stopped;
}

static bool charge(struct section_windows *windows, uint64_t steps) {
  if (windows->steps < steps) {
    windows->overdrawn = true;
    windows->steps = 0;
    return false;
  }
  windows->steps -= steps;
  return true;
}

/* libbacktrace takes its steps from a small purse, which is filled here. */
static bool fill_purse(struct section_windows *windows) {
  if (is_stopped(windows) || !charge(windows, STEPS_AT_ONCE)) {
    backtrace_window.steps = 0;
    return false;
  }
  backtrace_window.steps = STEPS_AT_ONCE;
  return true;
}

void section_windows_use(struct section_windows *windows) {
  current = windows;
  if (windows == NULL) {
    backtrace_window =
        (struct backtrace_window){NULL, (const unsigned char *)UINTPTR_MAX, SIZE_MAX - 1};
    return;
  }
  forget_window();
  backtrace_window.steps = 0;
  windows->steps += STEPS_A_LOOKUP;
  windows->stopped = false;
}

static struct section *section_at(struct section_windows *windows, const uint8_t *at) {
  for (unsigned i = 0; i < windows->section_count; i++) {
    struct section *section = &windows->sections[i];
    if (at >= section->base && (uint64_t)(at - section->base) < section->size) return section;
  }
  return NULL;
}

static bool read_window(int descriptor, uint8_t *to, uint64_t size, uint64_t offset) {
  while (size > 0) {
    ssize_t got = pread(descriptor, to, size, (off_t)offset);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false; /* truncated meanwhile */
    to += got, offset += (uint64_t)got, size -= (uint64_t)got;
  }
  return true;
}

static bool is_filled(const struct section *section, uint64_t window) {
  return (section->filled[window / 64] >> window % 64 & 1) != 0;
}

static bool fill(struct section_windows *windows, struct section *section, uint64_t window) {
  if (is_filled(section, window)) return true;
  if (windows->files[section->file].descriptor < 0) return false;
  if (is_stopped(windows) || !charge(windows, STEPS_A_WINDOW)) return false;
  if (windows->bytes + WINDOW > symbol_memory_budget() / SHARE || !symbol_memory_take(WINDOW)) {
    section_windows_empty(windows);
    if (!symbol_memory_take(WINDOW)) return false;
  }
  windows->bytes += WINDOW;
  uint64_t from = window * WINDOW, left = section->size - from;
  if (!read_window(windows->files[section->file].descriptor, section->base + from,
                   left < WINDOW ? left : WINDOW, section->offset + from))
    return false;
  section->filled[window / 64] |= UINT64_C(1) << window % 64;
  return true;
}

/* All from the first byte to the last one at once: emptying in the middle starts it anew. */
static bool fill_range(struct section_windows *windows, struct section *section, uint64_t first,
                       uint64_t last) {
  if ((last - first) / WINDOW + 2 > symbol_memory_budget() / SHARE / WINDOW) return false;
  for (int attempt = 0; attempt < 2; attempt++) {
    for (uint64_t i = first / WINDOW; i <= last / WINDOW; i++)
      if (!fill(windows, section, i)) return false;
    bool whole = true;
    for (uint64_t i = first / WINDOW; i <= last / WINDOW; i++) whole &= is_filled(section, i);
    if (whole) return true;
  }
  return false;
}

/* Called by libbacktrace. */
int backtrace_bring(const void *p, size_t size) {
  struct section_windows *windows = current;
  if (windows == NULL) return 1;
  if (backtrace_window.steps - 1 >= STEPS_AT_ONCE && !fill_purse(windows)) return 0;
  const uint8_t *at = p;
  struct section *section = section_at(windows, at);
  if (section == NULL || size == 0) return 1; /* copied */
  uint64_t first = (uint64_t)(at - section->base);
  if (size > section->size - first) return 0;
  if (section->filled == NULL) {
    backtrace_window.low = section->base;
    backtrace_window.high = section->base + section->size;
    return 1;
  }
  uint64_t last = first + size - 1;
  if (!fill_range(windows, section, first, last)) return 0;
  uint64_t end = (last / WINDOW + 1) * WINDOW;
  backtrace_window.low = section->base + first / WINDOW * WINDOW;
  backtrace_window.high = section->base + (end < section->size ? end : section->size);
  return 1;
}

/* Called by libbacktrace. */
int backtrace_bring_string(const char *s, size_t limit) {
  struct section_windows *windows = current;
  if (windows == NULL || limit == 0) return 1;
  const uint8_t *at = (const uint8_t *)s;
  struct section *section = section_at(windows, at);
  if (section == NULL || section->filled == NULL) return 1;
  uint64_t first = (uint64_t)(at - section->base), size = section->size - first;
  if (limit < size) size = limit;
  for (uint64_t known = 0; known < size;) {
    uint64_t upto = ((first + known) / WINDOW + 1) * WINDOW - first; /* to the end of a window */
    if (upto > size) upto = size;
    if (!backtrace_bring(s, upto)) return 0;
    if (memchr(s + known, '\0', upto - known) != NULL) return 1;
    known = upto;
  }
  return 1; /* cut at the limit, or by the zeros behind the section */
}

bool section_windows_overdrawn(const struct section_windows *windows) {
  return windows != NULL && windows->overdrawn;
}

bool section_windows_short(const struct section_windows *windows) {
  return windows != NULL && windows->is_short;
}

uint64_t section_windows_bytes(const struct section_windows *windows) {
  if (windows == NULL) return 0;
  uint64_t bytes = windows->bytes;
  for (unsigned i = 0; i < windows->section_count; i++)
    if (windows->sections[i].filled != NULL) bytes += bitmap_bytes(&windows->sections[i]);
  return bytes;
}

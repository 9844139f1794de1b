#include "resident_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/runtime/agent_lock.h"
#include "agent/runtime/agent_memory.h"
#include "agent/runtime/agent_thread.h"
#include "agent/runtime/allowed_calls.h"
#include "agent/runtime/process_info.h"
#include "agent/threads/thread_list.h"

/* ---- one mapping ---- */

enum { KIB = 1024 };
#define ARENA_BYTES (UINT64_C(64) << 20) /* glibc's HEAP_MAX_SIZE */

/* The record of a thread is at the top of the stack that libc made for it. */
static bool is_stack(const struct resident_reader *reader) {
  enum { RECORD_MAX = 64 * KIB };
  size_t low = 0, high = reader->stack_count;
  while (low < high) { /* the last one below the end */
    size_t middle = (low + high) / 2;
    if (reader->stacks[middle] < reader->end) low = middle + 1;
    else high = middle;
  }
  return low > 0 && reader->stacks[low - 1] >= reader->start &&
         reader->end - reader->stacks[low - 1] < RECORD_MAX;
}

static bool begins_with(const char *text, const char *start) {
  return strncmp(text, start, strlen(start)) == 0;
}

static enum resident_kind kind_of(const struct resident_reader *reader, const char *path,
                                  bool is_shared) {
  if (strcmp(path, "[heap]") == 0) return RESIDENT_brk_heap;
  if (begins_with(path, "[stack")) return RESIDENT_stacks;
  if (is_shared && (!*path || begins_with(path, "/dev/zero") || begins_with(path, "/memfd:") ||
                    begins_with(path, "/SYSV") || begins_with(path, "/dev/shm/") ||
                    begins_with(path, "[anon_shmem")))
    return RESIDENT_shared;
  if (path[0] == '/') return RESIDENT_file_pages;
  return is_stack(reader) ? RESIDENT_stacks : RESIDENT_anonymous;
}

/* One that begins as an arena does is one if the rest of it is reserved behind it. */
static void settle_arena(struct resident_reader *reader, bool is_arena) {
  if (!reader->may_be_arena) return;
  reader->out->bytes[is_arena ? RESIDENT_arenas : RESIDENT_anonymous] += reader->arena_bytes;
  reader->may_be_arena = false;
}

/* "7f..-7f.. rw-p 00000000 00:00 0   path" */
static void begin_mapping(struct resident_reader *reader, const char *line) {
  char *at;
  uint64_t start = strtoull(line, &at, 16), end = *at == '-' ? strtoull(at + 1, &at, 16) : start;
  char permissions[5] = "";
  if (*at == ' ') strncpy(permissions, at + 1, 4);
  const char *path = at;
  for (int field = 0; field < 4; field++) { /* permissions, offset, device, inode */
    path += strspn(path, " ");
    path += strcspn(path, " ");
  }
  path += strspn(path, " ");
  settle_arena(reader, start == reader->end && strcmp(permissions, "---p") == 0);
  reader->start = start;
  reader->end = end;
  reader->mappings++;
  reader->kind = kind_of(reader, path, permissions[3] == 's');
  reader->may_be_arena = reader->kind == RESIDENT_anonymous && start % ARENA_BYTES == 0 &&
                         strcmp(permissions, "rw-p") == 0;
  reader->arena_bytes = 0;
}

static void add_resident(struct resident_reader *reader, uint64_t bytes) {
  reader->out->total += bytes;
  if (reader->may_be_arena) reader->arena_bytes += bytes;
  else reader->out->bytes[reader->kind] += bytes;
}

/* Of a file's pages: those that are copies. */
static void add_anonymous(struct resident_reader *reader, uint64_t bytes) {
  uint64_t *files = &reader->out->bytes[RESIDENT_file_pages];
  if (reader->kind != RESIDENT_file_pages || bytes > *files) return;
  *files -= bytes;
  reader->out->bytes[RESIDENT_file_copies] += bytes;
}

bool resident_reader_line(struct resident_reader *reader, const char *line) {
  bool is_header = *line && (strchr("0123456789abcdef", *line) != NULL);
  if (is_header && reader->mappings >= RESIDENT_MAPPINGS_MAX) return false;
  if (is_header) {
    begin_mapping(reader, line);
    return true;
  }
  const char *colon = strchr(line, ':');
  uint64_t bytes = colon ? strtoull(colon + 1, NULL, 10) * KIB : 0;
  if (begins_with(line, "Rss:")) add_resident(reader, bytes);
  else if (begins_with(line, "Anonymous:")) add_anonymous(reader, bytes);
  else if (begins_with(line, "LazyFree:")) reader->out->lazily_freed += bytes;
  else if (begins_with(line, "AnonHugePages:")) reader->out->huge += bytes;
  else if (begins_with(line, "Swap:")) reader->out->swapped += bytes;
  return true;
}

void resident_reader_end(struct resident_reader *reader) { settle_arena(reader, false); }

/* ---- the file ---- */

/* False: it could not be read. */
static bool read_lines(struct resident_reader *reader, const char *path) {
  enum { BUFFER = 64 * KIB };
  int file = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  char *buffer = file >= 0 ? agent_malloc(BUFFER) : NULL;
  size_t used = 0;
  ssize_t got = -1;
  bool more = buffer != NULL;
  while (more && (got = read(file, buffer + used, BUFFER - 1 - used)) != 0) {
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) break;
    used += (size_t)got;
    buffer[used] = 0;
    char *line = buffer, *end;
    for (; more && (end = strchr(line, '\n')); line = end + 1) {
      *end = 0;
      more = resident_reader_line(reader, line);
    }
    used -= (size_t)(line - buffer);
    memmove(buffer, line, used);
    if (used >= BUFFER - 1) used = 0; /* no line of this file is so long */
  }
  resident_reader_end(reader);
  agent_free(buffer);
  if (file >= 0) close(file);
  return buffer && (got == 0 || !more);
}

/* ---- where stacks are ---- */

/* Each thread tells the kernel at its start where its list of robust mutexes is: in libc's record
 * of it. */
static uintptr_t record_of(int32_t tid) {
  uintptr_t head = 0;
  size_t size;
  if (tid == getpid() || allowed_calls_lack(CALLS_STACKS)) return 0;
  return syscall(SYS_get_robust_list, tid, &head, &size) == 0 ? head : 0;
}

/* Shellsort: libc's qsort may use the program's heap. */
static void order(uintptr_t *addresses, size_t count) {
  for (size_t gap = count / 2; gap > 0; gap /= 2)
    for (size_t i = gap; i < count; i++) {
      uintptr_t address = addresses[i];
      size_t at = i;
      for (; at >= gap && addresses[at - gap] > address; at -= gap)
        addresses[at] = addresses[at - gap];
      addresses[at] = address;
    }
}

static uintptr_t *find_stacks(size_t *count) {
  struct thread_ids ids;
  *count = 0;
  if (!thread_list_read(&ids)) return NULL;
  uintptr_t *stacks = agent_malloc((ids.count + 1) * sizeof *stacks);
  for (size_t i = 0; i < ids.count && stacks; i++) {
    uintptr_t record = record_of(ids.tids[i]);
    if (record) stacks[(*count)++] = record;
  }
  thread_list_release(&ids);
  if (stacks) order(stacks, *count);
  return stacks;
}

/* ---- the whole ---- */

static uint64_t number_of(const char *status, const char *name) {
  const char *at = status ? strstr(status, name) : NULL;
  return at ? strtoull(at + strlen(name), NULL, 10) * KIB : 0;
}

/* smaps_rollup lets the program's own mmap pass, smaps holds it up while it walks a mapping. */
static void read_coarsely(struct resident_memory *out, const char *status) {
  struct resident_memory sums = {0};
  struct resident_reader reader = {.out = &sums};
  out->coarse =
      "more than 4 GB are resident: to tell its kinds apart would hold up the program's "
      "own mmap";
  read_lines(&reader, "/proc/self/smaps_rollup"); /* where there is none: three figures are 0 */
  out->lazily_freed = sums.lazily_freed;
  out->huge = sums.huge;
  out->swapped = sums.swapped;
  out->bytes[RESIDENT_anonymous] = number_of(status, "\nRssAnon:");
  out->bytes[RESIDENT_file_pages] = number_of(status, "\nRssFile:");
  out->bytes[RESIDENT_shared] = number_of(status, "\nRssShmem:");
  out->total = number_of(status, "\nVmRSS:");
}

static void read_finely(struct resident_memory *out, uint64_t total) {
  size_t count;
  uintptr_t *stacks = find_stacks(&count);
  struct resident_reader reader = {.out = out, .stacks = stacks, .stack_count = count};
  /* Not self: the first thread may have ended. */
  if (!read_lines(&reader, "/proc/thread-self/smaps"))
    out->fault = "/proc/thread-self/smaps cannot be read";
  else if (reader.mappings >= RESIDENT_MAPPINGS_MAX && total > out->total) {
    out->bytes[RESIDENT_other] = total - out->total;
    out->total = total;
  }
  agent_free(stacks);
}

static void read_now(struct resident_memory *out) {
  enum { STATUS_MAX = 8 * KIB };
  static const uint64_t large = UINT64_C(4) << 30;
  size_t size;
  *out = (struct resident_memory){.fault = proc_fault(), .taken_ns = agent_monotonic_nanoseconds()};
  if (out->fault) return;
  char *status = process_read_file("/proc/thread-self/status", STATUS_MAX, &size);
  uint64_t total = number_of(status, "\nVmRSS:");
  if (total > large) read_coarsely(out, status);
  else read_finely(out, total);
  agent_free(status);
}

static struct agent_lock cache_lock;
static struct resident_memory cached; /* guarded by cache_lock, as is the next */
static int64_t valid_until;

void resident_memory_read(struct resident_memory *out) {
  static const int64_t second = 1000000000, of_a_hundred = 100;
  agent_lock_take(&cache_lock);
  int64_t begun = agent_monotonic_nanoseconds();
  if (begun >= valid_until) {
    read_now(&cached);
    int64_t now = agent_monotonic_nanoseconds(), rest = of_a_hundred * (now - begun);
    valid_until = now + (rest > second ? rest : second);
  }
  *out = cached;
  agent_lock_release(&cache_lock);
}

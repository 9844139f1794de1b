#include "thread_list.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "shim/threads/thread_registry.h"
#include "agent/runtime/agent_memory.h"
#include "agent/runtime/growing_array.h"
#include "agent/runtime/agent_thread.h"
#include "agent/runtime/process_info.h"
#include "agent/runtime/task_files.h"

/* ---- the agent's own threads ---- */

struct own_threads {
  size_t count;
  int32_t tids[2 * AGENT_THREAD_MAX];
};

static void add_own_threads(struct own_threads *own) {
  int32_t tids[AGENT_THREAD_MAX];
  size_t count = agent_thread_ids(tids, AGENT_THREAD_MAX);
  if (count > AGENT_THREAD_MAX) count = AGENT_THREAD_MAX;
  memcpy(own->tids + own->count, tids, count * sizeof *tids);
  own->count += count;
}

/* An agent thread that has just been created has not told its number yet: a matter of microseconds,
 * on a busy machine of its turn. */
static void await_starting_threads(void) {
  enum { NAPS = 10000, NAP_NANOSECONDS = 100 * 1000 };
  for (int i = 0; i < NAPS && agent_thread_starting(); i++) {
    struct timespec nap = {.tv_nsec = NAP_NANOSECONDS};
    nanosleep(&nap, NULL);
  }
}

static void leave_out(struct thread_ids *ids, const struct own_threads *own) {
  size_t kept = 0;
  for (size_t i = 0; i < ids->count; i++) {
    bool is_own = false;
    for (size_t k = 0; k < own->count && !is_own; k++) is_own = own->tids[k] == ids->tids[i];
    if (!is_own) ids->tids[kept++] = ids->tids[i];
  }
  ids->count = kept;
}

/* ---- /proc/self/task ---- */

struct directory_entry { /* as getdents64 writes it */
  uint64_t inode;
  int64_t offset;
  uint16_t size;
  uint8_t type;
  char name[];
};

static bool add_id(struct thread_ids *ids, uint32_t *capacity, int32_t tid) {
  if (!growing_array_reserve(&ids->tids, ids->count, capacity, sizeof *ids->tids)) return false;
  ids->tids[ids->count++] = tid;
  return true;
}

/* From /proc's numbers to those that the threads have here. */
static bool translate(struct thread_ids *ids) {
  struct task_number *numbers = agent_malloc((ids->count + 1) * sizeof *numbers);
  size_t kept = 0;
  for (size_t i = 0; numbers && i < ids->count; i++) {
    int32_t here = task_number_here(ids->tids[i]);
    if (here == 0) continue; /* it has ended */
    numbers[kept] = (struct task_number){here, ids->tids[i]};
    ids->tids[kept++] = here;
  }
  ids->count = kept;
  if (numbers) task_numbers_keep(numbers, kept);
  return kept > 0;
}

static bool read_directory(struct thread_ids *ids) {
  enum { DIRECTORY_BUFFER = 32 * 1024 };
  int fd = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  char *buffer = fd < 0 ? NULL : agent_malloc(DIRECTORY_BUFFER);
  uint32_t capacity = 0;
  long size = -1;
  while (buffer && (size = syscall(SYS_getdents64, fd, buffer, DIRECTORY_BUFFER)) > 0) {
    for (long at = 0; at < size;) {
      const struct directory_entry *entry = (const void *)(buffer + at);
      int32_t tid = (int32_t)strtol(entry->name, NULL, 10); /* 0 for "." and ".." */
      if (tid > 0 && !add_id(ids, &capacity, tid)) {
        size = -1;
        break;
      }
      at += entry->size;
    }
    if (size < 0) break;
  }
  agent_free(buffer);
  if (fd >= 0) close(fd);
  return size == 0 && (!proc_numbers_differ() || translate(ids));
}

/* Where /proc does not tell (proc_fault): the threads that were seen to be created, and the first.
 */
static bool read_registry(struct thread_ids *ids) {
  uint32_t capacity = 0;
  if (!add_id(ids, &capacity, getpid())) return false;
  for (uint32_t number = thread_registry_count(); number > 0; number--) {
    struct thread_view view;
    if (thread_registry_read(number, &view) && view.tid != getpid() &&
        !add_id(ids, &capacity, view.tid)) {
      thread_list_release(ids);
      return false;
    }
  }
  return true;
}

bool thread_list_read(struct thread_ids *out) {
  *out = (struct thread_ids){0};
  struct own_threads own = {0};
  add_own_threads(&own); /* before and after: one that ends meanwhile is known from before */
  if (!read_directory(out)) {
    thread_list_release(out);
    if (!read_registry(out)) return false;
  }
  await_starting_threads();
  add_own_threads(&own);
  leave_out(out, &own);
  return true;
}

void thread_list_release(struct thread_ids *ids) {
  agent_free(ids->tids);
  *ids = (struct thread_ids){0};
}

size_t thread_list_kernel_count(void) {
  struct stat directory; /* a link for each, and two */
  if (proc_numbers_differ() ||
      syscall(SYS_newfstatat, AT_FDCWD, "/proc/self/task", &directory, 0) != 0)
    return 0;
  return directory.st_nlink > 2 ? (size_t)directory.st_nlink - 2 : 0;
}

/* ---- signal masks ---- */

bool thread_blocks_signal(int32_t tid, int signal) {
  enum { STATUS_MAX = 4096 };
  char status[STATUS_MAX];
  int task = signal < 1 || signal > 64 ? -1 : task_open(tid);
  if (task < 0) return false;
  ssize_t size = task_file_read(task, "status", status, sizeof status);
  close(task);
  const char *at = size > 0 ? strstr(status, "\nSigBlk:") : NULL;
  return at && (strtoull(at + sizeof "\nSigBlk:" - 1, NULL, 16) >> (signal - 1) & 1);
}

uint64_t thread_cpu_nanoseconds(int32_t tid) {
  struct timespec now;
  if (clock_gettime(thread_cpu_clock(tid), &now) != 0) return 0;
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

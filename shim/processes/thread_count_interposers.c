/* A program that counts its threads in /proc finds its own only: where it has a single one, the
 * agent's leave, for a call that asks how many entries /proc/self/task has, or until what has been
 * opened there is closed. The program's call is made first, as ever, and a path is looked at when
 * the kernel has read it.
 *
 * These wrappers need nothing of the library's start. <fcntl.h> is left out: it declares open with
 * a variable number of arguments, of which the last is passed on here as it comes. */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "shim/base/agent_hooks.h"
#include "shim/base/confinement.h"
#include "shim/base/raw_syscall.h"
#include "shim/base/watched_descriptors.h"
#include "shim/next/interposed.h"
#include "shim/next/next_functions.h"
#include "thread_count_path.h"

#define RARELY __attribute__((noinline, cold))
enum { NOT_RELATIVE = -100 }; /* AT_FDCWD */

/* A directory of threads has two links more than threads. 0: it is none. */
static uint64_t threads_of(uint64_t links) { return links > 2 ? links - 2 : 0; }

/* ---- calls that tell the number by themselves ---- */

static RARELY bool leave_for_call(const char *path, uint64_t links) {
  if (thread_count_path_of(path) != COUNTS_BY_DIRECTORY) return false;
  int error = errno;
  bool leaves = agent_leave_for_call(threads_of(links));
  errno = error;
  return leaves;
}

static RARELY void come_back_after_call(void) {
  int error = errno;
  agent_come_back_after_call();
  errno = error;
}

#define STAT_CALL(name, parameters, arguments, relative, links)             \
  EXPORTED int name parameters {                                            \
    real_##name##_function next = NEXT_AT_FIRST_CALL(name);                 \
    int result = next arguments;                                            \
    if (UNLIKELY(result == 0 && thread_count_path_may_be(path, relative) && \
                 leave_for_call(path, links))) {                            \
      result = next arguments;                                              \
      come_back_after_call();                                               \
    }                                                                       \
    return result;                                                          \
  }

#define BY_PATH(name, type) \
  STAT_CALL(name, (const char *path, type *status), (path, status), false, status->st_nlink)
#define BY_DIRECTORY(name, type)                                              \
  STAT_CALL(name, (int directory, const char *path, type *status, int flags), \
            (directory, path, status, flags), directory != NOT_RELATIVE, status->st_nlink)
#define OLD_BY_PATH(name, type)                                                                  \
  STAT_CALL(name, (int version, const char *path, type *status), (version, path, status), false, \
            status->st_nlink)
#define OLD_BY_DIRECTORY(name, type)                                                       \
  STAT_CALL(name, (int version, int directory, const char *path, type *status, int flags), \
            (version, directory, path, status, flags), directory != NOT_RELATIVE,          \
            status->st_nlink)

BY_PATH(stat, struct stat)
BY_PATH(stat64, struct stat64)
BY_PATH(lstat, struct stat)
BY_PATH(lstat64, struct stat64)
BY_DIRECTORY(fstatat, struct stat)
BY_DIRECTORY(fstatat64, struct stat64)
OLD_BY_PATH(__xstat, struct stat)
OLD_BY_PATH(__xstat64, struct stat64)
OLD_BY_PATH(__lxstat, struct stat)
OLD_BY_PATH(__lxstat64, struct stat64)
OLD_BY_DIRECTORY(__fxstatat, struct stat)
OLD_BY_DIRECTORY(__fxstatat64, struct stat64)
STAT_CALL(statx, (int directory, const char *path, int flags, unsigned mask, struct statx *status),
          (directory, path, flags, mask, status), directory != NOT_RELATIVE, status->stx_nlink)

/* ---- what is opened: the number is told when it is read ---- */

/* Those that the kernel counts; 0: it does not tell. By number, for the path that has just led to
 * /proc leads there again. */
static uint64_t count_threads(int directory, bool relative) {
  struct stat status;
  const char *path = relative ? "self/task" : "/proc/self/task";
  long result = raw_syscall4(SYS_newfstatat, directory, (long)path, (long)&status, 0);
  return result == 0 ? threads_of(status.st_nlink) : 0;
}

static RARELY bool leave_while_open(int directory, const char *path) {
  if (thread_count_path_of(path) == COUNTS_NO_THREADS || confinement_forbids_calls()) return false;
  int error = errno;
  bool leaves = agent_leave_while_open(count_threads(directory, *path != '/'));
  errno = error;
  return leaves;
}

static void come_back_if_due(void) {
  int error = errno;
  if (agent_start_is_due()) agent_start_late();
  errno = error;
}

static RARELY void opened(int directory, const char *path, int descriptor) {
  if (watched_descriptors_any()) come_back_if_due();
  if (leave_while_open(directory, path)) watched_descriptors_add(descriptor);
}

static inline bool may_be_watched(const char *path, bool relative) {
  return UNLIKELY(thread_count_path_may_be(path, relative) || watched_descriptors_any());
}

#define OPEN_CALL(name, parameters, arguments, directory)                     \
  EXPORTED int name parameters {                                              \
    int descriptor = NEXT_AT_FIRST_CALL(name) arguments;                      \
    if (descriptor >= 0 && may_be_watched(path, (directory) != NOT_RELATIVE)) \
      opened(directory, path, descriptor);                                    \
    return descriptor;                                                        \
  }

OPEN_CALL(open, (const char *path, int flags, mode_t mode), (path, flags, mode), NOT_RELATIVE)
OPEN_CALL(open64, (const char *path, int flags, mode_t mode), (path, flags, mode), NOT_RELATIVE)
OPEN_CALL(openat, (int directory, const char *path, int flags, mode_t mode),
          (directory, path, flags, mode), directory)
OPEN_CALL(openat64, (int directory, const char *path, int flags, mode_t mode),
          (directory, path, flags, mode), directory)
OPEN_CALL(__open_2, (const char *path, int flags), (path, flags), NOT_RELATIVE)
OPEN_CALL(__open64_2, (const char *path, int flags), (path, flags), NOT_RELATIVE)
OPEN_CALL(__openat_2, (int directory, const char *path, int flags), (directory, path, flags),
          directory)
OPEN_CALL(__openat64_2, (int directory, const char *path, int flags), (directory, path, flags),
          directory)

/* NULL, or next_function_find_now has found nothing: -1. */
static bool is_none(const void *result) { return (uintptr_t)result + 1 <= 1; }

#define STREAM_CALL(type, name, parameters, arguments, number_of)                   \
  EXPORTED type *name parameters {                                                  \
    type *stream = NEXT_AT_FIRST_CALL(name) arguments;                              \
    if (UNLIKELY(is_none(stream))) return NULL;                                     \
    if (may_be_watched(path, false)) opened(NOT_RELATIVE, path, number_of(stream)); \
    return stream;                                                                  \
  }

STREAM_CALL(FILE, fopen, (const char *path, const char *mode), (path, mode), fileno)
STREAM_CALL(FILE, fopen64, (const char *path, const char *mode), (path, mode), fileno)
STREAM_CALL(DIR, opendir, (const char *path), (path), dirfd)

/* ---- what is opened and closed by one call ---- */

enum { SCANNED = -2 }; /* stands for its descriptor */

static RARELY bool leave_for_scan(const char *path) {
  if (!leave_while_open(NOT_RELATIVE, path)) return false;
  watched_descriptors_add(SCANNED);
  return true;
}

static RARELY void came_to_an_end(bool is_last) {
  int error = errno;
  if (is_last) agent_come_back();
  else come_back_if_due();
  errno = error;
}

#define SCAN_CALL(name, type)                                                                \
  EXPORTED int name(const char *path, struct type ***list, type##_filter filter,             \
                    type##_order order) {                                                    \
    bool has_left = UNLIKELY(thread_count_path_may_be(path, false)) && leave_for_scan(path); \
    int count = NEXT_AT_FIRST_CALL(name)(path, list, filter, order);                         \
    if (has_left) came_to_an_end(watched_descriptors_remove(SCANNED));                       \
    return count;                                                                            \
  }

SCAN_CALL(scandir, dirent)
SCAN_CALL(scandir64, dirent64)

/* ---- what is closed ---- */

/* Whether it was the last one, and this process's: a child of vfork shares its parent's memory. */
static bool is_last(int descriptor) {
  return !confinement_forbids_calls() &&
         agent_is_process((int32_t)raw_syscall4(SYS_getpid, 0, 0, 0, 0)) &&
         watched_descriptors_remove(descriptor);
}

#define CLOSE_CALL(name, parameter, number_of)                              \
  static RARELY int watched_##name(parameter) {                             \
    int error = errno;                                                      \
    bool last = is_last(number_of);                                         \
    errno = error;                                                          \
    int result = NEXT_AT_FIRST_CALL(name)(closed);                          \
    came_to_an_end(last);                                                   \
    return result;                                                          \
  }                                                                         \
  EXPORTED int name(parameter) {                                            \
    if (UNLIKELY(watched_descriptors_any())) return watched_##name(closed); \
    return NEXT_AT_FIRST_CALL(name)(closed);                                \
  }

CLOSE_CALL(close, int closed, closed)
CLOSE_CALL(fclose, FILE *closed, fileno(closed))
CLOSE_CALL(closedir, DIR *closed, closed ? dirfd(closed) : -1)

#include "dump_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/runtime/trusted_path.h"

/* strerror may translate, and then allocates. */
static const char *error_text(int error) {
  switch (error) {
    case ENOENT: return "cannot be written: no such directory";
    case ENOTDIR: return "cannot be written: a part of the path is no directory";
    case EACCES:
    case EPERM: return "cannot be written: permission denied";
    case EROFS: return "cannot be written: the file system is read-only";
    case ENOSPC: return "cannot be written: no space is left on the file system";
    case EDQUOT: return "cannot be written: the disk quota is used up";
    case EFBIG: return "cannot be written: larger than the program's limit (RLIMIT_FSIZE)";
    case EIO: return "cannot be written: an error of the disk";
    case EMFILE:
    case ENFILE: return "cannot be written: out of descriptors";
    case ENAMETOOLONG: return "cannot be written: its name is too long";
    case EISDIR: return "is a directory";
    default: return NULL;
  }
}

static bool fail(char error[DUMP_ERROR_MAX], const char *text, int number) {
  const char *known = *text ? text : error_text(number);
  if (known) snprintf(error, DUMP_ERROR_MAX, "%s", known);
  else snprintf(error, DUMP_ERROR_MAX, "cannot be written (error %d)", number);
  return false;
}

static bool write_all(int file, const char *bytes, size_t size) {
  while (size > 0) {
    ssize_t written = write(file, bytes, size);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    bytes += written;
    size -= (size_t)written;
  }
  return true;
}

/* A file system that knows no such call is as good as its writes are. */
static bool sync_file(int file) {
  return fsync(file) == 0 || errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP;
}

/* As every profile is. */
static bool is_compressed(int directory, const char *name) {
  static const unsigned char magic[] = {0x1f, 0x8b}; /* RFC 1952 */
  unsigned char begin[sizeof magic];
  int file = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (file < 0) return false;
  bool is =
      read(file, begin, sizeof begin) == sizeof begin && memcmp(begin, magic, sizeof magic) == 0;
  close(file);
  return is;
}

/* "": it may be replaced, or there is none. */
static const char *why_not_to_be_replaced(int directory, const char *name) {
  struct stat status;
  if (fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) != 0) return "";
  if (S_ISLNK(status.st_mode)) return "is a link";
  if (!S_ISREG(status.st_mode)) return "is there, and no regular file";
  if (status.st_uid != geteuid() && status.st_uid != 0) return "is there, and another user's";
  return status.st_size == 0 || is_compressed(directory, name) ? "" : "is there, and no profile";
}

/* Makes the rename last. */
static void sync_directory(int directory) {
  int file = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (file < 0) return;
  fsync(file);
  close(file);
}

/* Nobody else's: the process's number and the time to the nanosecond. */
static void name_beside(char *name, size_t size) {
  struct timespec now = {0};
  clock_gettime(CLOCK_REALTIME, &now);
  snprintf(name, size, ".pprofagent-%d-%lld%09ld.tmp", (int)getpid(), (long long)now.tv_sec,
           now.tv_nsec);
}

static bool write_in(int directory, const char *name, const void *bytes, size_t size, bool durable,
                     char error[DUMP_ERROR_MAX]) {
  char beside[64];
  name_beside(beside, sizeof beside);
  const char *why_not = why_not_to_be_replaced(directory, name);
  if (*why_not) return fail(error, why_not, 0);
  int file = openat(directory, beside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (file < 0) return fail(error, "", errno);
  bool done = write_all(file, bytes, size) && (!durable || sync_file(file));
  int number = errno;
  if (close(file) != 0 && done) done = false, number = errno; /* a quota of NFS's */
  if (done && renameat(directory, beside, directory, name) != 0) done = false, number = errno;
  if (!done) unlinkat(directory, beside, 0);
  else if (durable) sync_directory(directory);
  return done || fail(error, "", number);
}

bool dump_file_write(const char *path, const void *bytes, size_t size, bool durable,
                     char error[DUMP_ERROR_MAX]) {
  struct trusted_path_fault fault;
  const char *name;
  int directory = trusted_path_directory(path, &name, &fault);
  if (directory < 0) return fail(error, fault.text, errno);
  bool done = write_in(directory, name, bytes, size, durable, error);
  close(directory);
  return done;
}

void dump_file_remove(const char *path) {
  struct trusted_path_fault fault;
  const char *name;
  int directory = trusted_path_directory(path, &name, &fault);
  if (directory < 0) return;
  struct stat status;
  if (fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(status.st_mode))
    unlinkat(directory, name, 0);
  close(directory);
}

#include "trusted_path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "allowed_calls.h"
#include "unmapped_user.h"

enum {
  PATH_SIZE = 1024 /* hosts have small stacks */,
  LINKS_MAX = 40,
  PEOPLE_FROM = 1000,
  USERS_GROUP = 100
};

static const uid_t NOBODY_ELSE = (uid_t)-1;

struct walk {
  struct trusted_path_fault *fault;
  uid_t user, unmapped; /* unmapped_user.h */
  int directory; /* O_PATH; -1: the walk has failed */
  bool shared; /* others may put entries into it, though not touch ours */
  unsigned links;
  char *rest; /* what is left of path */
  char path[PATH_SIZE];
};

/* ---- whose it is ---- */

/* Whose files are believed beside root's: nobody's while a program has taken on a user for a moment
 * (seteuid). Not by libc: fakeroot would answer. A filter that kills for the call: as at the start.
 */
static uid_t this_user(void) {
  uid_t real, effective, saved;
  if (!allowed_calls_of_serving()) return (uid_t)getauxval(AT_EUID);
  if (allowed_calls_lack(CALLS_CREDENTIALS)) return (uid_t)syscall(SYS_geteuid);
  if (syscall(SYS_getresuid, &real, &effective, &saved) != 0) return 0;
  return real == effective && saved == effective ? effective : 0;
}

/* A number that may mean anybody is believed where only trusted users put things. */
static bool is_trusted_user(const struct walk *walk, uid_t user) {
  if (user == walk->unmapped) return !walk->shared;
  return user == 0 || user == walk->user;
}

static bool is_group_of_system(gid_t group) { return group < PEOPLE_FROM && group != USERS_GROUP; }

enum writers { WRITERS_OWN, WRITERS_OF_SYSTEM, WRITERS_ANY };

/* Who but its owner may write it: nobody or his private group, a group of the system's, others. */
static enum writers other_writers(const struct stat *status) {
  if (status->st_mode & S_IWOTH) return WRITERS_ANY;
  if (!(status->st_mode & S_IWGRP) || status->st_gid == 0 || status->st_gid == status->st_uid)
    return WRITERS_OWN;
  return status->st_uid == 0 && is_group_of_system(status->st_gid) ? WRITERS_OF_SYSTEM
                                                                   : WRITERS_ANY;
}

/* ---- the walk ---- */

__attribute__((format(printf, 2, 3))) static bool fail(struct walk *walk, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(walk->fault->text, sizeof walk->fault->text, format, arguments);
  va_end(arguments);
  errno = EPERM;
  return false;
}

static void give_up(struct walk *walk) {
  int error = errno;
  if (walk->directory >= 0) close(walk->directory);
  walk->directory = -1;
  errno = error;
}

/* Goes into the directory, which this takes. */
static bool enter(struct walk *walk, int directory, const struct stat *status, const char *name) {
  bool trusted = is_trusted_user(walk, status->st_uid);
  enum writers writers = other_writers(status);
  if (walk->directory >= 0) close(walk->directory);
  walk->directory = directory;
  if (!trusted)
    return fail(walk, "is not safe: the directory \"%.60s\" on its way belongs to user %u", name,
                (unsigned)status->st_uid);
  if (writers == WRITERS_ANY && !(status->st_mode & S_ISVTX))
    return fail(walk, "is not safe: others may write the directory \"%.60s\" on its way", name);
  walk->shared = writers != WRITERS_OWN;
  return true;
}

static bool enter_root(struct walk *walk) {
  struct stat status;
  int directory = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
  walk->shared = false;
  if (directory >= 0 && fstat(directory, &status) == 0) return enter(walk, directory, &status, "/");
  if (directory >= 0) close(directory);
  return false;
}

/* What the link says stands before the rest of the path then. */
static bool follow(struct walk *walk, int link, const struct stat *status, const char *name) {
  char target[PATH_SIZE];
  if (!is_trusted_user(walk, status->st_uid) || status->st_nlink > 1)
    return fail(walk, "is not safe: the link \"%.60s\" on its way belongs to user %u", name,
                (unsigned)status->st_uid);
  if (++walk->links > LINKS_MAX || !allowed_calls_of_paths()) {
    errno = ELOOP;
    return false;
  }
  ssize_t length = readlinkat(link, "", target, sizeof target);
  size_t rest = strlen(walk->rest);
  if (length <= 0 || (size_t)length + rest + 2 > sizeof target) {
    if (length >= 0) errno = ENAMETOOLONG;
    return false;
  }
  target[length] = '/';
  memcpy(target + length + 1, walk->rest, rest + 1);
  if (rest == 0) target[length] = '\0';
  memcpy(walk->path, target, (size_t)length + rest + 2);
  walk->rest = walk->path;
  return target[0] != '/' || enter_root(walk);
}

/* One part that is not the last, or a link. */
static bool step(struct walk *walk, const char *name) {
  struct stat status;
  int next = openat(walk->directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (next < 0 || fstat(next, &status) != 0) {
    if (next >= 0) close(next);
    return false;
  }
  if (S_ISDIR(status.st_mode)) return enter(walk, next, &status, name);
  bool followed = false;
  if (S_ISLNK(status.st_mode)) followed = follow(walk, next, &status, name);
  else errno = ENOTDIR;
  int error = errno;
  close(next);
  errno = error;
  return followed;
}

static bool is_link(const struct walk *walk, const char *name) {
  struct stat status;
  int error = errno;
  bool found =
      fstatat(walk->directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(status.st_mode);
  errno = error;
  return found;
}

/* The last part's name, in walk->path; NULL: walk->fault, and walk->directory is -1. */
static const char *walk_path(struct walk *walk, const char *path, bool follow_last,
                             struct trusted_path_fault *fault) {
  *walk = (struct walk){.fault = fault,
                        .user = this_user(),
                        .unmapped = unmapped_user(),
                        .directory = -1,
                        .rest = walk->path};
  fault->text[0] = '\0';
  size_t length = strlen(path);
  bool fits = length < sizeof walk->path;
  if (fits) memcpy(walk->path, path, length + 1);
  if (!fits) errno = ENAMETOOLONG;
  if (path[0] != '/') fail(walk, "is not absolute");
  bool works = fits && path[0] == '/' && enter_root(walk);
  while (works) {
    char name[256];
    walk->rest += strspn(walk->rest, "/");
    size_t part = strcspn(walk->rest, "/");
    if (part == 0 || part >= sizeof name) {
      errno = part == 0 ? EISDIR : ENAMETOOLONG;
      break;
    }
    memcpy(name, walk->rest, part);
    name[part] = '\0';
    const char *last = walk->rest;
    walk->rest += part;
    if (*walk->rest == '\0' && !(follow_last && is_link(walk, name))) return last;
    works = step(walk, name);
  }
  give_up(walk);
  return NULL;
}

/* ---- what is done with it ---- */

/* Takes the descriptor; -1: fault. written: by the agent. */
static int check_file(struct walk *walk, int file, bool written) {
  struct stat status;
  bool own = false;
  if (fstat(file, &status) != 0) {
    close(file);
    return -1;
  }
  if (!S_ISREG(status.st_mode)) fail(walk, "is not a regular file");
  else if (!is_trusted_user(walk, status.st_uid))
    fail(walk, "is not safe: it belongs to user %u", (unsigned)status.st_uid);
  else if (other_writers(&status) == WRITERS_ANY) fail(walk, "is not safe: others may write it");
  else if ((written || walk->shared) && status.st_nlink != 1)
    fail(walk, "is not safe: it has a second name (a hard link)");
  else own = true;
  if (own) return file;
  close(file);
  errno = EPERM;
  return -1;
}

static int open_last(const char *path, int flags, bool written, struct trusted_path_fault *fault) {
  struct walk walk;
  const char *name = walk_path(&walk, path, !written, fault);
  if (!name) return -1;
  int file =
      openat(walk.directory, name, flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
  if (file < 0 && is_link(&walk, name)) fail(&walk, "is a link");
  if (file >= 0) file = check_file(&walk, file, written);
  give_up(&walk);
  return file;
}

int trusted_path_open(const char *path, struct trusted_path_fault *fault) {
  return open_last(path, O_RDONLY, false, fault);
}

int trusted_path_append(const char *path, struct trusted_path_fault *fault) {
  return open_last(path, O_WRONLY | O_APPEND | O_CREAT, true, fault);
}

int trusted_path_directory(const char *path, const char **name, struct trusted_path_fault *fault) {
  struct walk walk;
  const char *last = walk_path(&walk, path, false, fault);
  if (last) *name = path + strlen(path) - strlen(last); /* the same, behind any links */
  return walk.directory;
}

bool trusted_path_remove_socket(const char *path, dev_t device, ino_t inode) {
  struct trusted_path_fault fault;
  struct walk walk;
  struct stat status;
  const char *name = allowed_calls_of_paths() ? walk_path(&walk, path, false, &fault) : NULL;
  if (!name) return false;
  bool removed = fstatat(walk.directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
                 S_ISSOCK(status.st_mode) && is_trusted_user(&walk, status.st_uid) &&
                 (inode == 0 || (status.st_ino == inode && status.st_dev == device)) &&
                 unlinkat(walk.directory, name, 0) == 0;
  give_up(&walk);
  return removed;
}

/* ---- files that their contents tell ---- */

static _Atomic unsigned long refused; /* written by any thread, for health */

unsigned long trusted_path_refused(void) {
  return atomic_load_explicit(&refused, memory_order_relaxed);
}

static bool refuse(void) {
  atomic_fetch_add_explicit(&refused, 1, memory_order_relaxed);
  return false;
}

/* Whether its contents are root's, this user's or also's. *unmapped: they may be anybody's. */
static bool is_of(const struct stat *file, uid_t also, bool *unmapped) {
  *unmapped = false;
  if (!S_ISREG(file->st_mode) || file->st_mode & S_IWOTH) return false;
  if (file->st_uid == 0) return true;
  *unmapped = file->st_uid == unmapped_user();
  return !*unmapped && (file->st_uid == this_user() || file->st_uid == also);
}

bool trusted_path_is_own(const struct stat *file) {
  bool unmapped;
  return (is_of(file, NOBODY_ELSE, &unmapped) && file->st_nlink == 1) || refuse();
}

int trusted_path_open_contents(const char *path, uid_t also) {
  struct stat status;
  struct trusted_path_fault fault;
  bool unmapped;
  int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (file < 0) return -1;
  bool regular = fstat(file, &status) == 0 && S_ISREG(status.st_mode);
  if (regular && is_of(&status, also, &unmapped)) return file;
  close(file);
  if (!regular) return -1;
  file = unmapped ? trusted_path_open(path, &fault) : -1; /* where only trusted users put files */
  if (file < 0) refuse();
  return file;
}

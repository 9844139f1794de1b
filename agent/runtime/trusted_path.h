/* Files that the agent opens, makes or removes for itself: only where no other user can have put
 * something in their place. A path is walked from "/" on, part by part and without following a
 * link unseen. Each directory and link on the way belongs to root or to the user that this thread
 * acts as, and no directory may be written by others, unless it is sticky (/tmp): what lies in such
 * a one has to belong to root or that user as well, under one name only. (A directory of root's
 * that a group of the system's may write, as Ubuntu's /var/log, counts as sticky; one that its
 * owner's private group may write as his.)
 * Context: any thread; locks: none; two descriptors at a time. */
#ifndef AGENT_TRUSTED_PATH_H
#define AGENT_TRUSTED_PATH_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

enum { TRUSTED_PATH_FAULT_MAX = 160 };

/* Says what is wrong, to follow the path in a sentence: "is a link". "": errno tells. */
struct trusted_path_fault {
  char text[TRUSTED_PATH_FAULT_MAX];
};

/* A regular file to be read; links are followed that root or this user has made. -1: fault. */
int trusted_path_open(const char *path, struct trusted_path_fault *fault);

/* A regular file to be appended to, made if there is none (mode 0600). Never a link, never a file
 * with a second name or that others may write. -1: fault. */
int trusted_path_append(const char *path, struct trusted_path_fault *fault);

/* The directory that path lies in, for the ...at() calls, and path's last part. -1: fault. */
int trusted_path_directory(const char *path, const char **name, struct trusted_path_fault *fault);

/* Removes the socket at path if it is root's or this user's, and still the one that is meant
 * (inode 0: any). Others cannot have it name another file meanwhile. */
bool trusted_path_remove_socket(const char *path, dev_t device, ino_t inode);

/* A regular file whose contents others cannot have written, wherever it lies: it belongs to root,
 * this user or also ((uid_t)-1: nobody else), and not everybody may write it. For what is told by
 * its contents (a build-id). Never waits. -1: there is none, or it is another's. */
int trusted_path_open_contents(const char *path, uid_t also);

/* The same of a file that is open already; no second name, for what only its name tells. */
bool trusted_path_is_own(const struct stat *file);

/* How many files trusted_path_open_contents and trusted_path_is_own have refused. */
unsigned long trusted_path_refused(void);

#endif

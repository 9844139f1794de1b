#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent_inherited.h"
#include "agent_thread.h"
#include "allowance.h"
#include "foreign_text.h"
#include "shared_text.h"
#include "trusted_path.h"
#include "unmapped_user.h"

static const int64_t LINE_NANOSECONDS = 1000000000; /* a line earns its place back in a second */

static _Atomic int
    log_number; /* the log's descriptor + 1, 0: none; written by the admin thread only */
static struct shared_text fault; /* written by the admin thread */

/* Written by any agent thread. */
static _Atomic int64_t all_earned_ns; /* when all places will be free again, if no line comes */
static _Atomic uint64_t left_out, untold; /* untold: of those, since the last line */

/* The file as it was accepted, also by who has forked this process. Written by the admin thread. */
static dev_t accepted_device AGENT_INHERITED;
static ino_t accepted_inode AGENT_INHERITED;

/* In a user namespace that the program has made, nobody can tell any more whose file it is. */
static int open_again(const char *path) {
  struct stat status;
  if (!accepted_inode || unmapped_user() == (uid_t)-1) return -1;
  int file = open(path, O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (file >= 0 && fstat(file, &status) == 0 && S_ISREG(status.st_mode) &&
      status.st_ino == accepted_inode && status.st_dev == accepted_device)
    return file;
  if (file >= 0) close(file);
  errno = EPERM;
  return -1;
}

static int open_destination(const char *destination, struct trusted_path_fault *why) {
  if (strcmp(destination, "stderr") == 0) return STDERR_FILENO;
  int file = *destination ? trusted_path_append(destination, why) : -1;
  return file < 0 && *why->text ? open_again(destination) : file;
}

static const char *open_error(int error) {
  switch (error) { /* strerror may translate, and then allocates */
    case ENOENT: return "cannot be opened: no such directory";
    case ENOTDIR: return "cannot be opened: a part of the path is no directory";
    case EACCES: return "cannot be opened: permission denied";
    case EROFS: return "cannot be opened: the file system is read-only";
    case EMFILE:
    case ENFILE: return "cannot be opened: out of descriptors";
    case EISDIR: return "is a directory";
    default: return "cannot be opened";
  }
}

void log_open(const char *destination) {
  struct trusted_path_fault why = {""};
  char text[SHARED_TEXT_MAX] = "";
  int descriptor = open_destination(destination, &why);
  if (*destination && descriptor < 0)
    snprintf(text, sizeof text, "PPROFAGENT_LOG: %.80s %s", destination,
             *why.text ? why.text : open_error(errno));
  struct stat status;
  if (descriptor > STDERR_FILENO && fstat(descriptor, &status) == 0) {
    accepted_device = status.st_dev;
    accepted_inode = status.st_ino;
  }
  shared_text_write(&fault, text);
  atomic_store_explicit(&log_number, descriptor + 1, memory_order_release);
}

void log_close(void) {
  int descriptor = atomic_exchange_explicit(&log_number, 0, memory_order_acq_rel) - 1;
  if (descriptor > STDERR_FILENO) close(descriptor);
}

const char *log_fault(char *text) { return *shared_text_read(&fault, text) ? text : NULL; }

uint64_t log_lines_left_out(void) { return atomic_load_explicit(&left_out, memory_order_relaxed); }

/* Takes one of LOG_LINES_AT_ONCE places. */
static bool takes_place(void) {
  return allowance_take(&all_earned_ns, agent_monotonic_nanoseconds(), LINE_NANOSECONDS,
                        LOG_LINES_AT_ONCE);
}

static void write_line(int descriptor, const char *format, va_list arguments) {
  char line[1024];
  int prefix = snprintf(line, sizeof(line), "pprofagent[%d]: ", (int)getpid());
  int length = vsnprintf(line + prefix, sizeof(line) - (size_t)prefix - 1, format, arguments);
  if (length < 0) return;
  size_t total = (size_t)prefix + (size_t)length;
  if (total > sizeof(line) - 2) total = sizeof(line) - 2;
  line[total] = 0;
  foreign_text_clean(line + prefix); /* one line an event, whatever a client sent */
  total = strlen(line);
  line[total++] = '\n';
  ssize_t ignored = write(descriptor, line, total);
  (void)ignored;
}

__attribute__((format(printf, 2, 3))) static void write_words(int descriptor, const char *format,
                                                              ...) {
  va_list arguments;
  va_start(arguments, format);
  write_line(descriptor, format, arguments);
  va_end(arguments);
}

void log_event(const char *format, ...) {
  int descriptor = atomic_load_explicit(&log_number, memory_order_acquire) - 1;
  if (descriptor < 0) return;
  if (!takes_place()) {
    atomic_fetch_add_explicit(&left_out, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&untold, 1, memory_order_relaxed);
    return;
  }
  uint64_t lines = atomic_exchange_explicit(&untold, 0, memory_order_relaxed);
  if (lines > 0) write_words(descriptor, "%llu lines left out here", (unsigned long long)lines);
  va_list arguments;
  va_start(arguments, format);
  write_line(descriptor, format, arguments);
  va_end(arguments);
}

void log_words_of(const char *format) {
  char words[256];
  size_t used = 0;
  for (const char *at = format; *at && used + 4 < sizeof words;) {
    if (*at != '%') {
      words[used++] = *at++;
      continue;
    }
    at += 1 + strcspn(at + 1, "diouxXcsfgpn%"); /* to the conversion's letter */
    if (*at) at++;
    memcpy(words + used, "...", 3);
    used += 3;
  }
  words[used] = 0;
  log_event("http: %s", words);
}

/* Takes a signal that the write below has raised for this thread. */
static void take_signal(int number, const sigset_t *before) {
  sigset_t one;
  struct timespec no_time = {0};
  sigemptyset(&one);
  sigaddset(&one, number);
  if (sigismember(before, number) == 0) sigtimedwait(&one, NULL, &no_time);
}

void log_single_event(const char *destination, const char *format, ...) {
  struct trusted_path_fault why = {""};
  int error = errno, descriptor = open_destination(destination, &why);
  struct pollfd room = {.fd = descriptor, .events = POLLOUT};
  if (descriptor >= 0 && poll(&room, 1, 0) == 1 &&
      room.revents == POLLOUT) { /* a full pipe must not hold the host up */
    sigset_t all, mask, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &mask);
    sigpending(&before);
    va_list arguments;
    va_start(arguments, format);
    write_line(descriptor, format, arguments);
    va_end(arguments);
    take_signal(SIGPIPE, &before);
    take_signal(SIGXFSZ, &before);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
  }
  if (descriptor >= 0 && strcmp(destination, "stderr") != 0) close(descriptor);
  errno = error;
}

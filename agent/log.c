#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "foreign_text.h"

static _Atomic int log_number; /* the log's descriptor + 1, 0: none; written by the admin thread only */

static int open_destination(const char *destination) {
  if (strcmp(destination, "stderr") == 0) return STDERR_FILENO;
  return *destination ? open(destination, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600) : -1;
}

void log_open(const char *destination) {
  atomic_store_explicit(&log_number, open_destination(destination) + 1, memory_order_release);
}

void log_close(void) {
  int descriptor = atomic_exchange_explicit(&log_number, 0, memory_order_acq_rel) - 1;
  if (descriptor > STDERR_FILENO) close(descriptor);
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

void log_event(const char *format, ...) {
  int descriptor = atomic_load_explicit(&log_number, memory_order_acquire) - 1;
  if (descriptor < 0) return;
  va_list arguments;
  va_start(arguments, format);
  write_line(descriptor, format, arguments);
  va_end(arguments);
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
  int error = errno, descriptor = open_destination(destination);
  struct pollfd room = {.fd = descriptor, .events = POLLOUT};
  if (descriptor >= 0 && poll(&room, 1, 0) == 1 && room.revents == POLLOUT) { /* a full pipe must not hold the host up */
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

#include "log.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static _Atomic int log_descriptor = -1; /* written by the admin thread only */

void log_open(const char *destination) {
  int descriptor = -1;
  if (strcmp(destination, "stderr") == 0) descriptor = STDERR_FILENO;
  else if (*destination) descriptor = open(destination, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
  atomic_store_explicit(&log_descriptor, descriptor, memory_order_release);
}

void log_close(void) {
  int descriptor = atomic_exchange_explicit(&log_descriptor, -1, memory_order_acq_rel);
  if (descriptor > STDERR_FILENO) close(descriptor);
}

void log_event(const char *format, ...) {
  int descriptor = atomic_load_explicit(&log_descriptor, memory_order_acquire);
  if (descriptor < 0) return;
  char line[1024];
  int prefix = snprintf(line, sizeof(line), "pprofagent[%d]: ", (int)getpid());
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(line + prefix, sizeof(line) - (size_t)prefix - 1, format, arguments);
  va_end(arguments);
  if (length < 0) return;
  size_t total = (size_t)prefix + (size_t)length;
  if (total > sizeof(line) - 2) total = sizeof(line) - 2;
  for (size_t i = (size_t)prefix; i < total; i++) {
    if ((unsigned char)line[i] < ' ') line[i] = '?'; /* one line an event, whatever a client sent */
  }
  line[total++] = '\n';
  ssize_t ignored = write(descriptor, line, total);
  (void)ignored;
}

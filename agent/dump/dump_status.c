#include "dump_status.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

#include "agent/runtime/foreign_text.h"
#include "agent/runtime/log.h"

/* Relaxed: each is a number by itself. */
static _Atomic uint64_t written, failed;
static struct shared_text last_file, last_error;

uint64_t dump_status_written(void) { return atomic_load_explicit(&written, memory_order_relaxed); }
uint64_t dump_status_failed(void) { return atomic_load_explicit(&failed, memory_order_relaxed); }

const char *dump_status_last_file(char out[SHARED_TEXT_MAX]) {
  return shared_text_read(&last_file, out);
}

const char *dump_status_last_error(char out[SHARED_TEXT_MAX]) {
  return shared_text_read(&last_error, out);
}

void dump_status_wrote(const char *path) {
  atomic_fetch_add_explicit(&written, 1, memory_order_relaxed);
  shared_text_write(&last_file, path);
}

void dump_status_failed_for(const char *format, ...) {
  char text[SHARED_TEXT_MAX];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  foreign_text_clean(text);
  atomic_fetch_add_explicit(&failed, 1, memory_order_relaxed);
  shared_text_write(&last_error, text);
  log_event("a profile is not written: %s", text);
}

#include "blocked_thread.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "foreign_text.h"
#include "task_files.h"

bool blocked_thread_open(struct blocked_thread *thread, int32_t tid) {
  *thread = (struct blocked_thread){.runs_file = -1, .number = -1, .task = task_open(tid)};
  return thread->task >= 0;
}

void blocked_thread_close(struct blocked_thread *thread) {
  if (thread->runs_file >= 0) close(thread->runs_file);
  if (thread->task >= 0) close(thread->task);
  thread->runs_file = thread->task = -1;
}

/* ---- whether it ran ---- */

static uint64_t number_after(const char *text, const char *name) {
  const char *at = strstr(text, name);
  return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

/* schedstat's third number; of a kernel without it (0 for ever), status' two. */
static bool read_runs(struct blocked_thread *thread, uint64_t *runs) {
  enum { STATUS_MAX = 4096 };
  char text[STATUS_MAX];
  if (thread->runs_file < 0 && (thread->runs_file = task_file_open(thread->task, "schedstat")) < 0 &&
      (thread->runs_file = task_file_open(thread->task, "status")) < 0)
    return false;
  if (task_file_read_again(thread->runs_file, text, sizeof text) <= 0) return false;
  if (text[0] >= '0' && text[0] <= '9') {
    char *at = text;
    strtoull(at, &at, 10);
    strtoull(at, &at, 10);
    *runs = strtoull(at, NULL, 10);
    if (*runs) return true;
    int status = task_file_open(thread->task, "status");
    if (status < 0) return false;
    close(thread->runs_file);
    thread->runs_file = status;
    if (task_file_read_again(status, text, sizeof text) <= 0) return false;
  }
  *runs = number_after(text, "\nvoluntary_ctxt_switches:") + number_after(text, "\nnonvoluntary_ctxt_switches:");
  return true;
}

bool blocked_thread_still(struct blocked_thread *thread) {
  uint64_t runs;
  return read_runs(thread, &runs) && runs == thread->runs;
}

/* ---- the system call ---- */

/* "running", or number, six arguments, sp and pc; or "-1 sp pc". */
static enum thread_presence parse_call(struct blocked_thread *thread, const char *text) {
  if (strncmp(text, "running", sizeof "running" - 1) == 0) return THREAD_RUNNING;
  char *at;
  thread->number = (int32_t)strtol(text, &at, 10);
  for (int i = 0; i < 6; i++) thread->arguments[i] = thread->number >= 0 ? strtoull(at, &at, 0) : 0;
  thread->sp = strtoull(at, &at, 0);
  thread->pc = strtoull(at, &at, 0);
  return thread->pc && thread->sp ? THREAD_BLOCKED : THREAD_ENDED;
}

enum thread_presence blocked_thread_look(struct blocked_thread *thread) {
  enum { CALL_MAX = 256 };
  char text[CALL_MAX];
  if (!read_runs(thread, &thread->runs)) return THREAD_ENDED;
  if (task_file_read(thread->task, "syscall", text, sizeof text) > 0) return parse_call(thread, text);
  if (errno == ESRCH) return THREAD_ENDED;
  thread->hidden_because = errno == ENOENT ? "it may be blocked: this kernel has no /proc/PID/syscall, which tells where"
                                           : "it may be blocked: /proc/PID/syscall, which tells where, may not be read (a process that "
                                             "has changed its user owns none of its files there)";
  return THREAD_HIDDEN;
}

bool blocked_thread_is_stopped(const struct blocked_thread *thread) {
  enum { STATUS_MAX = 4096 };
  char text[STATUS_MAX];
  if (task_file_read(thread->task, "status", text, sizeof text) <= 0) return false;
  const char *state = strstr(text, "\nState:\t");
  return state && (state[sizeof "\nState:\t" - 1] == 'T' || state[sizeof "\nState:\t" - 1] == 't');
}

void blocked_thread_name(const struct blocked_thread *thread, char *name, size_t size) {
  enum { COMM_MAX = 64 };
  char text[COMM_MAX];
  ssize_t got = task_file_read(thread->task, "comm", text, sizeof text);
  while (got > 0 && text[got - 1] == '\n') got--;
  size_t length = got <= 0 ? 0 : (size_t)got < size ? (size_t)got : size - 1;
  memcpy(name, text, length);
  name[length] = 0;
  foreign_text_clean(name);
}

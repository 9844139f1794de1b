#include "blocked_thread.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/runtime/foreign_text.h"
#include "agent/runtime/process_info.h"
#include "agent/runtime/task_files.h"

void blocked_thread_open(struct blocked_thread *thread, int32_t tid) {
  *thread =
      (struct blocked_thread){.tid = tid, .runs_file = -1, .number = -1, .task = task_open(tid)};
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
  if (thread->runs_file < 0 &&
      (thread->runs_file = task_file_open(thread->task, "schedstat")) < 0 &&
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
  *runs = number_after(text, "\nvoluntary_ctxt_switches:") +
          number_after(text, "\nnonvoluntary_ctxt_switches:");
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

/* The letter of proc(5); 0: not known. */
static char state_letter(const struct blocked_thread *thread) {
  enum { STATUS_MAX = 4096 };
  static const char name[] = "\nState:\t";
  char text[STATUS_MAX];
  if (task_file_read(thread->task, "status", text, sizeof text) <= 0) return 0;
  const char *state = strstr(text, name);
  return state ? state[sizeof name - 1] : 0;
}

bool blocked_thread_is_stopped(const struct blocked_thread *thread) {
  char letter = state_letter(thread);
  return letter == 'T' || letter == 't';
}

/* wchan is open to all threads of the process, whoever owns it. */
static void read_kernel_function(struct blocked_thread *thread) {
  char *name = thread->kernel_function;
  if (task_file_read(thread->task, "wchan", name, sizeof thread->kernel_function) <= 0) return;
  name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.")] = 0;
  if (name[0] == '0') name[0] = 0;
}

/* Where its system call may not be read. */
static enum thread_presence look_from_afar(struct blocked_thread *thread, int error) {
  switch (state_letter(thread)) {
    case 0:
    case 'Z':
    case 'X': return THREAD_ENDED;
    case 'R': return THREAD_RUNNING;
    default: break;
  }
  thread->hidden_because =
      error == ENOENT ? "it is blocked; where is not known, as this kernel has no /proc/PID/syscall"
                      : "it is blocked; where is not known, as a process that has changed its user "
                        "may not read its own /proc/PID/syscall";
  read_kernel_function(thread);
  return THREAD_ASLEEP;
}

/* Without its files there. */
static enum thread_presence look_without_proc(struct blocked_thread *thread) {
  if (!task_is_alive(thread->tid)) return THREAD_ENDED;
  thread->hidden_because = proc_fault();
  if (!thread->hidden_because)
    thread->hidden_because =
        "its files in /proc could not be opened, for lack of descriptors or memory";
  return THREAD_HIDDEN;
}

enum thread_presence blocked_thread_look(struct blocked_thread *thread) {
  enum { CALL_MAX = 256 };
  char text[CALL_MAX];
  if (!read_runs(thread, &thread->runs)) return look_without_proc(thread);
  if (task_file_read(thread->task, "syscall", text, sizeof text) > 0)
    return parse_call(thread, text);
  return errno == ESRCH ? THREAD_ENDED : look_from_afar(thread, errno);
}

void blocked_thread_name(const struct blocked_thread *thread, char *name, size_t size) {
  task_read_name(thread->task, name, size);
  foreign_text_clean(name);
}

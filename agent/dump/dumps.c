#include "dumps.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/http/request_watch.h"
#include "agent/profiles/profile.h"
#include "agent/runtime/agent_memory.h"
#include "agent/runtime/agent_thread.h"
#include "agent/runtime/bare_thread.h"
#include "agent/runtime/process_info.h"
#include "agent/runtime/sandbox.h"
#include "dump_file.h"
#include "dump_name.h"
#include "dump_profiles.h"
#include "dump_status.h"
#include "shim/base/dump_config.h"
#include "shim/base/raw_syscall.h"

#define SECOND INT64_C(1000000000)

/* news: counts what the thread is woken for; the words before it tell what that is. Written by the
 * admin thread with release, read by the dumping thread with acquire. */
static _Atomic uint32_t news;
static _Atomic bool stopping;

/* Written by the admin thread. */
static bool runs;
static struct agent_thread thread;

/* Written by the dumping thread, of which there is one at a time. */
static int64_t next_due_ns; /* 0: not known yet */
static struct {
  char **paths; /* dump_config.keep of them, the oldest at `next` once all are there */
  uint32_t next;
} kept[DUMP_KINDS];

static bool is_wanted(void) { return !atomic_load_explicit(&stopping, memory_order_acquire); }

/* ---- one profile ---- */

/* Those that are too many go; a name that is written again and again is one file. */
static void keep(enum dump_kind kind, const char *path) {
  uint32_t limit = dump_config.keep;
  if (!kept[kind].paths) kept[kind].paths = agent_calloc(limit, sizeof *kept[kind].paths);
  if (!kept[kind].paths) return;
  for (uint32_t i = 0; i < limit && kept[kind].paths[i]; i++)
    if (strcmp(kept[kind].paths[i], path) == 0) return;
  char **place = &kept[kind].paths[kept[kind].next];
  if (*place) dump_file_remove(*place);
  agent_free(*place);
  *place = agent_strdup(path);
  kept[kind].next = (kept[kind].next + 1) % limit;
}

static void write_profile(enum dump_kind kind, const struct process_identity *process) {
  char path[2 * CONFIG_PATH_MAX], error[DUMP_ERROR_MAX];
  struct growing_text bytes = {0};
  const struct dump_name name = {.program = process->comm,
                                 .kind = dump_kind_names[kind],
                                 .pid = process->pid,
                                 .time_nanos = profile_wall_clock()};
  const char *why = dump_profile_make(kind, &bytes);
  if (why && !is_wanted()) { /* it is not lost: the agent comes back, or the program has refused */
  } else if (why) {
    dump_status_failed_for("%s: %s", dump_kind_names[kind], why);
  } else if (!dump_name_write(dump_config.pattern, &name, path, sizeof path)) {
    dump_status_failed_for("PPROFAGENT_DUMP: the file's name is too long");
  } else if (!dump_file_write(path, bytes.bytes, bytes.used, true, error)) {
    dump_status_failed_for("%.300s %s", path, error);
  } else {
    dump_status_wrote(path);
    keep(kind, path);
  }
  growing_text_release(&bytes);
}

static void write_profiles(void) {
  struct process_identity process;
  struct request_watch watch;
  process_identity_read(&process);
  request_watch_begin_for(&watch, is_wanted);
  for (int kind = 0; kind < DUMP_KINDS && is_wanted(); kind++)
    if (dump_config.kinds >> kind & 1 && !sandbox_look()) write_profile(kind, &process);
  request_watch_end();
}

/* ---- moments ---- */

/* Missed ones are left out: the program was stopped, or the machine asleep. */
static bool interval_is_over(int64_t now) {
  int64_t interval = (int64_t)dump_config.interval_seconds * SECOND;
  if (!interval) return false;
  if (!next_due_ns) next_due_ns = now + interval;
  if (now < next_due_ns) return false;
  next_due_ns += (now - next_due_ns) / interval * interval + interval;
  return true;
}

static void wait_for_news(uint32_t seen, int64_t now) {
  int64_t left = next_due_ns - now;
  struct timespec timeout = {.tv_sec = left / SECOND, .tv_nsec = left % SECOND};
  if (!next_due_ns || left > 0) raw_futex_wait(&news, seen, next_due_ns ? &timeout : NULL);
}

static void dumps_main(void *unused) {
  (void)unused;
  bare_thread_enter_libc();
  while (is_wanted()) {
    uint32_t seen = atomic_load_explicit(&news, memory_order_acquire);
    int64_t now = agent_monotonic_nanoseconds();
    if (interval_is_over(now)) write_profiles();
    else if (is_wanted()) wait_for_news(seen, now);
  }
}

void dumps_begin(void) {
  if (!*dump_config.pattern) return;
  atomic_store_explicit(&stopping, false, memory_order_relaxed); /* there is no such thread */
  runs = agent_thread_create(&thread, AGENT_THREAD_STACK, dumps_main, NULL) == 0;
  if (!runs) dump_status_failed_for("no thread can be made for it");
}

void dumps_end(void) {
  if (!runs) return;
  atomic_store_explicit(&stopping, true, memory_order_release);
  atomic_fetch_add_explicit(&news, 1, memory_order_release);
  raw_futex_wake(&news, INT32_MAX);
  agent_thread_join(thread);
  runs = false;
}

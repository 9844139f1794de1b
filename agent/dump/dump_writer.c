#include "dump_writer.h"

#include <stdint.h>
#include <string.h>

#include "agent/http/request_watch.h"
#include "agent/profiles/profile.h"
#include "agent/runtime/agent_memory.h"
#include "agent/runtime/process_info.h"
#include "agent/runtime/sandbox.h"
#include "agent/symbols/symbolizer.h"
#include "dump_cpu.h"
#include "dump_file.h"
#include "dump_name.h"
#include "dump_profiles.h"
#include "dump_status.h"
#include "shim/base/dump_config.h"

/* dump_config.keep of them, the oldest at `next` once all are there. */
static struct {
  char **paths;
  uint32_t next;
} kept[DUMP_KINDS];

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

struct writing {
  uint32_t kinds;
  enum profile_names names;
  bool (*wanted)(void);
  bool durable; /* dump_file.h */
  bool again; /* it is there already, with fewer names */
  int64_t time_nanos;
};

static const char *make(enum dump_kind kind, const struct writing *writing,
                        struct growing_text *bytes) {
  struct request_watch watch;
  request_watch_begin_for(&watch, writing->wanted);
  const char *why = dump_profile_make(kind, writing->names, bytes);
  request_watch_end();
  return why;
}

static void write_profile(enum dump_kind kind, const struct process_identity *process,
                          const struct writing *writing) {
  char path[2 * CONFIG_PATH_MAX], error[DUMP_ERROR_MAX];
  struct growing_text bytes = {0};
  const struct dump_name name = {.program = process->comm,
                                 .kind = dump_kind_names[kind],
                                 .pid = process->pid,
                                 .time_nanos = writing->time_nanos};
  const char *why = make(kind, writing, &bytes);
  if (!writing->wanted() || (why && writing->again)) { /* nothing is lost */
  } else if (why) {
    dump_status_failed_for("%s: %s", dump_kind_names[kind], why);
  } else if (!dump_name_write(dump_config.pattern, &name, path, sizeof path)) {
    dump_status_failed_for("PPROFAGENT_DUMP: the file's name is too long");
  } else if (!dump_file_write(path, bytes.bytes, bytes.used, writing->durable, error)) {
    if (!writing->again) dump_status_failed_for("%.300s %s", path, error);
  } else if (!writing->again) {
    dump_status_wrote(path);
    keep(kind, path);
  }
  growing_text_release(&bytes);
}

static void write_each(const struct writing *writing) {
  struct process_identity process;
  process_identity_read(&process);
  for (int kind = 0; kind < DUMP_KINDS && writing->wanted(); kind++)
    if (writing->kinds >> kind & 1 && !sandbox_look()) write_profile(kind, &process, writing);
}

void dump_write_profiles(uint32_t kinds, bool (*wanted)(void)) {
  dump_cpu_cut(false);
  write_each(&(struct writing){.kinds = kinds,
                               .names = NAMES_ALL,
                               .wanted = wanted,
                               .durable = true,
                               .time_nanos = profile_wall_clock()});
}

static bool always(void) { return true; }

void dump_write_in_haste(bool is_last, void (*written)(void), bool (*has_time)(void)) {
  struct writing writing = {.kinds = dump_config.kinds,
                            .names = NAMES_NONE,
                            .wanted = always,
                            .time_nanos = profile_wall_clock()};
  dump_cpu_cut(is_last);
  write_each(&writing);
  if (written) written();
  struct symbolizer_session *session =
      symbolizer_open(); /* what is looked up is kept for the next */
  writing.wanted = has_time;
  writing.again = true;
  writing.names = NAMES_OF_PROGRAM;
  write_each(&writing);
  writing.names = NAMES_ALL;
  write_each(&writing);
  symbolizer_close(session);
}

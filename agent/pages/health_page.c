/* /debug/pprof/health: everything that the agent knows about itself, as JSON. */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "shim/base/config.h"
#include "shim/locks/contention_table.h"
#include "shim/base/counters.h"
#include "shim/base/dump_config.h"
#include "shim/cpu/cpu_sampling.h"
#include "shim/allocation/heap_status.h"
#include "agent_tables.h"
#include "shim/allocation/heap_table.h"
#include "shim/allocation/mmap_ranges.h"
#include "shim/allocation/mmap_table.h"
#include "shim/cpu/interrupted_call.h"
#include "shim/locks/lock_status.h"
#include "shim/locks/lock_waiters.h"
#include "shim/stacks/module_registry.h"
#include "shim/stacks/registered_frames.h"
#include "shim/stacks/stack_table.h"
#include "shim/threads/thread_registry.h"
#include "shim/threads/threadcreate_table.h"
#include "agent/runtime/agent_status.h"
#include "agent/runtime/agent_memory.h"
#include "agent/runtime/agent_thread.h"
#include "agent/cpu/cpu_counters.h"
#include "agent/cpu/cpu_profile.h"
#include "agent/cpu/ring_sampling.h"
#include "agent/dump/dump_status.h"
#include "agent/profiles/heap_profile.h"
#include "linked_versions.h"
#include "agent/http/civetweb_alone.h"
#include "agent/http/localhost_twin.h"
#include "agent/runtime/log.h"
#include "agent/runtime/process_info.h"
#include "agent/tree/process_tree.h"
#include "resident_memory.h"
#include "routes.h"
#include "agent/threads/wall_profile.h"
#include "agent/trace/trace_recording.h"
#include "agent/symbols/symbol_memory.h"
#include "agent/symbols/symbolizer.h"
#include "agent/tls/tls_front.h"
#include "agent/runtime/version.h"

/* Members of one object after the other; the caller opens and closes it. */
struct json {
  struct text_sink *text;
  bool first;
};

static void key(struct json *json, const char *name) {
  if (!json->first) text_sink_text(json->text, ",");
  json->first = false;
  text_sink_json(json->text, name);
  text_sink_text(json->text, ":");
}

static void open_object(struct json *json, const char *name) {
  key(json, name);
  text_sink_text(json->text, "{");
  json->first = true;
}

static void close_object(struct json *json) {
  text_sink_text(json->text, "}");
  json->first = false;
}

static void number(struct json *json, const char *name, uint64_t value) {
  key(json, name);
  text_sink_format(json->text, "%" PRIu64, value);
}

static void seconds(struct json *json, const char *name, uint64_t milliseconds) {
  key(json, name);
  text_sink_format(json->text, "%" PRIu64 ".%03" PRIu64, milliseconds / 1000, milliseconds % 1000);
}

static void string(struct json *json, const char *name, const char *value) { /* NULL: null */
  key(json, name);
  if (value) text_sink_json(json->text, value);
  else text_sink_text(json->text, "null");
}

static void null(struct json *json, const char *name) { string(json, name, NULL); }

/* null: not known. */
static void number_if_known(struct json *json, const char *name, int64_t value) {
  if (value < 0) null(json, name);
  else number(json, name, (uint64_t)value);
}

static void boolean(struct json *json, const char *name, bool value) {
  key(json, name);
  text_sink_text(json->text, value ? "true" : "false");
}

/* The program's, without the agent's. threads: the agent's included; 0: not known. */
static void write_threads_and_cpu(struct json *json, unsigned threads) {
  unsigned agents = agent_thread_count();
  uint64_t of_agent = agent_thread_cpu_nanoseconds(), of_all = 0;
  struct timespec now;
  if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now) == 0)
    of_all = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
  number_if_known(json, "threads", threads > agents ? (int64_t)(threads - agents) : -1);
  if (of_all < of_agent) null(json, "cpu_seconds");
  else seconds(json, "cpu_seconds", (of_all - of_agent) / 1000000);
}

static void write_process(struct json *json) {
  struct process_identity process;
  struct process_memory memory;
  process_identity_read(&process);
  process_memory_read(&memory);
  open_object(json, "process");
  number(json, "pid", (uint64_t)process.pid);
  string(json, "name", process.comm);
  if (process.uptime_seconds < 0) null(json, "uptime_seconds");
  else seconds(json, "uptime_seconds", (uint64_t)(process.uptime_seconds * 1000));
  number_if_known(json, "rss_bytes", memory.rss_bytes);
  number_if_known(json, "max_rss_bytes", memory.max_rss_bytes);
  write_threads_and_cpu(json, process.threads);
  string(json, "proc_fault", proc_fault());
  string(json, "allocator", heap_allocator_path());
  close_object(json);
}

static void write_profiles(struct json *json) {
  size_t count;
  const struct route *routes = routes_all(&count);
  open_object(json, "profiles");
  for (size_t i = 0; i < count; i++) {
    const char *off = route_off_reason(&routes[i]);
    if (!routes[i].is_profile && !off) continue; /* cmdline, symbol, health: always there */
    open_object(json, routes[i].name);
    boolean(json, "on", !off);
    if (off) string(json, "reason", off);
    if (routes[i].count) number(json, "count", routes[i].count());
    close_object(json);
  }
  close_object(json);
}

static void write_wall(struct json *json) {
  struct wall_profile_status wall = wall_profile_status();
  open_object(json, "wall");
  number(json, "running", wall.running);
  number(json, "instants", wall.instants);
  number(json, "unmoved", wall.unmoved);
  number(json, "walks", wall.walks);
  number(json, "unread", wall.unread);
  number(json, "lost", wall.lost);
  seconds(json, "asked_hz", wall.asked_millihertz);
  seconds(json, "reached_hz", wall.reached_millihertz);
  close_object(json);
}

static void write_dump(struct json *json) {
  char shared[SHARED_TEXT_MAX];
  open_object(json, "dump");
  string(json, "pattern", *dump_config.pattern ? dump_config.pattern : NULL); /* null: none */
  string(json, "on", dump_config.on);
  number(json, "keep", dump_config.keep);
  number(json, "written", dump_status_written());
  number(json, "failed", dump_status_failed());
  string(json, "last_file", dump_status_last_file(shared));
  string(json, "last_error", dump_status_last_error(shared));
  close_object(json);
}

static void write_trace(struct json *json) {
  struct trace_recording_status trace = trace_recording_status();
  open_object(json, "trace");
  number(json, "running", trace.running);
  string(json, "source", trace.recorder.source); /* null: nothing has been recorded yet */
  string(json, "sampled_because", trace.recorder.off_reason);
  number(json, "threads_with_ring", trace.recorder.threads_with_ring);
  number(json, "threads_looked_at", trace.recorder.threads_without_ring);
  number(json, "events", trace.recorder.events);
  number(json, "lost", trace.recorder.lost);
  number(json, "left_out", trace.left_out);
  number(json, "names_cut", trace.names_cut);
  number(json, "samples", trace.samples.taken);
  number(json, "samples_untimed", trace.samples.untimed);
  string(json, "samples_off_because", trace.samples.off_reason);
  open_object(json, "flight");
  number(json, "seconds", config.flight_seconds);
  boolean(json, "runs", trace.flight.runs);
  seconds(json, "kept_seconds", (uint64_t)(trace.flight.kept_seconds * 1000));
  number(json, "bytes", trace.flight.bytes);
  string(json, "off_because", trace.flight.off_reason);
  close_object(json);
  close_object(json);
}

static void write_config(struct json *json) {
  static const char *const children[] = {
      [CHILDREN_ALL] = "all", [CHILDREN_FORK] = "fork", [CHILDREN_NONE] = "none"};
  char shared[SHARED_TEXT_MAX];
  open_object(json, "config");
  string(json, "address", config.address);
  number(json, "memprofilerate", config_rate(&config.memprofile_rate));
  number(json, "blockprofilerate", config_rate(&config.blockprofile_rate));
  number(json, "mutexprofilefraction", config_rate(&config.mutexprofile_fraction));
  number(json, "cpuprofilerate", config.cpuprofile_rate);
  number(json, "stack_depth", config.stack_depth);
  number(json, "symbol_memory", config.symbol_memory);
  number(json, "trace_buffer", config.trace_buffer);
  string(json, "children", children[config.children]);
  string(json, "log", config.log);
  string(json, "log_fault", log_fault(shared));
  number(json, "log_lines_left_out", log_lines_left_out());
  key(json, "allow_uids");
  text_sink_text(json->text, "[");
  for (uint32_t i = 0; i < config.allowed_uid_count; i++)
    text_sink_format(json->text, "%s%" PRIu32, i ? "," : "", config.allowed_uids[i]);
  text_sink_text(json->text, "]");
  string(json, "origins", config.origins);
  key(json, "faults");
  text_sink_text(json->text, "[");
  for (uint32_t i = 0; i < config.fault_count && i < CONFIG_FAULTS_MAX; i++) {
    if (i > 0) text_sink_text(json->text, ",");
    text_sink_json(json->text, config.faults[i]);
  }
  text_sink_text(json->text, "]");
  close_object(json);
}

/* What is linked in. */
static void write_parts(struct json *json) {
  open_object(json, "parts");
#define X(name, part_version, hash)      \
  open_object(json, name);               \
  string(json, "version", part_version); \
  string(json, "sha256", hash);          \
  close_object(json);
  LINKED_VERSIONS(X)
#undef X
  close_object(json);
}

static void write_losses(struct json *json) {
  struct symbolizer_counters symbols;
  symbolizer_read_counters(&symbols);
  open_object(json, "losses");
#define X(identifier, meaning) \
  number(json, #identifier, atomic_load_explicit(&shim_counters.identifier, memory_order_relaxed));
  SHIM_LOSS_COUNTERS(X)
#undef X
#define X(identifier, meaning) number(json, #identifier, symbols.identifier);
  SYMBOLIZER_LOSS_COUNTERS(X)
#undef X
  close_object(json);
}

static void write_table(struct json *json, const char *name, uint64_t used, uint64_t limit,
                        uint64_t limit_bytes) {
  open_object(json, name);
  number(json, "used", used);
  if (limit) number(json, "limit", limit);
  if (limit_bytes) number(json, "limit_bytes", limit_bytes);
  close_object(json);
}

static void write_tables(struct json *json) {
  open_object(json, "tables");
  write_table(json, "stacks", stack_table_count(), stack_table_limit(), stack_table_limit_bytes());
  write_table(json, "heap_buckets", heap_bucket_count(), heap_bucket_limit(), 0);
  write_table(json, "heap_live", heap_live_count(), heap_live_limit(), 0);
  write_table(json, "mmap_buckets", mmap_table_count(), mmap_table_limit(), 0);
  write_table(json, "mmap_ranges", mmap_range_count, mmap_ranges_limit(), 0);
  write_table(json, "modules", module_registry_count(), 0, 0);
  write_table(json, "contention", contention_table_count(), CONTENTION_ENTRIES_MAX,
              0); /* block and mutex */
  write_table(json, "lock_waiters", lock_waiters_places(), LOCK_WAITERS_MAX,
              0); /* ever taken, each for objects of one bucket */
  write_table(json, "registered_frames", registered_frames_count(), 0, REGISTERED_FRAMES_BYTES_MAX);
  write_table(json, "thread_records", thread_registry_count(), THREAD_RECORDS_MAX,
              0); /* ever taken at one time */
  close_object(json);
}

static void write_heap(struct json *json) {
  struct heap_totals totals;
  heap_totals_read(&totals);
  open_object(json, "heap_estimate");
  number(json, "alloc_objects", (uint64_t)totals.alloc_objects);
  number(json, "alloc_bytes", (uint64_t)totals.alloc_bytes);
  number(json, "inuse_objects", (uint64_t)totals.inuse_objects);
  number(json, "inuse_bytes", (uint64_t)totals.inuse_bytes);
  close_object(json);
}

/* What resident memory consists of; null: not known. */
static void write_resident(struct json *json) {
  static const char names[RESIDENT_KIND_COUNT][16] = {
#define X(identifier, title, sentence) #identifier,
      RESIDENT_KINDS(X)
#undef X
  };
  struct resident_memory memory;
  resident_memory_read(&memory);
  open_object(json, "resident_memory");
  string(json, "fault", memory.fault);
  string(json, "coarse_because", memory.coarse);
  for (int kind = 0; kind < RESIDENT_KIND_COUNT; kind++)
    number_if_known(json, names[kind], memory.fault ? -1 : (int64_t)memory.bytes[kind]);
  number_if_known(json, "total", memory.fault ? -1 : (int64_t)memory.total);
  number(json, "of_it_lazily_freed", memory.lazily_freed);
  number(json, "of_it_in_huge_pages", memory.huge);
  number(json, "swapped", memory.swapped);
  seconds(json, "age_seconds",
          (uint64_t)(agent_monotonic_nanoseconds() - memory.taken_ns) / 1000000);
  close_object(json);
}

static void write_threads(struct json *json) {
  uint64_t created, ended;
  threadcreate_totals(&created, &ended);
  open_object(json, "threads");
  number(json, "created", created);
  number(json, "ended", ended);
  close_object(json);
}

static void write_sampling(struct json *json) {
  int signal = cpu_sampling_signal();
  const char *known = signal ? sigabbrev_np(signal) : NULL; /* NULL for a real-time one */
  char name[32];
  snprintf(name, sizeof name, "SIG%s", known ? known : "");
  open_object(json, "cpu_sampling");
  string(json, "source", cpu_profile_source()); /* null: nobody has asked for a profile yet */
  string(json, "perf_off_reason", cpu_profile_perf_off_reason());
  number(json, "rings", ring_sampling_count());
  number(json, "samples_merged", ring_sampling_merged());
  number(json, "signal", (uint64_t)signal); /* 0: nobody has asked for a profile yet */
  string(json, "signal_name", known ? name : NULL);
  number(json, "profiles_running", cpu_profile_running());
  number(json, "timers", cpu_sampling_timers());
  number(json, "precise_threads", cpu_counters_open_count());
  string(json, "precise_off_reason", cpu_counters_off_reason());
  number(json, "calls_restarted",
         atomic_load_explicit(&interrupted_calls_restarted, memory_order_relaxed));
  close_object(json);
}

/* The sums of the block and of the mutex profile, estimates of all events. */
static void write_contentions(struct json *json) {
  static const char names[][6] = {[CONTENTION_BLOCK] = "block", [CONTENTION_MUTEX] = "mutex"};
  double counts[2] = {0};
  uint64_t delays[2] = {0};
  struct contention_view view;
  for (uint32_t entry = 1, count = contention_table_count(); entry <= count; entry++) {
    if (!contention_table_read(entry, &view)) continue;
    counts[view.kind] += view.count;
    delays[view.kind] += view.delay;
  }
  for (int kind = CONTENTION_BLOCK; kind <= CONTENTION_MUTEX; kind++) {
    open_object(json, names[kind]);
    number(json, "contentions", (uint64_t)(counts[kind] + 0.5));
    seconds(json, "delay_seconds", delays[kind] / 1000000);
    close_object(json);
  }
}

/* waiting_now: waits for locks whose releasers are being looked for. */
static void write_waits(struct json *json) {
  open_object(json, "lock_waits");
  number(json, "waiting_now", lock_waiters_now());
  write_contentions(json);
  close_object(json);
}

/* What symbolizing may take, takes and took at most; files that did not fit into it. */
static void write_symbol_memory(struct json *json) {
  struct symbolizer_counters symbols;
  symbolizer_read_counters(&symbols);
  open_object(json, "symbol_memory");
  number(json, "budget", symbol_memory_budget());
  number(json, "used", symbol_memory_used());
  number(json, "peak", symbol_memory_peak());
  number(json, "left_out", symbols.symbols_memory_limit);
  close_object(json);
}

static void write_agent(struct json *json) {
  uint64_t allocator = agent_memory_bytes();
  char shared[SHARED_TEXT_MAX];
  open_object(json, "agent");
  string(json, "listen_address", agent_status_address(shared));
  string(json, "off_reason", process_tree_off_reason(shared));
  string(json, "localhost_fault", localhost_twin_fault());
  string(json, "descriptor_isolation", agent_status_descriptor_isolation());
  string(json, "answers_alone", civetweb_is_alone() ? civetweb_alone_text : NULL);
  number(json, "threads", agent_thread_count());
  seconds(json, "cpu_seconds", agent_thread_cpu_nanoseconds() / 1000000);
  open_object(json, "memory_bytes");
#define X(name, bytes) number(json, #name, bytes);
  AGENT_TABLES(X)
#undef X
  number(json, "allocator", allocator);
  number(json, "symbol_cache", symbolizer_cache_bytes()); /* part of the allocator's */
  number(json, "total", agent_tables_bytes() + allocator);
  close_object(json);
  write_symbol_memory(json);
  close_object(json);
}

static void write_sharing(struct json *json) {
  static const char *const roles[] = {
      [TREE_OUTSIDE] = "outside", [TREE_HOLDER] = "holder", [TREE_MEMBER] = "member"};
  enum tree_role role = process_tree_role();
  char refusal[PROCESS_REFUSAL_MAX], reason[SHARED_TEXT_MAX];
  unsigned refused = process_tree_refusals(refusal);
  open_object(json, "process_tree");
  string(json, "role", roles[role]);
  if (role == TREE_HOLDER) { /* a member knows of itself only */
    number(json, "processes", process_tree_size());
    number(json, "refused", refused);
    string(json, "last_refusal", refused ? refusal : NULL);
    string(json, "not_shared_because", process_tree_fault());
  }
  close_object(json);
  open_object(json, "tls");
  string(json, "listen_address", tls_front_address());
  string(json, "off_reason", tls_front_off_reason(reason));
  close_object(json);
}

bool health_page_write(struct text_sink *text) {
  struct json json = {text, true};
  text_sink_text(text, "{");
  string(&json, "version", PPROFAGENT_VERSION);
  write_parts(&json);
  write_process(&json);
  write_profiles(&json);
  write_losses(&json);
  write_tables(&json);
  write_heap(&json);
  write_resident(&json);
  write_threads(&json);
  write_sampling(&json);
  write_waits(&json);
  write_agent(&json);
  write_sharing(&json);
  write_wall(&json);
  write_trace(&json);
  write_dump(&json);
  write_config(&json);
  text_sink_text(text, "}\n");
  return text_sink_end(text);
}

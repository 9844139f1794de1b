#include "dump_profiles.h"

#include "agent/profiles/contention_profile.h"
#include "agent/profiles/heap_profile.h"
#include "agent/profiles/profile.h"
#include "agent/profiles/profile_builder.h"
#include "agent/threads/thread_dump.h"
#include "agent/threads/thread_profile.h"
#include "dump_cpu.h"
#include "shim/allocation/heap_status.h"
#include "shim/allocation/heap_table.h"
#include "shim/locks/lock_status.h"

static struct profile *collect_heap(const char *name) {
  struct heap_snapshot *now = heap_snapshot_take();
  struct profile *profile =
      now ? heap_profile_build(name, now, &(struct heap_selection){0}, HEAP_PROFILE_SCALED) : NULL;
  heap_snapshot_release(now);
  return profile;
}

static struct profile *collect_threads(void) {
  struct thread_dump *dump = thread_dump_take();
  struct profile *profile = dump ? thread_profile_build(dump, false) : NULL;
  thread_dump_release(dump);
  return profile;
}

static struct profile *collect(enum dump_kind kind) {
  switch (kind) {
    case DUMP_HEAP: return collect_heap("heap");
    case DUMP_ALLOCS: return collect_heap("allocs");
    case DUMP_PEAK: return collect_heap("peak");
    case DUMP_GOROUTINE: return collect_threads();
    case DUMP_BLOCK: return contention_profile_build(CONTENTION_BLOCK);
    case DUMP_MUTEX: return contention_profile_build(CONTENTION_MUTEX);
    case DUMP_THREADCREATE: return threadcreate_profile_build();
    case DUMP_CPU: return dump_cpu_build();
    case DUMP_KINDS: break;
  }
  return NULL;
}

/* An empty profile would look like a program in which nothing happened. */
static const char *off_reason(enum dump_kind kind) {
  switch (kind) {
    case DUMP_HEAP:
    case DUMP_PEAK:
    case DUMP_ALLOCS: return heap_bucket_count() > 0 ? NULL : heap_off_reason();
    case DUMP_BLOCK:
      return contention_table_count_of(CONTENTION_BLOCK) > 0 ? NULL : block_off_reason();
    case DUMP_MUTEX:
      return contention_table_count_of(CONTENTION_MUTEX) > 0 ? NULL : mutex_off_reason();
    case DUMP_GOROUTINE:
    case DUMP_THREADCREATE:
    case DUMP_KINDS: break;
    case DUMP_CPU: return dump_cpu_fault();
  }
  return NULL;
}

struct memory_sink {
  struct byte_sink base;
  struct growing_text *text;
};

static bool keep_bytes(struct byte_sink *sink, const void *bytes, size_t size) {
  struct growing_text *text = ((struct memory_sink *)sink)->text;
  growing_text_bytes(text, bytes, size);
  return !text->failed;
}

static bool say_without_names(struct profile *profile) {
  uint32_t count = profile->comment_count;
  const char **comments = profile_alloc(profile, (count + 1) * sizeof *comments);
  if (!comments) return false;
  for (uint32_t i = 0; i < count; i++) comments[i] = profile->comments[i];
  comments[count] = "names are missing: there was no time to look them up";
  profile->comments = comments;
  profile->comment_count = count + 1;
  return true;
}

const char *dump_profile_make(enum dump_kind kind, enum profile_names names,
                              struct growing_text *out) {
  const char *off = off_reason(kind);
  if (off) return off;
  struct memory_sink sink = {{keep_bytes}, out};
  profile_builder_names_are(names);
  struct profile *profile = collect(kind);
  profile_builder_names_are(NAMES_ALL);
  bool done = profile && (!profile->lacks_names || say_without_names(profile)) &&
              profile_encode_proto(profile, &sink.base);
  profile_release(profile);
  return done ? NULL : "it cannot be collected";
}

/* What deadlocks.h found, as a profile. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/profiles/profile_builder.h"
#include "deadlocks.h"
#include "shim/stacks/stack_table.h"

enum { COMMENTS_MAX = 8 };

static bool add_comments(struct profile *profile, const struct thread_dump *dump) {
  char text[DEADLOCK_LINE_MAX];
  bool ok = true;
  for (uint32_t i = 1; i <= dump->deadlock_count && i <= COMMENTS_MAX && ok; i++) {
    deadlock_describe(dump, i, text);
    ok = profile_add_comment(profile, "%s", text);
  }
  if (ok && dump->deadlock_count > COMMENTS_MAX)
    ok = profile_add_comment(profile, "%" PRIu32 " deadlocks more",
                             dump->deadlock_count - COMMENTS_MAX);
  if (ok && dump->unjudged)
    ok = profile_add_comment(profile, "%zu threads could not be looked at", dump->unjudged);
  return ok;
}

static bool add_thread(struct profile_builder *builder, const struct dumped_thread *thread) {
  static const uint64_t not_read = STACK_NOT_READ;
  char wait[DEADLOCK_NEED_MAX];
  deadlock_describe_need(thread, wait);
  bool read = thread->frame_count > 0;
  struct profile_stack stack = {.frame_count = read ? thread->frame_count : 1,
                                .epoch = read ? thread->epoch : UINT32_MAX,
                                .frames = read ? thread->frames : &not_read};
  struct profile_label labels[] = {{.key = "thread_name", .text = thread->name},
                                   {.key = "state", .text = thread->state},
                                   {.key = "waits_for", .text = wait},
                                   {.key = "tid", .number = thread->tid}};
  double one = 1;
  return profile_builder_add(builder, &stack, labels, sizeof labels / sizeof *labels, &one);
}

struct profile *deadlock_profile_build(const struct thread_dump *dump) {
  static const char name[] = "goroutineleak";
  struct profile_builder *builder = profile_builder_open(name, 1);
  if (!builder) return NULL;
  struct profile *profile = profile_builder_profile(builder);
  profile->value_types[0] = profile->period_type = (struct profile_value_type){name, "count"};
  profile->period = 1;
  profile->time_nanos = dump->time_nanos;
  profile->monotonic_nanos = dump->monotonic_nanos;
  for (size_t i = 0; i < dump->count; i++)
    if (dump->threads[i].stuck != NOT_STUCK && !add_thread(builder, &dump->threads[i])) break;
  profile = profile_builder_finish(builder);
  if (profile && !add_comments(profile, dump)) {
    profile_release(profile);
    profile = NULL;
  }
  return profile;
}

#include "thread_profile.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "shim/stacks/stack_table.h"
#include "shim/threads/threadcreate_table.h"
#include "agent/profiles/profile_builder.h"

enum { COMMENT_MAX = 128 };

static struct profile_builder *open_count_profile(const char *name) {
  struct profile_builder *builder = profile_builder_open(name, 1);
  if (!builder) return NULL;
  struct profile *profile = profile_builder_profile(builder);
  profile->value_types[0] = profile->period_type = (struct profile_value_type){name, "count"};
  profile->period = 1;
  return builder;
}

/* Ends the builder; text, when it is not "", becomes the comment. */
static struct profile *finish(struct profile_builder *builder, const char *text) {
  struct profile *profile = profile_builder_finish(builder);
  if (profile && *text && !profile_add_comment(profile, "%s", text)) {
    profile_release(profile);
    profile = NULL;
  }
  return profile;
}

/* ---- goroutine ---- */

struct profile *thread_profile_build(const struct thread_dump *dump, bool with_tid) {
  struct profile_builder *builder = open_count_profile("goroutine");
  if (!builder) return NULL;
  profile_builder_profile(builder)->time_nanos = dump->time_nanos;
  profile_builder_profile(builder)->monotonic_nanos = dump->monotonic_nanos;
  size_t unread = 0;
  uint64_t not_read[2] = {STACK_NOT_READ};
  for (size_t i = 0; i < dump->count; i++) {
    const struct dumped_thread *thread = &dump->threads[i];
    struct profile_stack stack = {
        .frame_count = thread->frame_count, .epoch = thread->epoch, .frames = thread->frames};
    if (thread->frame_count == 0) {
      not_read[1] = thread->start_function + 1; /* its outermost frame */
      stack = (struct profile_stack){
          .frame_count = thread->start_function ? 2 : 1, .epoch = UINT32_MAX, .frames = not_read};
      unread++;
    }
    struct profile_label labels[] = {{.key = "thread_name", .text = thread->name},
                                     {.key = "state", .text = thread->state},
                                     {.key = "tid", .number = thread->tid}};
    double one = 1;
    if (!profile_builder_add(builder, &stack, labels, with_tid ? 3 : 2, &one))
      break; /* finish gives NULL */
  }
  char text[COMMENT_MAX] = "";
  if (unread > 0)
    snprintf(text, sizeof text, "%zu of %zu threads could not be read", unread, dump->count);
  return finish(builder, text);
}

/* ---- threadcreate ---- */

static bool add_threads(struct profile_builder *builder, const struct profile_stack *stack,
                        uint64_t live, uint64_t ended) {
  struct profile_label label = {.key = "state", .text = "live"};
  double value = (double)live;
  if (live > 0 && !profile_builder_add(builder, stack, &label, 1, &value)) return false;
  label.text = "ended";
  value = (double)ended;
  return ended == 0 || profile_builder_add(builder, stack, &label, 1, &value);
}

static uint64_t beyond(uint64_t total, uint64_t sum) { return total > sum ? total - sum : 0; }

struct profile *threadcreate_profile_build(void) {
  static const uint64_t not_kept = STACK_NOT_KEPT;
  struct profile_builder *builder = open_count_profile("threadcreate");
  if (!builder) return NULL;
  profile_taken_now(profile_builder_profile(builder));
  uint64_t created, ended, created_sum = 0, ended_sum = 0;
  /* Before the stacks: a thread created meanwhile is then in the sum alone, and not taken for one
   * whose stack is lost. */
  threadcreate_totals(&created, &ended);
  struct threadcreate_view view;
  bool ok = true;
  for (uint32_t i = 0; i < THREADCREATE_STACKS_MAX && ok; i++) {
    struct stack_view known;
    if (!threadcreate_table_read(i, &view) || !stack_table_read(view.stack, &known)) continue;
    ok = add_threads(builder, &(struct profile_stack){.id = view.stack}, view.created - view.ended,
                     view.ended);
    created_sum += view.created;
    ended_sum += view.ended;
  }
  uint64_t lost = beyond(created, created_sum), lost_ended = beyond(ended, ended_sum);
  if (lost_ended > lost) lost_ended = lost;
  if (ok)
    add_threads(builder, &(struct profile_stack){.frame_count = 1, .frames = &not_kept},
                lost - lost_ended, lost_ended);
  if (created < created_sum) created = created_sum;
  if (ended < ended_sum) ended = ended_sum;
  char text[COMMENT_MAX];
  snprintf(text, sizeof text, "%" PRIu64 " threads created, %" PRIu64 " live", created,
           beyond(created, ended));
  return finish(builder, text);
}

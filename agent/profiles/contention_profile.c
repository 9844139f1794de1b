#include "contention_profile.h"

#include "profile_builder.h"
#include "profile_losses.h"

static const struct form {
  const char *name;
  const char *const *lost; /* losses by which its figures are too small */
  const char *const *known; /* losses that the text form tells of */
} forms[] = {
    [CONTENTION_BLOCK] = {"block", (const char *const[]){"contention_lost_", NULL},
                          (const char *const[]){"contention_lost_", "stacks_", "modules_", NULL}},
    [CONTENTION_MUTEX] = {"mutex", (const char *const[]){"contention_lost_", "mutex_", NULL},
                          (const char *const[]){"contention_lost_", "mutex_", "stacks_", "modules_",
                                                NULL}},
};

static bool add_losses(struct profile *profile, const struct form *form) {
  return profile_losses_comment(profile, form->lost) && profile_losses_trail(profile, form->known);
}

struct profile *contention_profile_build(enum contention_kind kind) {
  const struct form *form = &forms[kind];
  struct profile_builder *builder = profile_builder_open(form->name, 2);
  if (!builder) return NULL;
  struct profile *profile = profile_builder_profile(builder);
  profile->value_types[0] = profile->period_type =
      (struct profile_value_type){"contentions", "count"};
  profile->value_types[1] = (struct profile_value_type){"delay", "nanoseconds"};
  profile->period = 1; /* the values are estimates of all events already */
  profile_taken_now(profile);
  for (uint32_t entry = 1, count = contention_table_count(); entry <= count; entry++) {
    struct contention_view view;
    if (!contention_table_read(entry, &view) || view.kind != kind) continue;
    const double values[] = {view.count, (double)view.delay};
    if (!profile_builder_add(builder, &(struct profile_stack){.id = view.stack}, NULL, 0, values))
      break; /* finish gives NULL */
  }
  profile = profile_builder_finish(builder);
  if (profile && !add_losses(profile, form)) {
    profile_release(profile);
    profile = NULL;
  }
  return profile;
}

/* From stacks of stack_table.h to a struct profile: frames become locations (one per mapping and
 * address, resolved once), samples with the same locations and the same labels become one. Every
 * step is a hash look-up. Context: agent threads; locks: none (one owner).
 */
#ifndef AGENT_PROFILE_BUILDER_H
#define AGENT_PROFILE_BUILDER_H

#include <stdbool.h>
#include <stdint.h>

#include "profile.h"

struct profile_builder;

/* name must outlive the profile. NULL when out of memory. */
struct profile_builder *profile_builder_open(const char *name, uint32_t value_count);

/* Which names the profiles have that are opened from now on, whoever opens them: at first all. The
 * others are for a process that is about to end, and has no time for more. */
enum profile_names { NAMES_ALL, NAMES_OF_PROGRAM /* not of its libraries */, NAMES_NONE };
void profile_builder_names_are(enum profile_names names);
enum profile_names profile_builder_names(void);

/* To fill in types, period, times and comments. */
struct profile *profile_builder_profile(struct profile_builder *builder);

/* A stack: an id of stack_table.h (frames NULL), or its frames as they would stand there. */
struct profile_stack {
  uint32_t id;
  uint32_t frame_count, epoch;
  const uint64_t *frames;
};

/* Adds values to the sample of this stack and these labels (at most PROFILE_MAX_LABELS; keys and
 * units must outlive the profile, texts are copied). A stack without frames, or an id that is in no
 * table, is ignored. False: out of memory; the builder can then only be finished with NULL. */
bool profile_builder_add(struct profile_builder *builder, const struct profile_stack *stack,
                         const struct profile_label *labels, uint32_t label_count,
                         const double *values);

/* Rounds the values (sampling_round), drops samples whose values are all 0, and ends the builder.
 * NULL when out of memory. */
struct profile *profile_builder_finish(struct profile_builder *builder);

#endif

/* From stacks of stack_table.h to a struct profile: frames become locations (one per mapping and address, resolved once), samples with
 * the same locations and the same numeric label become one. Every step is a hash look-up.
 * Context: agent threads; locks: none (one owner).
 */
#ifndef AGENT_PROFILE_BUILDER_H
#define AGENT_PROFILE_BUILDER_H

#include <stdbool.h>
#include <stdint.h>

#include "profile.h"

struct profile_builder;

/* name must outlive the profile. NULL when out of memory. */
struct profile_builder *profile_builder_open(const char *name, uint32_t value_count);

/* To fill in types, period, times and comments. */
struct profile *profile_builder_profile(struct profile_builder *builder);

/* Adds values to the sample of this stack; number != 0 gives it the numeric label number_key (in unit). The strings must outlive the
 * profile. False: out of memory; the builder can then only be finished with NULL. An id that is in no table is ignored. */
bool profile_builder_add(struct profile_builder *builder, uint32_t stack, const char *number_key, const char *unit, int64_t number,
                         const double *values);

/* Rounds the values (sampling_round), drops samples whose values are all 0, and ends the builder. NULL when out of memory. */
struct profile *profile_builder_finish(struct profile_builder *builder);

#endif

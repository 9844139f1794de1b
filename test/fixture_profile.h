/* Two hand-made processes in the stub tables; what profiles of them must say is written in
 * unit_profile_proto.c and test_wire.py. */
#ifndef TEST_FIXTURE_PROFILE_H
#define TEST_FIXTURE_PROFILE_H

#include <stdbool.h>
#include <stdint.h>

/* rate: of every bucket. mixed: the second bucket was sampled at another one. */
void fixture_small(uint64_t rate, bool mixed);
/* The same process a little later: some freed, some new. */
void fixture_small_later(void);
/* Adds waits and releases to the stacks of fixture_small: whole and partial counts, a stack in two
 * epochs, an unused entry. */
void fixture_contention(void);
/* And what came later: more of the first stack of each kind, one new. */
void fixture_contention_later(void);
/* Many distinct stacks of this depth; buckets one per stack. */
void fixture_many(uint32_t stacks, uint32_t depth);
void fixture_release(void);

#endif

/* agent_thread.h's clock for unit tests without agent threads. */
#ifndef TEST_STUB_CLOCK_H
#define TEST_STUB_CLOCK_H

#include <stdint.h>

extern int64_t stub_clock_ahead; /* of CLOCK_MONOTONIC; the wall clock knows nothing of it */

#endif

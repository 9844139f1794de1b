/* Recordings for the encoders' unit tests, and what these have in common. */
#ifndef TEST_FIXTURE_TRACE_H
#define TEST_FIXTURE_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/http/byte_sink.h"
#include "agent/trace/trace_log.h"

enum { FIXTURE_EVENTS_MAX = 4096, FIXTURE_STACKS = 24, FIXTURE_FRAMES_MAX = 200 };

struct fixture_trace {
  struct trace_log log;
  struct trace_event events[FIXTURE_EVENTS_MAX];
  struct trace_stack stacks[FIXTURE_STACKS];
  struct trace_frame frames[FIXTURE_STACKS][FIXTURE_FRAMES_MAX];
};

/* Every kind of event, once or twice; trace_log.py has its times and names too. */
void fixture_trace_hand_made(struct fixture_trace *trace);
/* A valid one of chance, the same for the same seed. */
void fixture_trace_random(struct fixture_trace *trace, uint64_t seed);

typedef bool fixture_trace_encoder(const struct trace_log *log, struct byte_sink *sink);
/* Without words: hand-made and random recordings, each allocation failing in turn, receivers that
 * go away. With DIRECTORY COUNT SEED: writes that many encoded recordings there, N.out, and what
 * they were made of, N.log; the first one is the hand-made one, the second one has no events. */
int fixture_trace_test(int count, char **words, fixture_trace_encoder *encode);

#endif

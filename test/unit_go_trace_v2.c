/* links: agent/trace/go_trace_v2.c agent/trace/go_batches.c agent/trace/trace_links.c
 *      agent/runtime/index_table.c agent/runtime/string_table.c agent/http/text_sink.c
 *      test/fixture_trace.c test/agent_memory_libc.c */
/* fuzz: rounds */
/* Go's second trace format of recordings; what is in it is checked by test_trace_go.py. */
#include "agent/trace/go_trace_v2.h"
#include "fixture_trace.h"

int main(int count, char **words) { return fixture_trace_test(count, words, go_trace_v2_write); }

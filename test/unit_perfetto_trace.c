/* links: agent/trace/perfetto_trace.c agent/trace/perfetto_packets.c agent/trace/trace_walk.c
 *      agent/trace/trace_links.c agent/runtime/index_table.c agent/runtime/string_table.c
 *      agent/http/text_sink.c test/fixture_trace.c test/agent_memory_libc.c */
/* fuzz: rounds */
/* Perfetto's protobuf of recordings; what is in it is checked by test_trace_perfetto.py. */
#include "agent/trace/perfetto_trace.h"
#include "fixture_trace.h"

int main(int count, char **words) { return fixture_trace_test(count, words, perfetto_trace_write); }

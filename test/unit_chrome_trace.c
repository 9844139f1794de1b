/* links: agent/trace/chrome_trace.c agent/trace/trace_walk.c agent/trace/trace_links.c
 *      agent/runtime/index_table.c agent/http/text_sink.c test/fixture_trace.c
 *      test/agent_memory_libc.c */
/* fuzz: rounds */
/* Chrome's JSON of recordings; what is in it is checked by test_trace_chrome.py. */
#include "agent/trace/chrome_trace.h"
#include "fixture_trace.h"

int main(int count, char **words) { return fixture_trace_test(count, words, chrome_trace_write); }

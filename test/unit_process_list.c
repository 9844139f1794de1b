/* links: test/stub_http_server.c test/fixture_profile.c test/stub_tables.c test/stub_threads.c
 *      test/stub_process_tree.c test/agent_memory_libc.c test/stub_announced_code.c
 *      test/stub_trace.c */

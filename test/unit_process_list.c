/* links: test/stub_http_server.c test/fixture_profile.c test/stub_tables.c test/stub_threads.c
 *      test/stub_process_tree.c test/agent_memory_libc.c test/stub_announced_code.c
 *      test/stub_trace.c */
/* `/`, and what is below /pid/N/: the list in both its forms, nothing in it that a process may have
 * put there unescaped; relative links. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fixture_profile.h"
#include "stub_http_server.h"
#include "stub_process_tree.h"
#include "check.h"

static void check_page(const char *prefix, const char *path, bool there, const char *words) {
  struct http_response page = {.prefix = prefix};
  stub_http_handle(&page, "GET", path, "", "", 0);
  bool found = strstr(page.body.bytes, words);
  CHECK(found == there);
  if (found != there) fprintf(stderr, "FAILED '%s' on\n%s\n", words, page.body.bytes);
  CHECK(!strstr(page.body.bytes, "href='/") &&
        !strstr(page.body.bytes, "href=\"/")); /* relative, so that they work below /pid/N/ */
  stub_http_release(&page);
}

static void check_list(const char *query, const char *accept, const char *content_type,
                       const char *words) {
  struct http_response page = {.accept = accept};
  stub_http_handle(&page, "GET", "/", query, "", 0);
  bool ok = page.status == 200 && page.ended && strcmp(page.content_type, content_type) == 0 &&
            strstr(page.body.bytes, words);
  CHECK(ok);
  if (!ok)
    fprintf(stderr, "FAILED /?%s [%s]: %s, no '%s' in\n%s\n", query, accept ? accept : "",
            page.content_type, words, page.body.bytes);
  stub_http_release(&page);
}

static void prepare_tree(void) {
  stub_process_tree.count = 3;
  stub_process_tree.entries[0] = (struct process_entry){.pid = 100,
                                                        .parent = 1,
                                                        .uid = 0,
                                                        .threads = 1,
                                                        .heap_bytes = 3 << 19,
                                                        .uptime_seconds = 7325.25,
                                                        .is_holder = true,
                                                        .answered = true,
                                                        .name = "nginx",
                                                        .command = "nginx: master process"};
  stub_process_tree.entries[1] =
      (struct process_entry){.pid = 205,
                             .parent = 100,
                             .uid = 33,
                             .threads = 1234,
                             .heap_bytes = -1,
                             .uptime_seconds = 0.5,
                             .answered = true,
                             .name = "<b>\xff\"",
                             .command = "a\tb </td>\xc3 \xc3\xa9 & 'c' \\"};
  stub_process_tree.entries[2] =
      (struct process_entry){.pid = 4194304, .uid = 33, .heap_bytes = -1};
}

static void test_process_list(void) {
  static const char html[] = "text/html; charset=utf-8", json[] = "application/json";
  static const struct {
    const char *query, *accept, *type;
  } forms[] = {{"", NULL, html},
               {"", "*/*", html},
               {"", "text/html,application/json;q=0.9", html},
               {"", "application/json", json},
               {"", "application/json, text/html;q=0.5", json},
               {"format=json", "text/html", json},
               {"format=html", "application/json", html},
               {"format=jsonjsonjson", NULL, html},
               {"x=1&format=%6Ason", NULL, json}};
  for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
    check_list(forms[i].query, forms[i].accept, forms[i].type, "100");
  check_list("format=json", NULL, json,
             "{\"processes\":[{\"pid\":100,\"parent\":1,\"uid\":0,\"name\":\"nginx\",\"command\":"
             "\"nginx: master process\",\"uptime_seconds\":7325.250,"
             "\"heap_inuse_bytes\":1572864,\"threads\":1,\"holder\":true,\"answered\":true,\"url\":"
             "\"/pid/100/debug/pprof/\"},\n"
             "{\"pid\":205,\"parent\":100,\"uid\":33,\"name\":\"<b>\\ufffd\\\"\",\"command\":"
             "\"a\\u0009b </td>\\ufffd \xc3\xa9 & 'c' \\\\\","
             "\"uptime_seconds\":0.500,\"heap_inuse_bytes\":null,\"threads\":1234,\"holder\":false,"
             "\"answered\":true,\"url\":\"/pid/205/debug/pprof/\"},\n"
             "{\"pid\":4194304,\"parent\":null,\"uid\":33,\"name\":\"\",\"command\":\"\",\"uptime_"
             "seconds\":null,\"heap_inuse_bytes\":null,"
             "\"threads\":null,\"holder\":false,\"answered\":false,\"url\":\"/pid/4194304/debug/"
             "pprof/\"}],\"listen_address\":\"127.0.0.1:6060\","
             "\"refused\":0,\"last_refusal\":null}\n");
  check_list("", NULL, html, "<h1>3 processes</h1>");
  check_list(
      "", NULL, html,
      "<a href=\"pid/100/debug/pprof/\">nginx</a> <span class=holder>holds the port</span></td>");
  check_list("", NULL, html,
             "data-label=uptime>2 h 2 min</td><td class=number data-label=heap>1.5 MiB</td><td "
             "class=number data-label=threads>1</td>");
  check_list("", NULL, html,
             "<a href=\"pid/205/debug/pprof/\">&lt;b&gt;?&#34;</a></td><td class=\"command "
             "mono\">a b &lt;/td&gt;? \xc3\xa9 &amp; &#39;c&#39; \\</td>"
             "<td class=number data-label=parent><a href=\"#p100\">100</a></td>");
  check_list("", NULL, html,
             "data-label=heap>off</td><td class=number data-label=threads>1,234</td>");
  check_list("", NULL, html,
             "<a href=\"pid/205/debug/pprof/\">index</a>"
             "<a href=\"pid/205/debug/pprof/view/heap\">heap</a>"
             "<a href=\"pid/205/debug/pprof/view/profile\">cpu</a>"
             "<a href=\"pid/205/debug/pprof/view/wall\">wall</a>"
             "<a href=\"pid/205/debug/pprof/view/mutex\">locks</a>"
             "<a href=\"pid/205/debug/pprof/view/goroutine#view=threads\">threads</a>");
  check_list("", NULL, html,
             "<tr id=p4194304><td class=number data-label=pid>4194304</td><td class=name>?</td><td "
             "class=command colspan=5>did not answer");
  stub_process_tree.refused = 2;
  stub_process_tree.refusal = "process 9 of user <33>";
  check_list("format=json", NULL, json,
             "\"refused\":2,\"last_refusal\":\"process 9 of user <33>\"}");
  check_list("", NULL, html,
             "<div class=warn>Not let in to share the port: 2; the last: process 9 of user "
             "&lt;33&gt;</div>");
  check_page(NULL, "/debug/pprof/", true,
             "<li>Not let in to share the port: 2; the last: process 9 of user &lt;33&gt;</li>");
  check_page(NULL, "/debug/pprof/health", true,
             "\"process_tree\":{\"role\":\"holder\",\"processes\":3,\"refused\":2,\"last_refusal\":"
             "\"process 9 of user <33>\",\"not_shared_because\":null}");
  stub_process_tree.refused = 0;
  stub_process_tree.fault = "another's <name>";
  check_page(NULL, "/debug/pprof/", true,
             "<li>Other processes cannot share this port: another&#39;s &lt;name&gt;</li>");
  check_page(NULL, "/debug/pprof/health", true,
             "\"refused\":0,\"last_refusal\":null,\"not_shared_because\":\"another's <name>\"}");
  stub_process_tree.fault = NULL;
  stub_process_tree.count = 0;
  struct http_response response = {0};
  stub_http_handle(&response, "GET", "/", "", "", 0);
  CHECK(response.status == 500 &&
        strcmp(response.body.bytes, "the processes cannot be listed: no memory\n") == 0);
  stub_http_release(&response);
  prepare_tree();
}

/* Below /pid/N/ a process answers as it does without, and every way on stays below it. */
static void test_below_a_process(void) {
  static const struct {
    const char *path;
    int status;
    const char *header, *body;
  } requests[] = {{"/", 302, "Location: /pid/12/debug/pprof/?x=1\r\n",
                   "<a href=\"/pid/12/debug/pprof/\">Found</a>.\n\n"},
                  {"/debug/pprof", 301, "Location: /pid/12/debug/pprof/?x=1\r\n",
                   "<a href=\"/pid/12/debug/pprof/\">Moved Permanently</a>.\n\n"},
                  {"/debug/pprof/heap", 200, "filename=\"heap\"", "\x1f\x8b"},
                  {"/pid/12/", 404, "X-Go-Pprof: 1", "404 page not found\n"},
                  {"/debug/pprof/", 200, "", "<!doctype html>"}};
  for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
    struct http_response response = {.prefix = "/pid/12"};
    stub_http_handle(&response, "GET", requests[i].path, "x=1", "", 0);
    bool ok = response.ended && response.status == requests[i].status &&
              strstr(response.headers, requests[i].header) &&
              strncmp(response.body.bytes, requests[i].body, strlen(requests[i].body)) == 0;
    CHECK(ok);
    if (!ok)
      fprintf(stderr, "FAILED %s: %d [%s] %.200s\n", requests[i].path, response.status,
              response.headers, response.body.bytes);
    stub_http_release(&response);
  }
}

static void test_index_page_in_a_tree(void) {
  char words[96];
  snprintf(words, sizeof words,
           "<p>Process %d holds the port that 3 processes share: <a href=\"../../\">all "
           "processes</a></p>",
           (int)getpid());
  check_page(NULL, "/debug/pprof/", true, words);
  check_page("/pid/12", "/debug/pprof/", true, "<a href=\"../../../../\">all processes</a></p>");
  check_page("/pid/12", "/debug/pprof/", true,
             "&lt;script&gt;/pid/12/debug/pprof/goroutine?debug=2</pre>");
  stub_process_tree.role = TREE_MEMBER;
  snprintf(words, sizeof words, "<p>Process %d shares its port with others: ", (int)getpid());
  check_page("/pid/12", "/debug/pprof/", true, words);
  check_page(NULL, "/debug/pprof/health", true,
             "\"process_tree\":{\"role\":\"member\"},\"tls\":{\"listen_address\":\"\",\"off_"
             "reason\":null}");
  stub_process_tree.role = TREE_HOLDER;
  stub_process_tree.count = 1;
  check_page(NULL, "/debug/pprof/", false, "all processes");
  prepare_tree();
  stub_process_tree.tls_address = "0.0.0.0:6443";
  check_page(NULL, "/debug/pprof/", true,
             ", for clients with a certificate on <span class=mono>0.0.0.0:6443</span></dd>");
  stub_process_tree.tls_address = "";
  stub_process_tree.tls_off_reason = "no <key>";
  check_page(NULL, "/debug/pprof/", true, "<li>Remote admin is off: no &lt;key&gt;</li>");
  stub_process_tree.tls_off_reason = NULL;
}

int main(void) {
  fixture_small(524288, false);
  prepare_tree();
  test_process_list();
  test_below_a_process();
  test_index_page_in_a_tree();
  fixture_release();
  return failures != 0;
}

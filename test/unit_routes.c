/* links: test/stub_http_server.c test/fixture_profile.c test/stub_tables.c test/stub_threads.c
 *      test/stub_process_tree.c test/agent_memory_libc.c test/stub_announced_code.c
 *      test/stub_trace.c */
/* Every endpoint: status, headers, texts and the order of the checks, as Go's net/http/pprof has
 * them. */
#include "agent/pages/routes.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "agent/http/query.h"
#include "shim/base/config.h"
#include "shim/base/counters.h"
#include "fixture_profile.h"
#include "profile.pb-c.h"
#include "stub_http_server.h"
#include "stub_process_tree.h"
#include "stub_threads.h"
#include "check.h"

#define TEXT "text/plain; charset=utf-8"
#define HTML "text/html; charset=utf-8"
#define BINARY "application/octet-stream"
#define NOT_SECONDS "invalid value for \"seconds\" - must be a positive integer\n"
#define NOT_HZ "invalid value for \"hz\" - must be an integer from 1 to 1000\n"
#define INCOMPATIBLE "seconds and debug params are incompatible\n"

static const struct {
  const char *method, *path, *query;
  int status;
  const char *content_type, *header, *body; /* header: a substring of the extra headers; body: whole
                                               for errors, else its beginning */
} cases[] = {
    {"GET", "/debug/pprof/", "", 200, HTML, "Content-Security-Policy: default-src 'none'",
     "<!doctype html>"},
    {"GET", "/debug/pprof", "", 301, HTML, "Location: /debug/pprof/\r\n",
     "<a href=\"/debug/pprof/\">Moved Permanently</a>.\n\n"},
    {"GET", "/", "", 200, HTML, "Content-Security-Policy: default-src 'none'", "<!doctype html>"},
    {"GET", "/", "format=json", 200, "application/json", "", "{\"processes\":[{\"pid\":100,"},
    {"GET", "/", "format=html", 200, HTML, "", "<!doctype html>"},
    {"POST", "/", "", 404, TEXT, "X-Go-Pprof: 1", "404 page not found\n"},
    {"GET", "/pid/77/debug/pprof/heap", "", 404, TEXT, "X-Go-Pprof: 1",
     "no process 77 under the agent on this port\n"},
    {"GET", "/pid/77", "", 404, TEXT, "X-Go-Pprof: 1",
     "no process 77 under the agent on this port\n"},
    {"GET", "/pid/077/", "", 404, TEXT, "X-Go-Pprof: 1", "404 page not found\n"},
    {"GET", "/pid/", "", 404, TEXT, "X-Go-Pprof: 1", "404 page not found\n"},
    {"GET", "/favicon.ico", "", 404, TEXT, "X-Go-Pprof: 1", "404 page not found\n"},
    {"GET", "/debug/pprof/<script>scripty<script>", "", 404, TEXT, "X-Go-Pprof: 1",
     "Unknown profile\n"},
    {"GET", "/debug/pprof/heap/", "", 404, TEXT, "X-Go-Pprof: 1", "Unknown profile\n"},
    {"GET", "/debug/pprof/heap", "", 200, BINARY,
     "Content-Disposition: attachment; filename=\"heap\"\r\n", "\x1f\x8b"},
    {"GET", "/debug/pprof/allocs", "gc=1", 200, BINARY,
     "Content-Disposition: attachment; filename=\"allocs\"\r\n", "\x1f\x8b"},
    {"GET", "/debug/pprof/heap", "debug=1", 200, TEXT, "",
     "heap profile: 20: 3149108 [36: 5279396] @ heap/1048576\n"},
    {"GET", "/debug/pprof/heap", "debug=2&gc=1", 200, TEXT, "", "heap profile: "},
    {"GET", "/debug/pprof/allocs", "debug=%31", 200, TEXT, "", "heap profile: "},
    {"GET", "/debug/pprof/allocs", "debug=99999999999999999999", 200, TEXT, "", "heap profile: "},
    {"GET", "/debug/pprof/heap", "debug=0", 200, BINARY, "filename=\"heap\"", "\x1f\x8b"},
    {"GET", "/debug/pprof/heap", "debug=-1", 200, BINARY, "filename=\"heap\"", "\x1f\x8b"},
    {"GET", "/debug/pprof/heap", "debug=1x", 200, BINARY, "filename=\"heap\"", "\x1f\x8b"},
    {"GET", "/debug/pprof/heap", "debug=0&debug=1", 200, BINARY, "filename=\"heap\"", "\x1f\x8b"},
    {"GET", "/debug/pprof/heap", "seconds=&debug=1", 200, TEXT, "", "heap profile: "},
    {"GET", "/debug/pprof/nothing", "seconds=x&debug=1", 404, TEXT, "X-Go-Pprof: 1",
     "Unknown profile\n"},
    {"GET", "/debug/pprof/heap", "seconds=x&debug=1", 400, TEXT, "X-Go-Pprof: 1", NOT_SECONDS},
    {"GET", "/debug/pprof/heap", "seconds=0", 400, TEXT, "X-Go-Pprof: 1", NOT_SECONDS},
    {"GET", "/debug/pprof/heap", "seconds=-5", 400, TEXT, "X-Go-Pprof: 1", NOT_SECONDS},
    {"GET", "/debug/pprof/heap", "seconds=1.5", 400, TEXT, "X-Go-Pprof: 1", NOT_SECONDS},
    {"GET", "/debug/pprof/heap", "seconds=9223372036854775808", 400, TEXT, "X-Go-Pprof: 1",
     NOT_SECONDS},
    {"GET", "/debug/pprof/heap",
     "seconds=000000000000000000000000000000000000000000000000000000000000000000000001", 400, TEXT,
     "", NOT_SECONDS},
    {"GET", "/debug/pprof/allocs", "debug=1&seconds=1", 400, TEXT, "X-Go-Pprof: 1", INCOMPATIBLE},
    {"GET", "/debug/pprof/allocs", "seconds=99999&debug=1", 400, TEXT, "X-Go-Pprof: 1",
     INCOMPATIBLE},
    {"GET", "/debug/pprof/allocs", "seconds=3601", 400, TEXT, "X-Go-Pprof: 1",
     "invalid value for \"seconds\" - must not exceed 3600\n"},
    {"GET", "/debug/pprof/heap", "seconds=3600", 200, BINARY, "attachment; filename=\"heap-delta\"",
     "\x1f\x8b"},
    {"GET", "/debug/pprof/allocs", "seconds=%2B2&gc=1&debug=0", 200, BINARY,
     "attachment; filename=\"allocs-delta\"", "\x1f\x8b"},
    {"GET", "/debug/pprof/cmdline", "", 200, TEXT, "", ""},
    {"GET", "/debug/pprof/symbol", "", 200, TEXT, "", "num_symbols: 1\n"},
    {"GET", "/debug/pprof/symbol",
     "0x40100f+0X40110f+4198415+0x1+0x7f000000101f+x++0xffffffffffffffffff", 200, TEXT, "",
     "num_symbols: 1\n0x40100f main\n0x40110f inner\n0x40100f main\n0x7f000000101f foo_alloc\n"},
    {"GET", "/debug/pprof/health", "", 200, "application/json", "", "{\"version\":\""},
    {"GET", "/debug/pprof/profile", "seconds=1", 200, BINARY, "attachment; filename=\"profile\"",
     "\x1f\x8b"},
    {"GET", "/debug/pprof/profile", "seconds=3600&hz=1000&debug=2", 200, BINARY,
     "attachment; filename=\"profile\"", "\x1f\x8b"},
    {"GET", "/debug/pprof/profile", "seconds=0&hz=", 200, BINARY,
     "attachment; filename=\"profile\"", "\x1f\x8b"},
    {"GET", "/debug/pprof/profile", "seconds=9223372036854775808", 200, BINARY, "", "\x1f\x8b"},
    {"GET", "/debug/pprof/profile", "seconds=3601", 503, TEXT, "X-Go-Pprof: 1",
     "a CPU profile takes at most 3600 seconds: ask for fewer\n"},
    {"GET", "/debug/pprof/profile", "seconds=1&hz=0", 400, TEXT, "X-Go-Pprof: 1", NOT_HZ},
    {"GET", "/debug/pprof/profile", "seconds=1&hz=1001", 400, TEXT, "X-Go-Pprof: 1", NOT_HZ},
    {"GET", "/debug/pprof/profile", "seconds=3601&hz=100.0", 400, TEXT, "X-Go-Pprof: 1", NOT_HZ},
    {"GET", "/debug/pprof/profile",
     "hz=000000000000000000000000000000000000000000000000000000000000000000000001", 400, TEXT, "",
     NOT_HZ},
    {"GET", "/debug/pprof/goroutine", "", 200, BINARY, "attachment; filename=\"goroutine\"",
     "\x1f\x8b"},
    {"GET", "/debug/pprof/goroutine", "debug=1", 200, TEXT, "",
     "goroutine profile: total 3\n2 @ 0x7f0000001020 0x401010\n# labels: {\"state\":\"IO wait\", "
     "\"thread_name\":\"worker\"}\n"
     "#\t0x7f000000101f\tfoo_alloc+0x1f\t/nonexistent/libfoo.so.1:0\n#\t0x40100f\tmain+0xf\t/src/"
     "main.c:10\n\n"
     "1 @ 0x401210 0x401110 0x401010\n# labels: {\"state\":\"running\", "
     "\"thread_name\":\"worker\"}\n"},
    {"GET", "/debug/pprof/goroutine", "debug=1&tid=1", 200, TEXT, "",
     "goroutine profile: total 3\n1 @ 0x401210 0x401110 0x401010\n# labels: "
     "{\"state\":\"running\", \"thread_name\":\"worker\", \"tid\":\"100\"}\n"},
    {"GET", "/debug/pprof/goroutine", "debug=2", 200, TEXT, "", "# pid "},
    {"GET", "/debug/pprof/thread", "debug=1", 200, TEXT, "", "goroutine profile: total 3\n"},
    {"GET", "/debug/pprof/thread", "", 200, BINARY, "attachment; filename=\"thread\"", "\x1f\x8b"},
    {"GET", "/debug/pprof/peak", "", 200, BINARY, "attachment; filename=\"peak\"", "\x1f\x8b"},
    {"GET", "/debug/pprof/peak", "debug=1&reset=0", 200, TEXT, "",
     "heap profile: 0: 0 [36: 5279396] @ heap/1048576\n"},
    {"GET", "/debug/pprof/peak", "seconds=5", 400, TEXT, "X-Go-Pprof: 1",
     "\"seconds\" parameter is not supported for this profile type\n"},
    {"GET", "/debug/pprof/peak", "seconds=x", 400, TEXT, "X-Go-Pprof: 1", NOT_SECONDS},
    {"GET", "/debug/pprof/goroutineleak", "", 200, BINARY, "attachment; filename=\"goroutineleak\"",
     "\x1f\x8b"},
    {"GET", "/debug/pprof/goroutineleak", "debug=1", 200, TEXT, "",
     "goroutineleak profile: total 0\n"},
    {"GET", "/debug/pprof/goroutineleak", "debug=2", 200, TEXT, "", "# pid "},
    {"GET", "/debug/pprof/goroutineleak", "seconds=1", 200, BINARY,
     "attachment; filename=\"goroutineleak-delta\"", "\x1f\x8b"},
    {"GET", "/debug/pprof/deadlock", "debug=1", 200, TEXT, "", "goroutineleak profile: total 0\n"},
    {"GET", "/debug/pprof/deadlock", "seconds=1&debug=2", 400, TEXT, "X-Go-Pprof: 1", INCOMPATIBLE},
    {"GET", "/debug/pprof/goroutine", "seconds=1", 200, BINARY,
     "attachment; filename=\"goroutine-delta\"", "\x1f\x8b"},
    {"GET", "/debug/pprof/goroutine", "seconds=x&debug=2", 400, TEXT, "X-Go-Pprof: 1", NOT_SECONDS},
    {"GET", "/debug/pprof/thread", "seconds=1&debug=2", 400, TEXT, "X-Go-Pprof: 1", INCOMPATIBLE},
    {"GET", "/debug/pprof/threadcreate", "", 200, BINARY, "attachment; filename=\"threadcreate\"",
     "\x1f\x8b"},
    {"GET", "/debug/pprof/threadcreate", "debug=1", 200, TEXT, "",
     "threadcreate profile: total 7\n4 @ 0x401210 0x401110 0x401010\n# labels: "
     "{\"state\":\"ended\"}\n"},
    {"GET", "/debug/pprof/threadcreate", "debug=2", 200, TEXT, "",
     "threadcreate profile: total 7\n"},
    {"GET", "/debug/pprof/threadcreate", "seconds=2", 200, BINARY,
     "attachment; filename=\"threadcreate-delta\"", "\x1f\x8b"},
    {"GET", "/debug/pprof/block", "", 200, BINARY, "attachment; filename=\"block\"", "\x1f\x8b"},
    {"GET", "/debug/pprof/block", "debug=1", 200, TEXT, "",
     "--- contention:\ncycles/second=1000000000\n123456789 0 @ 0x7f0000001020 "
     "0x401010\n#\t0x7f000000101f\tfoo_alloc+0x1f\t"},
    {"GET", "/debug/pprof/block", "debug=2", 200, TEXT, "", "--- contention:\n"},
    {"GET", "/debug/pprof/block", "seconds=2", 200, BINARY, "attachment; filename=\"block-delta\"",
     "\x1f\x8b"},
    {"GET", "/debug/pprof/block", "seconds=2&debug=1", 400, TEXT, "X-Go-Pprof: 1", INCOMPATIBLE},
    {"GET", "/debug/pprof/mutex", "debug=0", 200, BINARY, "attachment; filename=\"mutex\"",
     "\x1f\x8b"},
    {"GET", "/debug/pprof/mutex", "debug=1", 200, TEXT, "",
     "--- mutex:\ncycles/second=1000000000\nsampling period=1\n4503599627370496 0 @ 0x7f0000006000 "
     "0x401010 0x3\n"},
    {"GET", "/debug/pprof/mutex", "seconds=2", 200, BINARY, "attachment; filename=\"mutex-delta\"",
     "\x1f\x8b"},
    {"GET", "/debug/pprof/mutex", "seconds=-2", 400, TEXT, "X-Go-Pprof: 1", NOT_SECONDS},
    {"GET", "/debug/pprof/trace", "seconds=0.25", 200, BINARY, "attachment; filename=\"trace\"",
     "go 1.11 trace"},
    {"GET", "/debug/pprof/trace", "seconds=x&format=", 200, BINARY,
     "attachment; filename=\"trace\"", "go 1.11 trace"},
    {"GET", "/debug/pprof/trace", "seconds=-1", 200, BINARY, "attachment; filename=\"trace\"",
     "go 1.11 trace"},
    {"GET", "/debug/pprof/trace", "seconds=3600.5", 503, TEXT, "X-Go-Pprof: 1",
     "a trace takes at most 3600 seconds: ask for fewer\n"},
    {"GET", "/debug/pprof/trace", "format=perf&seconds=4000", 400, TEXT, "X-Go-Pprof: 1",
     "invalid value for \"format\" - must be go, go22, perfetto or json\n"},
    {"GET", "/debug/pprof/trace", "seconds=3601&hz=1001", 400, TEXT, "X-Go-Pprof: 1",
     "invalid value for \"hz\" - must be an integer from 0 to 1000\n"},
    {"GET", "/debug/pprof/trace", "seconds=0.1&hz=-1", 400, TEXT, "X-Go-Pprof: 1",
     "invalid value for \"hz\" - must be an integer from 0 to 1000\n"},
    {"GET", "/debug/pprof/trace", "seconds=0.1&hz=0", 200, BINARY, "attachment; filename=\"trace\"",
     "go 1.11 trace"},
    {"POST", "/debug/pprof/heap", "", 405, TEXT, "X-Go-Pprof: 1",
     "only symbol and rates take a POST\n"},
};

static bool is_error(int status) { return status >= 400; }

static void run_case(size_t i, const char *method) {
  struct http_response response = {.wait_result = true};
  bool head = strcmp(method, "HEAD") == 0;
  stub_http_handle(&response, method, cases[i].path, cases[i].query, "", 0);
  const char *body = response.body.bytes ? response.body.bytes : "";
  bool ok = response.ended && response.status == cases[i].status &&
            strcmp(response.content_type, cases[i].content_type) == 0 &&
            strstr(response.headers, cases[i].header);
  if (head) ok = ok && response.body.size == 0 && response.waited_ns == 0;
  else if (is_error(cases[i].status))
    ok = ok && strcmp(body, cases[i].body) == 0 &&
         response.content_length == (long long)strlen(body);
  else ok = ok && strncmp(body, cases[i].body, strlen(cases[i].body)) == 0;
  if (is_error(cases[i].status)) ok = ok && !strstr(response.headers, "Disposition");
  if (!ok) {
    failures++;
    fprintf(stderr, "FAILED %s %s?%s: %d %s [%s] %.200s\n", method, cases[i].path, cases[i].query,
            response.status, response.content_type, response.headers, body);
  }
  stub_http_release(&response);
}

static Perftools__Profiles__Profile *parse_gzip(const struct memory_sink *sink) {
  static uint8_t plain[1 << 16];
  z_stream stream = {.next_in = (uint8_t *)sink->bytes,
                     .avail_in = (uInt)sink->size,
                     .next_out = plain,
                     .avail_out = sizeof plain};
  if (inflateInit2(&stream, 15 + 16) != Z_OK) return NULL;
  int result = inflate(&stream, Z_FINISH);
  inflateEnd(&stream);
  return result == Z_STREAM_END
             ? perftools__profiles__profile__unpack(NULL, stream.total_out, plain)
             : NULL;
}

static void test_symbol_post(void) {
  static const char body[] = "0x40100f+0x40110f";
  struct http_response response = {0};
  stub_http_handle(&response, "POST", "/debug/pprof/symbol", "0x7f000000101f", body, strlen(body));
  CHECK(response.status == 200 &&
        strcmp(response.body.bytes, "num_symbols: 1\n0x40100f main\n0x40110f inner\n") == 0);
  stub_http_release(&response);
}

static void test_rates_post(void) {
  static const struct {
    const char *body;
    int status;
    bool is_foreign;
    uid_t client;
    const char *answer;
  } posts[] = {
      {"block=7", 200, false, 0, "{\"memprofilerate\":524288,\"block\":7,\"mutex\":10}\n"},
      {"mutex=2k&memprofilerate=1", 200, false, 1000,
       "{\"memprofilerate\":1,\"block\":7,\"mutex\":2048}\n"},
      {"block=1", 403, true, 1000, "rates are not changed by a page of another origin\n"},
      {"block=1", 403, false, 1001, "rates are changed by the process's owner and by root alone\n"},
      {"block=1&mutex=-2", 400, false, 0,
       "invalid value for \"mutex\" - must be a number from 0 to 1099511627776 (k, M, G "
       "allowed)\n"},
      {"Block=1", 400, false, 0, "none is given - of memprofilerate, block and mutex\n"},
      {"memprofilerate=524288&block=100000&mutex=10", 200, false, 0,
       "{\"memprofilerate\":524288,\"block\":100000,\"mutex\":10}\n"},
  };
  for (size_t i = 0; i < sizeof posts / sizeof *posts; i++) {
    struct http_response response = {.is_foreign = posts[i].is_foreign, .client = posts[i].client};
    stub_http_handle(&response, "POST", "/debug/pprof/rates", "mutex=9", posts[i].body,
                     strlen(posts[i].body));
    CHECK(response.status == posts[i].status && strcmp(response.body.bytes, posts[i].answer) == 0);
    stub_http_release(&response);
  }
}

static void test_client_goes_away(void) {
  struct http_response response = {.wait_result = false};
  stub_http_handle(&response, "GET", "/debug/pprof/heap", "seconds=7", "", 0);
  CHECK(response.status == 500 && strcmp(response.body.bytes, "context canceled\n") == 0);
  CHECK(response.waited_ns > 6900000000 && response.waited_ns <= 7000000000);
  stub_http_release(&response);
  struct http_response cut = {.refuse_after =
                                  100}; /* a body that broke off is not ended as if it were whole */
  stub_http_handle(&cut, "GET", "/debug/pprof/heap", "debug=1", "", 0);
  CHECK(cut.status == 200 && !cut.ended);
  stub_http_release(&cut);
}

static int nested;
static void request_while_waiting(void) {
  struct http_response response = {.wait_result = true,
                                   .during_wait = ++nested < 5 ? request_while_waiting : NULL};
  stub_http_handle(&response, "GET", "/debug/pprof/heap", "seconds=1", "", 0);
  CHECK(response.status == (nested == 5 && response.waited_ns == 0 ? 503 : 200));
  if (response.status == 503) CHECK(strstr(response.body.bytes, "at most 4 at once"));
  stub_http_release(&response);
}

static void test_concurrent_deltas(void) {
  nested = 0;
  request_while_waiting();
  CHECK(nested == 5);
  struct http_response response = {.wait_result = true}; /* the places are free again */
  stub_http_handle(&response, "GET", "/debug/pprof/heap", "seconds=1", "", 0);
  CHECK(response.status == 200);
  stub_http_release(&response);
}

static void test_heap_off(void) {
  uint32_t buckets = stub.bucket_count;
  stub.bucket_count = 0;
  stub.heap_off_reason = "the program brings <its own> allocator";
  struct http_response response = {0};
  stub_http_handle(&response, "GET", "/debug/pprof/heap", "", "", 0);
  CHECK(response.status == 503);
  CHECK(strcmp(response.body.bytes,
               "heap profiling is off: the program brings <its own> allocator\n") == 0);
  stub_http_release(&response);
  struct http_response page = {0};
  stub_http_handle(&page, "GET", "/debug/pprof/", "", "", 0);
  CHECK(strstr(page.body.bytes,
               "Heap and allocs are off: the program brings &lt;its own&gt; allocator</li>"));
  CHECK(!strstr(page.body.bytes, "<a href='heap"));
  stub_http_release(&page);
  stub.heap_off_reason = NULL;
  stub.bucket_count = buckets;
}

static int status_of(const char *path, const char *query, const char *body) {
  struct http_response response = {.wait_result = true};
  stub_http_handle(&response, "GET", path, query, "", 0);
  int status = response.status;
  if (body && strcmp(response.body.bytes, body) != 0) status = -status;
  stub_http_release(&response);
  return status;
}

/* One kind off and never used, the other switched off after it had been used: what it found stays.
 */
static void test_contention_off(void) {
  static struct contention_view only_mutex[] = {{CONTENTION_MUTEX, 1, 2, 50}};
  struct contention_view *contention = stub.contention;
  uint32_t count = stub.contention_count;
  stub.contention = only_mutex;
  stub.contention_count = 1;
  stub.block_off_reason = stub.mutex_off_reason = "a <filter>";
  CHECK(status_of("/debug/pprof/block", "", "block profiling is off: a <filter>\n") == 503);
  CHECK(status_of("/debug/pprof/block", "debug=1", "block profiling is off: a <filter>\n") == 503);
  CHECK(status_of("/debug/pprof/block", "seconds=5", "block profiling is off: a <filter>\n") ==
        503);
  CHECK(status_of("/debug/pprof/block", "seconds=x", NOT_SECONDS) == 400);
  CHECK(status_of("/debug/pprof/mutex", "", NULL) == 200 &&
        status_of("/debug/pprof/mutex", "seconds=1", NULL) == 200);
  struct http_response page = {0};
  stub_http_handle(&page, "GET", "/debug/pprof/", "", "", 0);
  CHECK(strstr(page.body.bytes, "<li>Block and mutex are off: a &lt;filter&gt;</li>") &&
        !strstr(page.body.bytes, "<a href='block"));
  CHECK(strstr(
      page.body.bytes,
      "on average\nblock: off\nmutex: off</dd>")); /* what is in force, not what was asked for */
  CHECK(strstr(page.body.bytes, "<tr><td>1</td><td><a href='mutex?debug=1'>mutex</a></td></tr>") &&
        strstr(page.body.bytes, "was switched off"));
  stub_http_release(&page);
  struct http_response health = {0};
  stub_http_handle(&health, "GET", "/debug/pprof/health", "", "", 0);
  CHECK(
      strstr(health.body.bytes, "\"block\":{\"on\":false,\"reason\":\"a <filter>\",\"count\":0}"));
  CHECK(
      strstr(health.body.bytes, "\"mutex\":{\"on\":false,\"reason\":\"a <filter>\",\"count\":1}"));
  stub_http_release(&health);
  stub.mutex_off_reason = "another";
  struct http_response apart = {0};
  stub_http_handle(&apart, "GET", "/debug/pprof/", "", "", 0);
  CHECK(strstr(apart.body.bytes, "<li>Block is off: a &lt;filter&gt;</li>") &&
        strstr(apart.body.bytes, "<li>Mutex is off: another</li>"));
  stub_http_release(&apart);
  stub.block_off_reason = stub.mutex_off_reason = NULL;
  stub.contention = contention;
  stub.contention_count = count;
}

static void check_page_says(const char *path, const char *words) {
  struct http_response page = {0};
  stub_http_handle(&page, "GET", path, "", "", 0);
  CHECK(strstr(page.body.bytes, words));
  if (!strstr(page.body.bytes, words)) fprintf(stderr, "FAILED no '%s' on %s\n", words, path);
  stub_http_release(&page);
}

static void test_rates_are_told(void) {
  static const struct {
    uint64_t block, mutex;
    const char *words;
  } cases[] = {{100000, 10,
                "block: every wait of 100 &micro;s or more, one per that much of the shorter ones "
                "on average\nmutex: one in 10 waits for a lock on average</dd>"},
               {1, 1, "block: every wait\nmutex: every wait for a lock</dd>"},
               {0, 0, "block: off\nmutex: off</dd>"},
               {1500, 1000000,
                "block: every wait of 1,500 ns or more, one per that much of the shorter ones on "
                "average\nmutex: one in 1,000,000 waits for a lock on average</dd>"},
               {UINT64_C(3000000000), 2, "block: every wait of 3 s or more, "}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    config.blockprofile_rate = cases[i].block;
    config.mutexprofile_fraction = cases[i].mutex;
    check_page_says("/debug/pprof/", cases[i].words);
  }
  config.blockprofile_rate = 100000;
  config.mutexprofile_fraction = 10;
  check_page_says("/debug/pprof/", "heap: one allocation per 512 KiB on average\nblock: ");
  check_page_says("/debug/pprof/health",
                  "\"contention\":{\"used\":10,\"limit\":65536},\"lock_waiters\":{\"used\":9,"
                  "\"limit\":131072},");
  check_page_says("/debug/pprof/health", "\"lock_waits\":{\"waiting_now\":2,");
  check_page_says("/debug/pprof/health", "\"contention_table\":65536,\"lock_waiters\":131072,");
}

/* A delta of waits: what came while it waited, and nothing else. */
static void change_waits(void) { fixture_contention_later(); }
static void test_contention_delta(void) {
  struct http_response response = {.wait_result = true, .during_wait = change_waits};
  stub_http_handle(&response, "GET", "/debug/pprof/block", "seconds=3", "", 0);
  CHECK(response.status == 200 && response.waited_ns > 2900000000 &&
        response.waited_ns <= 3000000000);
  Perftools__Profiles__Profile *p = parse_gzip(&response.body);
  CHECK(p && p->n_sample == 2);
  int64_t counts = 0, delays = 0;
  for (size_t i = 0; p && i < p->n_sample; i++)
    counts += p->sample[i]->value[0], delays += p->sample[i]->value[1];
  CHECK(counts == 3 && delays == 340);
  if (p) perftools__profiles__profile__free_unpacked(p, NULL);
  stub_http_release(&response);
  struct http_response gone = {.wait_result = false};
  stub_http_handle(&gone, "GET", "/debug/pprof/mutex", "seconds=5", "", 0);
  CHECK(gone.status == 500 && strcmp(gone.body.bytes, "context canceled\n") == 0 &&
        stub.sessions == 0);
  stub_http_release(&gone);
  fixture_contention();
}

static void test_index_page(void) {
  snprintf(config.faults[0], CONFIG_FAULT_LENGTH, "PPROFAGENT_X: <b>bad</b>");
  config.fault_count = 1;
  atomic_store(&shim_counters.heap_lost_no_memory, 1234567);
  struct http_response page = {0};
  stub_http_handle(&page, "GET", "/debug/pprof/", "", "", 0);
  const char *html = page.body.bytes;
  CHECK(strstr(html, "<tr><td>9</td><td><a href='allocs?debug=1'>allocs</a></td></tr>\n"));
  CHECK(strstr(html, "<tr><td>9</td><td><a href='heap?debug=1'>heap</a></td></tr>\n"));
  CHECK(strstr(html, "<thead><td>Count</td><td>Profile</td></thead>\n") &&
        strstr(html, "Types of profiles available:"));
  CHECK(strstr(html, "<li><div class=profile-name>heap: </div> ") &&
        strstr(html, "Profile Descriptions:"));
  CHECK(strstr(html, "<tr><td>3</td><td><a href='goroutine?debug=1'>goroutine</a></td></tr>\n"));
  CHECK(strstr(html,
               "<tr><td>7</td><td><a href='threadcreate?debug=1'>threadcreate</a></td></tr>\n"));
  CHECK(strstr(html, "<tr><td>7</td><td><a href='block?debug=1'>block</a></td></tr>\n"));
  CHECK(strstr(html, "<tr><td>3</td><td><a href='mutex?debug=1'>mutex</a></td></tr>\n") &&
        strstr(html, "<a href='trace?seconds=5' download>next 5 s</a>"));
  CHECK(strstr(html, "<li><b>It hangs</b> <span><a href='view/goroutine#view=threads'>") &&
        strstr(html, "<tr class=\"about uncounted\">") && !strstr(html, "trace?last="));
  CHECK(strstr(html, "<a href='mutex?seconds=10' download>next 10 s</a>") &&
        strstr(html, "<div class=profile-name>block: </div> Stack traces that led to blocking"));
  CHECK(strstr(html, "<tr><td>0</td><td><a href='profile'>profile</a></td></tr>\n") &&
        !strstr(html, ">thread</a>"));
  CHECK(strstr(html, "<a href=\"goroutine?debug=2\">full goroutine stack dump</a>"));
  CHECK(!strstr(html, "<script>") && !strstr(html, "<b>bad"));
  CHECK(strstr(html, "PPROFAGENT_X: &lt;b&gt;bad") &&
        strstr(html, "<b>1,234,567</b> sampled allocations dropped"));
  CHECK(strstr(html, "/usr/lib/libjemalloc.so.2") &&
        strstr(html, "one allocation per 512 KiB on average"));
  stub_http_release(&page);
  config.fault_count = 0;
  atomic_store(&shim_counters.heap_lost_no_memory, 0);
}

/* Nothing is installed or armed because somebody looks. */
static void test_index_page_asks_for_no_signal(void) {
  static const char *const paths[] = {"/debug/pprof/", "/debug/pprof/health",
                                      "/debug/pprof/goroutine", "/debug/pprof/threadcreate"};
  for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
    struct http_response response = {0};
    stub_http_handle(&response, "GET", paths[i], "", "", 0);
    CHECK(response.status == 200);
    stub_http_release(&response);
  }
  CHECK(!stub_threads.handler_installed && stub_threads.periods_set == 0);
}

static void prepare_threads(void) {
  stub_threads.count = 3;
  stub_threads.created = 7;
  stub_threads.ended = 5;
  stub_threads.created_stack_count = 2;
  stub_threads.created_stacks[0] = (struct threadcreate_view){.stack = 1, .created = 6, .ended = 4};
  stub_threads.created_stacks[1] = (struct threadcreate_view){.stack = 2, .created = 1, .ended = 1};
}

/* A HEAD neither samples nor dumps; nor does a refused request. */
static void test_head_does_no_work(void) {
  unsigned dumps = stub_threads.dumps_taken, periods = stub_threads.periods_set;
  static const char *const requests[][2] = {{"profile", "seconds=30"},  {"goroutine", "debug=2"},
                                            {"goroutine", "seconds=9"}, {"threadcreate", ""},
                                            {"block", "seconds=9"},     {"mutex", "debug=1"}};
  for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
    char path[64];
    snprintf(path, sizeof path, "/debug/pprof/%s", requests[i][0]);
    struct http_response response = {.wait_result = true};
    stub_http_handle(&response, "HEAD", path, requests[i][1], "", 0);
    CHECK(response.status == 200 && response.ended && response.waited_ns == 0);
    stub_http_release(&response);
  }
  CHECK(stub_threads.dumps_taken == dumps && stub_threads.periods_set == periods);
}

static void test_thread_failures(void) {
  stub_threads.dump_fails = true;
  static const char *const queries[] = {"", "debug=1", "debug=2", "seconds=1"};
  for (size_t i = 0; i < sizeof queries / sizeof *queries; i++) {
    struct http_response response = {.wait_result = true};
    stub_http_handle(&response, "GET", "/debug/pprof/goroutine", queries[i], "", 0);
    CHECK(response.status == 500 &&
          strcmp(response.body.bytes, "failed to collect profile\n") == 0);
    stub_http_release(&response);
  }
  stub_threads.dump_fails = false;
  struct http_response gone = {.wait_result = false};
  stub_http_handle(&gone, "GET", "/debug/pprof/goroutine", "seconds=5", "", 0);
  CHECK(gone.status == 500 && strcmp(gone.body.bytes, "context canceled\n") == 0 &&
        stub_threads.dumps_open == 0);
  stub_http_release(&gone);
}

static void test_cpu_profile_refused(void) {
  stub_threads.refusal = "every signal that could be used has a handler of the program's";
  struct http_response response = {.wait_result = true};
  stub_http_handle(&response, "GET", "/debug/pprof/profile", "seconds=1", "", 0);
  CHECK(response.status == 500);
  CHECK(strcmp(response.body.bytes,
               "Could not enable CPU profiling: every signal that could be used has a handler of "
               "the program's\n") == 0);
  stub_http_release(&response);
  struct http_response page = {0};
  stub_http_handle(&page, "GET", "/debug/pprof/", "", "", 0);
  CHECK(strstr(page.body.bytes, "off: every signal that could be used has") &&
        !strstr(page.body.bytes, "<a href='profile'"));
  stub_http_release(&page);
  stub_threads.refusal = NULL;
  struct http_response later = {.wait_result = true};
  stub_http_handle(&later, "GET", "/debug/pprof/profile", "seconds=1", "", 0);
  CHECK(later.status == 200 && stub_threads.period == 0);
  stub_http_release(&later);
}

int main(void) {
  fixture_small(524288, false);
  fixture_contention();
  prepare_threads();
  stub_process_tree.count = 1;
  stub_process_tree.entries[0] = (struct process_entry){.pid = 100, .answered = true};
  test_index_page_asks_for_no_signal();
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    run_case(i, cases[i].method);
    if (strcmp(cases[i].method, "GET") == 0) run_case(i, "HEAD");
  }
  test_symbol_post();
  test_rates_post();
  test_client_goes_away();
  test_concurrent_deltas();
  test_heap_off();
  test_contention_off();
  test_contention_delta();
  test_rates_are_told();
  test_index_page();
  test_head_does_no_work();
  test_thread_failures();
  test_cpu_profile_refused();
  CHECK(stub_threads.dumps_open == 0 && stub_threads.period == 0);
  CHECK(stub.sessions == 0);
  fixture_release();
  return failures != 0;
}

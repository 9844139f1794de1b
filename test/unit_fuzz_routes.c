/* links: test/stub_http_server.c test/fixture_profile.c test/stub_tables.c test/stub_threads.c
 *      test/stub_process_tree.c test/agent_memory_libc.c test/stub_announced_code.c
 *      test/stub_trace.c */
/* Random requests to random tables for a few seconds: one whole response each, nothing for the
 * sanitizers, every gzip intact. */
/* fuzz: rounds */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zlib.h>

#include "agent/pages/routes.h"
#include "shim/base/config.h"
#include "fuzz_budget.h"
#include "stub_http_server.h"
#include "stub_process_tree.h"
#include "stub_threads.h"

enum { MAX_STACKS = 24, MAX_BUCKETS = 40, MAX_CONTENTION = 30, MAX_SYMBOLS = 12, TEXT_MAX = 300 };

static uint64_t state;

static uint32_t number(uint32_t below) { /* xorshift64* */
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return (uint32_t)(((state * UINT64_C(2685821657736338717)) >> 32) % below);
}

static uint64_t wide(void) {
  static const uint64_t edges[] = {
      0, 1, 2, 15, 16, 4096, UINT32_MAX, INT64_MAX, UINT64_MAX, UINT64_MAX - 1, 524288, 0x401000};
  return number(2) ? edges[number(sizeof edges / sizeof *edges)]
                   : (uint64_t)number(UINT32_MAX) << number(33);
}

static void random_text(char *out, size_t size) { /* NUL-terminated; often nasty */
  static const char nasty[] = "%&=;+?<>\"'\\\t\n\x01\x7f\xff\xc3\xe2\x82\xf0\x9f abc019x:()[]/";
  size_t length = number((uint32_t)size);
  for (size_t i = 0; i < length; i++)
    out[i] = number(3) ? nasty[number(sizeof nasty - 1)] : (char)(1 + number(255));
  out[length] = 0;
}

static char texts[MAX_SYMBOLS * STUB_SYMBOL_FRAMES * 3][TEXT_MAX],
    paths[STUB_MAX_MAPPINGS][TEXT_MAX];
static struct stub_symbol symbols[MAX_SYMBOLS];
static struct stack_view stacks[MAX_STACKS];
static uint64_t frames[MAX_STACKS][STACK_DEFAULT_FRAMES + 1];
static struct heap_bucket_view buckets[MAX_BUCKETS];
static struct contention_view contention[MAX_CONTENTION];

static const char *maybe(char *text) {
  if (number(3) == 0) return NULL;
  random_text(text, TEXT_MAX);
  return text;
}

static void random_tables(void) {
  stub.mapping_count = 1 + number(STUB_MAX_MAPPINGS);
  for (uint32_t i = 0; i < stub.mapping_count; i++) {
    random_text(paths[i], TEXT_MAX);
    uint64_t start = number(4) ? 0x1000 * (uint64_t)number(64) : wide();
    stub.mappings[i] = (struct mapping){.start = start,
                                        .limit = start + number(0x10000),
                                        .offset = wide(),
                                        .kind = number(3),
                                        .deleted = number(2),
                                        .unloaded = number(2),
                                        .first_epoch = number(4),
                                        .path = paths[i]};
    snprintf(stub.mappings[i].build_id, sizeof stub.mappings[i].build_id, "%x", number(UINT32_MAX));
  }
  stub.symbols = symbols;
  stub.symbol_count = number(MAX_SYMBOLS + 1);
  for (uint32_t i = 0; i < stub.symbol_count; i++) {
    char(*text)[TEXT_MAX] = &texts[i * STUB_SYMBOL_FRAMES * 3];
    symbols[i] = (struct stub_symbol){.start = i * 0x4000,
                                      .end = (i + 1) * 0x4000,
                                      .frame_count = number(STUB_SYMBOL_FRAMES + 1)};
    for (uint32_t f = 0; f < symbols[i].frame_count; f++) {
      const char *function = maybe(text[f * 3]);
      symbols[i].frames[f] =
          (struct symbol_frame){function, function ? maybe(text[f * 3 + 1]) : NULL,
                                maybe(text[f * 3 + 2]), number(2) ? 0 : number(UINT32_MAX)};
    }
  }
  stub.stacks = stacks;
  stub.stack_count = number(MAX_STACKS + 1);
  for (uint32_t i = 0; i < stub.stack_count; i++) {
    stacks[i] = (struct stack_view){number(STACK_DEFAULT_FRAMES + 2), number(5), frames[i]};
    if (number(2)) stacks[i].frame_count = number(6);
    for (uint32_t f = 0; f < stacks[i].frame_count; f++)
      frames[i][f] = number(5) ? number(0x40000) : wide();
  }
  stub.buckets = buckets;
  stub.bucket_count = number(MAX_BUCKETS + 1);
  for (uint32_t i = 0; i < stub.bucket_count; i++) {
    uint64_t allocs = number(8) ? number(1000) : number(UINT32_MAX);
    buckets[i] = (struct heap_bucket_view){number(MAX_STACKS + 3),
                                           wide(),
                                           number(4) ? 524288 : wide(),
                                           allocs,
                                           allocs ? number((uint32_t)allocs + 1) : 0,
                                           0};
  }
  stub.contention = contention;
  stub.contention_count = number(MAX_CONTENTION + 1);
  for (uint32_t i = 0; i < stub.contention_count; i++)
    contention[i] = (struct contention_view){number(2), number(MAX_STACKS + 3),
                                             (double)wide() / 65536, number(2) ? wide() : 0};
  stub_threads.count = number(STUB_MAX_THREADS + 1);
  stub_threads.dump_fails = number(8) == 0;
  stub_threads.refusal = number(4) ? NULL : "because";
  stub_threads.created_stack_count = number(STUB_MAX_THREADS + 1);
  for (uint32_t i = 0; i < stub_threads.created_stack_count; i++) {
    uint64_t created = number(1000);
    stub_threads.created_stacks[i] =
        (struct threadcreate_view){number(MAX_STACKS + 3), created, number((uint32_t)created + 1)};
  }
  stub_threads.created = wide();
  stub_threads.ended = wide();
  stub.heap_off_reason = number(4) ? NULL : "because <&>";
  stub.block_off_reason = number(4) ? NULL : "because";
  stub.mutex_off_reason = number(4) ? NULL : "because";
  stub_process_tree.role = number(3);
  stub_process_tree.count = number(9);
  stub_process_tree.refused = number(2);
  stub_process_tree.refusal = "because <&>";
  for (size_t i = 0; i < stub_process_tree.count; i++) {
    struct process_entry *entry = &stub_process_tree.entries[i];
    *entry = (struct process_entry){.pid = (int32_t)wide(),
                                    .parent = (int32_t)wide(),
                                    .uid = (uint32_t)wide(),
                                    .threads = (uint32_t)wide(),
                                    .heap_bytes = (int64_t)wide(),
                                    .uptime_seconds = number(UINT32_MAX),
                                    .is_holder = number(2),
                                    .answered = number(3)};
    random_text(entry->name, sizeof entry->name);
    random_text(entry->command, sizeof entry->command);
  }
  config.memprofile_rate = wide();
  config.blockprofile_rate = wide();
  config.mutexprofile_fraction = wide();
}

static bool gzip_is_whole(const struct memory_sink *sink) {
  unsigned char out[16384];
  z_stream stream = {.next_in = (unsigned char *)sink->bytes, .avail_in = (unsigned)sink->size};
  if (inflateInit2(&stream, 15 + 16) != Z_OK) return false;
  int result;
  do {
    stream.next_out = out;
    stream.avail_out = sizeof out;
    result = inflate(&stream, Z_NO_FLUSH);
  } while (result == Z_OK);
  inflateEnd(&stream);
  return result == Z_STREAM_END && stream.avail_in == 0;
}

static void random_query(char *out, size_t size) {
  static const char *const parts[] = {"debug=1",
                                      "debug=0",
                                      "seconds=1",
                                      "seconds=3600",
                                      "gc=1",
                                      "debug=",
                                      "seconds=-1",
                                      "0x401000",
                                      "+0x",
                                      "0xffffffffffffffff",
                                      "%31",
                                      "%",
                                      "&",
                                      "=",
                                      "+",
                                      "seconds=%31",
                                      "debug=%",
                                      "debug=2",
                                      "tid=1",
                                      "hz=1000",
                                      "hz=1",
                                      "hz=0",
                                      "format=json",
                                      "format=top",
                                      "format=collapsed",
                                      "nodecount=3",
                                      "sample_index=delay",
                                      "max_bytes=10000",
                                      "memprofilerate=4k",
                                      "block=1",
                                      "mutex=1099511627777",
                                      "format="};
  size_t used = 0;
  out[0] = 0;
  for (uint32_t n = number(6); n > 0 && used + 64 < size; n--) {
    if (number(4) == 0) random_text(out + used, 40);
    else
      snprintf(out + used, size - used, "%s%s", parts[number(sizeof parts / sizeof *parts)],
               number(2) ? "&" : "");
    used += strlen(out + used);
  }
}

static uint32_t changes_left; /* an hour's CPU profile drains 72,000 times */

/* While a request waits: the tables change, and a thread of the host's is sampled. */
static void meanwhile(void) {
  if (changes_left == 0) return;
  changes_left--;
  char name[SAMPLE_NAME_SIZE + 1];
  uint64_t sampled[STACK_DEFAULT_FRAMES + 1];
  uint32_t count = 1 + number(STACK_DEFAULT_FRAMES + 1);
  for (uint32_t f = 0; f < count; f++) sampled[f] = number(5) ? number(0x40000) : wide();
  random_text(name, sizeof name);
  stub_threads_sample((int32_t)wide(), name, number(3), sampled, count);
  if (number(20) == 0) random_tables();
}

static bool one_request(void) {
  static const char *const methods[] = {"GET", "GET", "GET", "HEAD", "POST"};
  char path[128] = "/debug/pprof/", query[512], body[512];
  size_t count;
  const struct route *routes = routes_all(&count);
  if (number(8) == 0) random_text(path + number(14), 60);
  else if (number(8))
    snprintf(path + 13, sizeof path - 13, "%s", routes[number((uint32_t)count)].name);
  if (number(10) == 0)
    snprintf(path, sizeof path, "%s",
             (const char *const[]){"/", "/pid/12", "/pid/12/debug/pprof/heap", "/pid/"}[number(4)]);
  random_query(query, sizeof query);
  random_query(body, sizeof body);
  struct http_response response = {.wait_result = number(4),
                                   .during_wait = number(2) ? meanwhile : NULL,
                                   .refuse_after = number(4) ? 0 : 1 + number(3000),
                                   .prefix = number(3) ? NULL : "/pid/4194304",
                                   .accept = number(2) ? NULL : "application/json"};
  const char *method = methods[number(5)];
  changes_left = number(40);
  stub_http_handle(&response, method, path, query, body, strlen(body));
  bool ok = response.begun && (response.ended || response.refuse_after);
  static const char trace[] = "go 1.11 trace";
  bool is_trace =
      response.body.size > sizeof trace && memcmp(response.body.bytes, trace, sizeof trace) == 0;
  bool binary = strcmp(response.content_type, "application/octet-stream") == 0 && !is_trace;
  if (ok && response.ended && binary && !response.head_only) ok = gzip_is_whole(&response.body);
  if (!ok)
    fprintf(stderr, "FAILED %s %s?%s: status %d, %zu bytes\n", method, path, query, response.status,
            response.body.size);
  stub_http_release(&response);
  return ok && stub.sessions == 0;
}

int main(void) {
  state = fuzz_seed((uint64_t)time(NULL)) * 2 + 1;
  unsigned long requests = 0;
  double end = fuzz_now() + fuzz_seconds(6);
  do {
    random_tables();
    for (int i = 0; i < 8; i++, requests++)
      if (!one_request()) return printf("request %lu\n", requests), 1;
  } while (fuzz_now() < end);
  printf("%lu requests\n", requests);
  return 0;
}

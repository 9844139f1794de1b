/* links: agent/pages/resident_memory.c agent/runtime/process_info.c agent/runtime/allowed_calls.c
 *      agent/runtime/own_memory.c agent/http/text_sink.c test/agent_memory_libc.c
 *      test/stub_clock.c */
/* Kinds of mappings in a hand-made smaps. */
#include "agent/pages/resident_memory.h"

#include <string.h>

#include "agent/threads/thread_list.h"
#include "check.h"

/* agent/threads/thread_list.h */
bool thread_list_read(struct thread_ids *out) { return out->count = 0, false; }
void thread_list_release(struct thread_ids *ids) { (void)ids; }

static const char smaps[] =
    "55d000000000-55d000010000 r-xp 00000000 08:01 77   /bin/a b\n"
    "Size: 64 kB\nRss:                  40 kB\nAnonymous:             0 kB\n"
    "55d000010000-55d000020000 rw-p 00010000 08:01 77   /bin/a b\n"
    "Rss:                  16 kB\nAnonymous:            12 kB\nSwap: 3 kB\n"
    "55d000020000-55d000030000 rw-p 00000000 00:00 0    [heap]\nRss: 1000 kB\nAnonymous: 1000 kB\n"
    /* an arena and what it has reserved; one that only begins like it */
    "7f0004000000-7f0004100000 rw-p 00000000 00:00 0 \nRss: 500 kB\nAnonymous: 500 kB\n"
    "7f0004100000-7f0008000000 ---p 00000000 00:00 0 \nRss: 0 kB\n"
    "7f0008000000-7f0008100000 rw-p 00000000 00:00 0 \nRss: 7 kB\nLazyFree: 5 kB\n"
    "7f0010000000-7f0010001000 ---p 00000000 00:00 0 \nRss: 0 kB\n"
    /* a stack, whose thread's record is near its end; one that is in the middle of an area */
    "7f0020000000-7f0020800000 rw-p 00000000 00:00 0 \nRss: 30 kB\nAnonHugePages: 9 kB\n"
    "7f0030000000-7f0030800000 rw-p 00000000 00:00 0 [anon:pool]\nRss: 20 kB\n"
    "7f0040000000-7f0040800000 rw-s 00000000 00:01 5 /memfd:x (deleted)\nRss: 60 kB\n"
    "7f0041000000-7f0041800000 rw-s 00000000 00:01 5 /dev/zero (deleted)\nRss: 4 kB\n"
    "7f0042000000-7f0042800000 rw-s 00000000 08:01 5 /data/table\nRss: 80 kB\nAnonymous: 0 kB\n"
    "7ffc00000000-7ffc00100000 rw-p 00000000 00:00 0 [stack]\nRss: 11 kB\n"
    "VmFlags: rd wr mr\n"
    "7f00f0000000-7f00f0100000 rw-p 00000000 00:00 0 \nRss: 2 kB\n";

static void read_all(struct resident_reader *reader) {
  char line[256];
  for (const char *at = smaps; *at; at = strchr(at, '\n') + 1) {
    snprintf(line, sizeof line, "%.*s", (int)(strchr(at, '\n') - at), at);
    CHECK(resident_reader_line(reader, line));
  }
  resident_reader_end(reader);
}

int main(void) {
  static const uintptr_t stacks[] = {0x7f00207ff700, 0x7f0030400000};
  struct resident_memory memory = {0};
  struct resident_reader reader = {.out = &memory, .stacks = stacks, .stack_count = 2};
  read_all(&reader);
  static const uint64_t expected[RESIDENT_KIND_COUNT] = {[RESIDENT_brk_heap] = 1000,
                                                         [RESIDENT_arenas] = 500,
                                                         [RESIDENT_anonymous] = 7 + 20 + 2,
                                                         [RESIDENT_stacks] = 30 + 11,
                                                         [RESIDENT_file_pages] = 40 + 4 + 80,
                                                         [RESIDENT_file_copies] = 12,
                                                         [RESIDENT_shared] = 64};
  uint64_t sum = 0;
  for (int i = 0; i < RESIDENT_KIND_COUNT; i++) {
    CHECK(memory.bytes[i] == expected[i] * 1024);
    if (memory.bytes[i] != expected[i] * 1024)
      printf("kind %d: %llu\n", i, (unsigned long long)memory.bytes[i] / 1024);
    sum += memory.bytes[i];
  }
  CHECK(sum == memory.total);
  CHECK(memory.lazily_freed == 5 * 1024 && memory.huge == 9 * 1024 && memory.swapped == 3 * 1024);
  reader.mappings = RESIDENT_MAPPINGS_MAX;
  CHECK(!resident_reader_line(&reader, "7f00f1000000-7f00f1100000 rw-p 00000000 00:00 0 "));
  return failures != 0;
}

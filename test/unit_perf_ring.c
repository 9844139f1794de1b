/* The ring's memory is the program's too, which may write anything there: whatever a record says,
 * nothing outside of it is read. Then one of the kernel's own, where it gives this user any. */
#include "agent/cpu/perf_ring.h"

#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

enum { PAGE = 4096, PAGES = 16, SIZE = PAGE * PAGES, REGISTERS = 17 };

static char scratch[PERF_RING_RECORD_MAX];
static uint64_t state = 88172645463325252u;

static uint64_t draw(void) { /* xorshift64 (Marsaglia 2003) */
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

static struct perf_ring empty_ring(void) {
  struct perf_ring ring = {.descriptor = -1, .bytes = SIZE + PAGE};
  /* just as large as it says: one byte more is a fault */
  ring.memory = aligned_alloc(PAGE, ring.bytes);
  memset(ring.memory, 0, ring.bytes);
  return ring;
}

static void put(struct perf_ring *ring, uint64_t *head, const void *bytes, size_t size) {
  char *data = (char *)ring->memory + PAGE;
  for (size_t i = 0; i < size; i++) data[(*head)++ % SIZE] = ((const char *)bytes)[i];
}

static void put_word(struct perf_ring *ring, uint64_t *head, uint64_t word) {
  put(ring, head, &word, sizeof word);
}

static void put_sample(struct perf_ring *ring, uint64_t *head, uint64_t cpu, uint64_t stack,
                       uint64_t valid) {
  size_t size = sizeof(struct perf_event_header) + (3 + REGISTERS + 1) * 8 + stack + 8;
  struct perf_event_header header = {.type = PERF_RECORD_SAMPLE, .size = (uint16_t)size};
  put(ring, head, &header, sizeof header);
  put_word(ring, head, cpu + 1000000); /* its time */
  put_word(ring, head, cpu);
  put_word(ring, head, PERF_SAMPLE_REGS_ABI_64);
  for (uint64_t i = 0; i < REGISTERS; i++) put_word(ring, head, 1000 + i);
  put_word(ring, head, stack);
  for (uint64_t i = 0; i < stack; i += 8) put_word(ring, head, i);
  put_word(ring, head, valid);
  ((struct perf_event_mmap_page *)ring->memory)->data_head = *head;
}

static void test_records_that_go_round_the_end(void) {
  struct perf_ring ring = empty_ring();
  struct perf_ring_record record;
  uint64_t head = 0;
  for (uint64_t i = 0; i < 100; i++) {
    bool cut = i % 2;
    put_sample(&ring, &head, i, 8192, cut ? 8192 : 4096);
    CHECK(perf_ring_next(&ring, scratch, &record) && record.kind == PERF_RING_SAMPLE);
    CHECK(record.nanoseconds == i && record.at == (int64_t)i + 1000000);
    CHECK(record.stack_is_cut == cut);
    CHECK(record.stack_size == (cut ? 8192 : 4096));
    const uint64_t *value = record.registers.value;
    CHECK(value[REMOTE_RBX] == 1001 && value[REMOTE_RDX] == 1003 && value[REMOTE_RBP] == 1006);
    CHECK(value[REMOTE_RSP] == 1007 && value[REMOTE_PC] == 1008 && value[REMOTE_R15] == 1016);
    for (uint64_t at = 0, word; at < record.stack_size; at += 8) {
      memcpy(&word, record.stack + at, 8);
      CHECK(word == at);
    }
    CHECK(!perf_ring_next(&ring, scratch, &record));
    CHECK(((struct perf_event_mmap_page *)ring.memory)->data_tail == head); /* given back */
  }
  free(ring.memory);
}

/* body: 8-byte words between the header and what every record of switches ends with. */
static void put_switch(struct perf_ring *ring, uint64_t *head, uint32_t type, uint16_t misc,
                       const uint64_t *body, size_t words, uint64_t time) {
  size_t size = sizeof(struct perf_event_header) + words * 8 + 24;
  struct perf_event_header header = {.type = type, .misc = misc, .size = (uint16_t)size};
  put(ring, head, &header, sizeof header);
  put(ring, head, body, words * 8);
  put_word(ring, head, 77 | (uint64_t)78 << 32); /* pid, tid */
  put_word(ring, head, time);
  put_word(ring, head, 3); /* CPU */
  ((struct perf_event_mmap_page *)ring->memory)->data_head = *head;
}

static uint64_t two(uint32_t low, uint32_t high) { return low | (uint64_t)high << 32; }

static void test_switches(void) {
  enum { OUT = PERF_RECORD_MISC_SWITCH_OUT, PREEMPT = PERF_RECORD_MISC_SWITCH_OUT_PREEMPT };
  struct perf_ring ring = empty_ring();
  struct perf_ring_record record;
  uint64_t head = 0;
  ring.has_trailers = true;
  for (uint64_t i = 0; i < 3000; i++) { /* round the end, too */
    const uint64_t birth[] = {two(77, 77), two(90 + (uint32_t)i, 78), 5};
    const uint64_t process[] = {two(91, 77), two(91, 78), 5};
    const uint64_t lost[] = {1, i}, name[] = {two(77, 78), 0x64656d616eu /* "named" */};
    put_switch(&ring, &head, PERF_RECORD_SWITCH, 0, NULL, 0, i);
    put_switch(&ring, &head, PERF_RECORD_SWITCH, OUT, NULL, 0, i + 1);
    put_switch(&ring, &head, PERF_RECORD_SWITCH, OUT | PREEMPT, NULL, 0, i + 2);
    put_switch(&ring, &head, PERF_RECORD_FORK, 0, process, 3, i);
    put_switch(&ring, &head, PERF_RECORD_FORK, 0, birth, 3, i + 3);
    put_switch(&ring, &head, PERF_RECORD_LOST, 0, lost, 2, i + 4);
    put_switch(&ring, &head, PERF_RECORD_COMM, 0, name, 2, i + 5);
    put_switch(&ring, &head, PERF_RECORD_EXIT, 0, process, 3, i + 6);
    static const enum perf_ring_kind kinds[] = {
        PERF_RING_ON_CPU, PERF_RING_OFF_CPU, PERF_RING_OFF_CPU, PERF_RING_BIRTH,
        PERF_RING_LOST,   PERF_RING_NAME,    PERF_RING_END};
    for (uint64_t k = 0; k < 7; k++) {
      CHECK(perf_ring_next(&ring, scratch, &record) && record.kind == kinds[k]);
      CHECK(record.at == (int64_t)(i + k) && record.cpu == 3);
      CHECK(record.kind != PERF_RING_OFF_CPU || record.preempted == (k == 2));
      CHECK(record.kind != PERF_RING_BIRTH || record.child == (int32_t)(90 + i));
      CHECK(record.kind != PERF_RING_LOST || record.lost == i);
      CHECK(record.kind != PERF_RING_NAME || strcmp(record.name, "named") == 0);
    }
    CHECK(!perf_ring_next(&ring, scratch, &record));
  }
  free(ring.memory);
}

static void test_anything(void) {
  struct perf_ring_record record;
  for (int round = 0; round < 20000; round++) {
    struct perf_ring ring = empty_ring();
    ring.has_trailers = draw() % 2;
    uint64_t head = draw() % SIZE & ~(uint64_t)7;
    ring.tail = head;
    for (int i = 0; i < 4; i++) put_sample(&ring, &head, draw(), 64 * (draw() % 64), draw() % 5000);
    char *bytes = ring.memory;
    for (uint64_t i = draw() % 64; i > 0; i--)
      bytes[draw() % (i % 2 ? ring.bytes : 256)] = (char)draw();
    uint64_t at = (uint64_t)PAGE + (ring.tail % SIZE);
    if (draw() % 2) bytes[at + draw() % 8] = (char)draw(); /* the first header */
    static volatile long sum; /* what is handed out can be read */
    for (int i = 0; i < 100000 && perf_ring_next(&ring, scratch, &record); i++) {
      if (record.kind == PERF_RING_SAMPLE)
        for (size_t k = 0; k < record.stack_size; k++) sum += record.stack[k];
      if (record.kind == PERF_RING_NAME) sum += (long)strlen(record.name);
    }
    free(ring.memory);
  }
}

static int64_t nanoseconds_of(const struct timespec *time) {
  return time->tv_sec * INT64_C(1000000000) + time->tv_nsec;
}

static void test_the_kernels(void) {
  struct perf_ring ring;
  struct perf_ring_record record;
  struct timespec now;
  uint64_t last = 0, seen = 0;
  clock_gettime(CLOCK_MONOTONIC, &now);
  int64_t opened = nanoseconds_of(&now);
  if (perf_ring_open(&ring, 0, 1000000, PERF_RING_STACK, PAGES, false) != 0) return;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  int64_t start = nanoseconds_of(&now);
  while (seen < 20) {
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    CHECK(nanoseconds_of(&now) < start + 60000000000);
    if (!perf_ring_next(&ring, scratch, &record) || record.kind != PERF_RING_SAMPLE) continue;
    seen++;
    CHECK(record.nanoseconds > last && record.stack_size > 0);
    clock_gettime(CLOCK_MONOTONIC, &now);
    CHECK(record.at > opened && record.at <= nanoseconds_of(&now));
    uintptr_t here = (uintptr_t)&record; /* the stack's top is near */
    uintptr_t sp = record.registers.value[REMOTE_RSP];
    CHECK(sp - 65536 < here && here < sp + 65536);
    last = record.nanoseconds;
  }
  perf_ring_close(&ring);
  CHECK(!perf_ring_next(&ring, scratch, &record));
}

int main(void) {
  test_records_that_go_round_the_end();
  test_switches();
  test_anything();
  test_the_kernels();
  return failures > 0;
}

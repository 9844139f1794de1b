/* Registered unwind tables: a copy says what the original says; tables of valid form with contents
 * by chance, in part unreadable, do no harm; what does not fit is counted, and all of it comes
 * back; threads that register, take away and look up at once. Arguments: rounds, seed. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "shim/stacks/cfi_entry.h"
#include "shim/base/counters.h"
#include "shim/stacks/registered_frames.h"
#include "shim/stacks/unwind_rule.h"
#include "check.h"
#include "generated_cfi.h"

struct shim_counters shim_counters;
bool unwind_rule_try_borrow(void) { return true; }
void unwind_rule_borrow_end(void) {}

static uint64_t state = 88172645463325252ull;
uint64_t generated_random(void) {
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

enum { PAGE = 4096, ENTRIES = 20 /* where the common entry begins in what is generated */ };

static bool same_register(const struct cfi_register_rule *a, const struct cfi_register_rule *b) {
  if (a->place != b->place) return false;
  if (a->place == CFI_EXPRESSION || a->place == CFI_VALUE_EXPRESSION)
    return a->block_size == b->block_size && memcmp(a->block, b->block, a->block_size) == 0;
  return (a->place != CFI_AT_CFA && a->place != CFI_CFA_PLUS) || a->offset == b->offset;
}

static bool same(const struct cfi_rule *a, const struct cfi_rule *b) {
  bool cfa = a->base == CFI_BASE_EXPRESSION
                 ? a->cfa_block_size == b->cfa_block_size &&
                       memcmp(a->cfa_block, b->cfa_block, a->cfa_block_size) == 0
                 : a->cfa_offset == b->cfa_offset;
  return a->base == b->base && cfa && same_register(&a->fp, &b->fp) &&
         same_register(&a->sp, &b->sp) && same_register(&a->return_address, &b->return_address) &&
         a->signal_frame == b->signal_frame && a->start == b->start && a->end == b->end;
}

static void test_generated(long rounds) {
  uint8_t *pages = mmap(NULL, 4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  long equal = 0;
  for (long round = 0; round < rounds; round++) {
    struct generated_cfi made;
    generated_cfi_make(&made);
    uint8_t *copy = pages + PAGE - generated_below(made.size) / 4 * 4;
    mprotect(pages, 3 * PAGE, PROT_READ | PROT_WRITE);
    memset(copy, 0, made.size + 8);
    memcpy(copy, made.bytes, made.size);
    bool all = generated_below(2);
    if (!all) mprotect(pages + PAGE * generated_below(2), PAGE, PROT_NONE);
    uintptr_t table = (uintptr_t)copy + ENTRIES, end = (uintptr_t)pages + 3 * PAGE;
    const struct cfi_section section = {.start = table, .end = end};
    registered_frames_add(&section, table);
    uintptr_t pc = (uintptr_t)copy + made.code + generated_below(made.code_size);
    struct cfi_rule rule, original;
    /* the header may be spoilt as well: then the original is not found */
    if (registered_frames_find(pc, &(struct announcements_answer){0}, &rule) && all &&
        cfi_find_rule(pc, copy, (uintptr_t)pages, end, &original)) {
      CHECK(same(&rule, &original));
      equal++;
    }
    registered_frames_remove(table);
    CHECK(registered_frames_count() == 0 &&
          !registered_frames_find(pc, &(struct announcements_answer){0}, &rule));
  }
  CHECK(rounds < 1000 || equal > rounds / 100);
  munmap(pages, 4 * PAGE);
}

/* ---- tables of a known content ---- */

/* rsp plus so many words. */
static size_t make_table(uint8_t *bytes, uintptr_t start, uint32_t size, uint8_t words) {
  struct generated_cfi to = {.size = 0};
  put_u32(&to, 0), put_u32(&to, 0);
  put_u8(&to, 1), put_u8(&to, 0), put_u8(&to, 1), put_u8(&to, 0x78), put_u8(&to, 16);
  put_u8(&to, 0x0c), put_u8(&to, 7), put_u8(&to, 8 * words), put_u8(&to, 0x80 | 16);
  put_u8(&to, 1), put_u8(&to, 0);
  set_u32(&to, 0, to.size - 4);
  size_t function = to.size;
  put_u32(&to, 0), put_u32(&to, to.size);
  put_u32(&to, start), put_u32(&to, start >> 32), put_u32(&to, size), put_u32(&to, 0);
  put_u32(&to, 0);
  set_u32(&to, function, to.size - function - 4);
  put_u32(&to, 0);
  memcpy(bytes, to.bytes, to.size);
  return to.size;
}

static void add(uintptr_t key, uintptr_t start, uint32_t size, uint8_t words) {
  uint8_t bytes[128];
  size_t length = make_table(bytes, start, size, words);
  const struct cfi_section section = {(uintptr_t)bytes, (uintptr_t)bytes + length,
                                      .in_own_memory = true};
  registered_frames_add(&section, key);
}

static int64_t words_at(uintptr_t pc) {
  struct cfi_rule rule;
  return registered_frames_find(pc, &(struct announcements_answer){0}, &rule) ? rule.cfa_offset / 8
                                                                              : 0;
}

static void test_newest_counts(void) {
  const uintptr_t code = 0x7000000000;
  add(16, code, 1000, 2);
  add(32, code + 100, 100, 3);
  add(48, code, 1u << 30, 4);
  CHECK(words_at(code) == 4 && words_at(code + 150) == 4 && words_at(code + (1 << 29)) == 4);
  registered_frames_remove(48);
  CHECK(words_at(code + 99) == 2 && words_at(code + 100) == 3 && words_at(code + 199) == 3);
  CHECK(words_at(code + 200) == 2 && words_at(code + 999) == 2 && words_at(code + 1000) == 0);
  add(16, code, 1000, 5); /* again, by the same key: the last one goes first */
  CHECK(words_at(code) == 5);
  registered_frames_remove(16);
  CHECK(words_at(code) == 2);
  registered_frames_remove(16);
  registered_frames_remove(16);
  registered_frames_remove(32);
  CHECK(words_at(code) == 0 && registered_frames_count() == 0);
}

static void test_more_than_there_is_room_for(void) {
  enum { WANTED = 200000, SIZE = 48 };
  const uintptr_t code = 0x6000000000;
  for (int turn = 0; turn < 2; turn++) {
    uint64_t lost = atomic_load(&shim_counters.registered_lost_full);
    for (uintptr_t i = 0; i < WANTED; i++) add(64 + 2 * i, code + i * SIZE, SIZE, 1 + i % 9);
    lost = atomic_load(&shim_counters.registered_lost_full) - lost;
    CHECK(lost > 0 && registered_frames_count() == WANTED - lost);
    CHECK(registered_frames_count() > 50000);
    CHECK(registered_frames_bytes() <= REGISTERED_FRAMES_BYTES_MAX + (1 << 20));
    uint64_t found = 0;
    for (uintptr_t i = 0; i < WANTED; i++) {
      int64_t words = words_at(code + i * SIZE + i % SIZE);
      CHECK(words == 0 || words == 1 + (int64_t)i % 9);
      found += words != 0;
    }
    CHECK(found == WANTED - lost);
    for (uintptr_t i = 0; i < WANTED; i++) registered_frames_remove(64 + 2 * i);
    CHECK(registered_frames_count() == 0);
  }
}

/* ---- threads ---- */

static _Atomic int ends;

/* Each has its own addresses, and gives each rule a number of words that tells the address. */
static void *churn(void *number) {
  enum { FUNCTIONS = 64, SIZE = 80 };
  uintptr_t code = 0x5000000000 + (uintptr_t)number * 0x10000;
  for (int turn = 0; turn < 3000; turn++) {
    for (uintptr_t i = 0; i < FUNCTIONS; i++) add(code + 2 * i, code + i * SIZE, SIZE, 1 + i % 14);
    for (uintptr_t i = 0; i < FUNCTIONS; i++) {
      CHECK(words_at(code + i * SIZE + 3) == 1 + (int64_t)i % 14);
      registered_frames_remove(code + 2 * i);
      CHECK(words_at(code + i * SIZE + 3) == 0);
    }
  }
  return NULL;
}

static void *look(void *unused) {
  enum { FUNCTIONS = 64, SIZE = 80 };
  while (!atomic_load(&ends))
    for (uintptr_t number = 0; number < 3; number++)
      for (uintptr_t i = 0; i < FUNCTIONS; i++) {
        int64_t words = words_at(0x5000000000 + number * 0x10000 + i * SIZE + 3);
        CHECK(words == 0 || words == 1 + (int64_t)i % 14);
      }
  return unused;
}

static void test_threads(void) {
  pthread_t writers[3], reader;
  CHECK(pthread_create(&reader, NULL, look, NULL) == 0);
  for (uintptr_t i = 0; i < 3; i++) CHECK(pthread_create(&writers[i], NULL, churn, (void *)i) == 0);
  for (int i = 0; i < 3; i++) pthread_join(writers[i], NULL);
  atomic_store(&ends, 1);
  pthread_join(reader, NULL);
  CHECK(registered_frames_count() == 0);
}

int main(int argc, char **argv) {
  long rounds = argc > 1 ? atol(argv[1]) : 30000;
  if (argc > 2) state ^= strtoull(argv[2], NULL, 0) * 0x9e3779b97f4a7c15ull;
  test_generated(rounds);
  test_newest_counts();
  test_threads();
  test_more_than_there_is_room_for();
  return failures != 0;
}

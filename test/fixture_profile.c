#include "fixture_profile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stub_tables.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

enum {
  MAIN = 0x401000,
  LIBFOO = 0x7f0000001000,
  REUSED = 0x7f1000001000,
  JIT = 0x7f2000001000,
  VDSO = 0x7ffe00001000
};

static const struct mapping small_mappings[] = {
    {.start = MAIN,
     .limit = MAIN + 0xff000,
     .offset = 0x1000,
     .path = "/nonexistent/demo",
     .build_id = "00112233445566778899aabbccddeeff"},
    {.start = LIBFOO,
     .limit = LIBFOO + 0xff000,
     .offset = 0x1000,
     .path = "/nonexistent/libfoo.so.1",
     .build_id = "feedbeef"},
    /* libold was unloaded, then libnew was mapped at the same place from epoch 5 on */
    {.start = REUSED, .limit = REUSED + 0x1000, .path = "/nonexistent/libold.so", .unloaded = true},
    {.start = REUSED, .limit = REUSED + 0x1000, .path = "/nonexistent/libnew.so", .first_epoch = 5},
    {.start = JIT, .limit = JIT + 0x1000, .kind = MAPPING_ANONYMOUS, .path = ""},
    {.start = VDSO, .limit = VDSO + 0x1000, .kind = MAPPING_VDSO, .path = "[vdso]"},
};

static struct stub_symbol small_symbols[] = {
    {MAIN, MAIN + 0x100, 1, {{"main", "main", "/src/main.c", 10}}},
    {MAIN + 0x100,
     MAIN + 0x200,
     2,
     {{"inner", "inner", "/src/inner.h", 3}, {"outer", "outer", "/src/main.c", 40}}},
    {MAIN + 0x200,
     MAIN + 0x300,
     1,
     {{"ns::make<int>(int)", "_ZN2ns4makeIiEEvi", "/src/make.cc", 7}}},
    {LIBFOO, LIBFOO + 0x100, 1, {{"foo_alloc", "foo_alloc", NULL, 0}}},
    {JIT,
     JIT + 0x100,
     1,
     {{"jit:<b>&\"x\"\n\xff"
       "caf\xc3\xa9",
       NULL, NULL, 0}}},
};

static const uint64_t leaf_stack[] = {MAIN + 0x210, MAIN + 0x110,
                                      MAIN + 0x10}; /* make <- inner/outer <- main */
static const uint64_t library_stack[] = {LIBFOO + 0x20, MAIN + 0x10}; /* foo_alloc <- main */
static const uint64_t unknown_stack[] = {LIBFOO + 0x5000, MAIN + 0x10,
                                         2}; /* ? <- main <- no unwind information */
static const uint64_t jit_stack[] = {JIT + 0x11, 0xdead0001, 1}; /* jit <- unmapped <- too deep */
static const uint64_t old_stack[] = {REUSED + 0x11, MAIN + 0x10}, marker_stack[] = {3};
static const struct stack_view small_stacks[] = {
    {COUNT(leaf_stack), 1, leaf_stack},
    {COUNT(library_stack), 1, library_stack},
    {COUNT(unknown_stack), 1, unknown_stack},
    {COUNT(jit_stack), 1, jit_stack},
    {COUNT(old_stack), 1, old_stack},
    {COUNT(old_stack), 6, old_stack},
    {COUNT(marker_stack), 1, marker_stack},
    {COUNT(leaf_stack), 4, leaf_stack}, /* as the first, seen again in another epoch */
};

static struct heap_bucket_view small_buckets[16];

static void add_bucket(uint32_t stack, uint64_t size, uint64_t rate, uint64_t allocs,
                       uint64_t frees) {
  small_buckets[stub.bucket_count++] =
      (struct heap_bucket_view){stack, size, rate, allocs, frees, 0};
}

void fixture_small(uint64_t rate, bool mixed) {
  memset(&stub, 0, sizeof stub);
  stub.stack_count = COUNT(small_stacks);
  stub.stacks = malloc(sizeof small_stacks);
  memcpy(stub.stacks, small_stacks, sizeof small_stacks);
  stub.symbol_count = COUNT(small_symbols);
  stub.symbols = small_symbols;
  stub.mapping_count = COUNT(small_mappings);
  memcpy(stub.mappings, small_mappings, sizeof small_mappings);
  stub.buckets = small_buckets;
  add_bucket(1, 64, rate, 10, 4);
  add_bucket(1, 4096, mixed ? 2 * rate : rate, 8, 8);
  add_bucket(2, 1048576, rate, 5, 2);
  add_bucket(3, 100, rate, 3, 0);
  add_bucket(4, 48, rate, 2, 1);
  add_bucket(5, 512, rate, 1, 0);
  add_bucket(6, 512, rate, 4, 0);
  add_bucket(7, 24, rate, 1, 0);
  add_bucket(8, 64, rate, 2, 1); /* joins the first */
}

void fixture_small_later(void) {
  stub.buckets[0].frees += 6; /* stack 1, 64 bytes: 6 fewer in use */
  stub.buckets[2].allocs += 3; /* stack 2: 3 more */
  add_bucket(3, 200, stub.buckets[0].rate, 2, 1);
}

static struct contention_view small_contention[16];

static void add_contention(enum contention_kind kind, uint32_t stack, double count,
                           uint64_t delay) {
  small_contention[stub.contention_count++] = (struct contention_view){kind, stack, count, delay};
}

void fixture_contention(void) {
  stub.contention = small_contention;
  stub.contention_count = 0;
  add_contention(CONTENTION_BLOCK, 1, 3, 5000000);
  add_contention(CONTENTION_MUTEX, 1, 2.5, 7000);
  add_contention(CONTENTION_BLOCK, 2, 0.3, 123456789); /* less than half an event, but time */
  add_contention(CONTENTION_BLOCK, 3, 0, 0); /* not in use yet */
  add_contention(CONTENTION_BLOCK, 7, 1.5,
                 0); /* an event without time; its stack is a marker alone */
  add_contention(CONTENTION_BLOCK, 8, 0.25, 1000); /* joins the first */
  add_contention(CONTENTION_MUTEX, 3, 0,
                 1ull << 52); /* a release that ended no wait: time, no event */
  add_contention(CONTENTION_BLOCK, 4, 0.4, 0); /* rounds to nothing */
  add_contention(CONTENTION_BLOCK, 99, 5, 5); /* a stack that is in no table */
  add_contention(CONTENTION_MUTEX, 6, 1000000, 1);
}

void fixture_contention_later(void) {
  small_contention[0].count += 2;
  small_contention[0].delay += 300;
  small_contention[1].count += 0.5;
  add_contention(CONTENTION_BLOCK, 5, 1, 40);
}

static uint32_t random_step(uint64_t *state) { /* xorshift64* */
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return (uint32_t)((*state * UINT64_C(2685821657736338717)) >> 32);
}

static char *many_names;
static uint64_t *many_frames;

void fixture_many(uint32_t stacks, uint32_t depth) {
  enum { FUNCTIONS = 20000, NAME = 40, SPAN = 0x100, CALLS = 2 /* call sites a function */ };
  memset(&stub, 0, sizeof stub);
  stub.mapping_count = 1;
  stub.mappings[0] = (struct mapping){
      .start = MAIN, .limit = MAIN + (uint64_t)FUNCTIONS * SPAN, .path = "/nonexistent/many"};
  stub.symbols = calloc(FUNCTIONS, sizeof *stub.symbols);
  stub.symbol_count = FUNCTIONS;
  many_names = malloc(FUNCTIONS * NAME);
  for (uint32_t i = 0; i < FUNCTIONS; i++) {
    char *name = many_names + (size_t)i * NAME;
    snprintf(name, NAME, "library::function_%u(int)", i);
    stub.symbols[i] =
        (struct stub_symbol){MAIN + (uint64_t)i * SPAN,
                             MAIN + (uint64_t)(i + 1) * SPAN,
                             1,
                             {{name, name, "/src/library/implementation.cc", i % 5000 + 1}}};
  }
  stub.stacks = calloc(stacks, sizeof *stub.stacks);
  stub.buckets = calloc(stacks, sizeof *stub.buckets);
  many_frames = calloc((size_t)stacks * depth, sizeof *many_frames);
  stub.stack_count = stub.bucket_count = stacks;
  uint64_t random = 88172645463325252u;
  for (uint32_t i = 0; i < stacks; i++) {
    uint64_t *frames = many_frames + (size_t)i * depth;
    /* The outer half is shared among neighbours, as in real programs. */
    for (uint32_t f = 0; f < depth; f++)
      frames[f] =
          i > 0 && f >= depth / 2 && i % 64
              ? *(frames + f - depth)
              : MAIN + 5 + (uint64_t)(random_step(&random) % (FUNCTIONS * CALLS)) * (SPAN / CALLS);
    stub.stacks[i] = (struct stack_view){depth, 1, frames};
    stub.buckets[i] = (struct heap_bucket_view){i + 1, 16 + i % 1000, 524288, 1 + i % 7, i % 2, 0};
  }
}

void fixture_release(void) {
  if (stub.symbols != small_symbols) {
    free(stub.symbols);
    free(stub.buckets);
    free(many_frames);
    free(many_names);
  }
  free(stub.stacks);
  memset(&stub, 0, sizeof stub);
}

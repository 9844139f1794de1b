/* flags: -O1 -fno-optimize-sibling-calls
 * Code made at run time whose frames neither a frame pointer nor the code itself tells, with unwind
 * tables that are registered as luajit and LLVM do.
 *
 *   registered_frames walk      allocates, computes and waits there; after a line takes the tables
 *                               away, allocates blocks of another size until the next line
 *   registered_frames churn     threads that make and unmake such code, and others that run in it
 *   registered_frames hostile   tables that lie, and that are unmapped while they are registered */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>

#include "made_code.h"

void __register_frame(void *);
void __deregister_frame(void *);

enum { ALLOCATION = 5000, AFTERWARDS = 6000, AT_ONCE = 24, TURNS = 400 };

/* ---- walk ---- */

static size_t block = ALLOCATION;

static FRAME void called_back(void) {
  free(keep(malloc(block)));
  __asm__ volatile("");
}

static FRAME void wait_there(void) {
  pause();
  __asm__ volatile("");
}

static FRAME void through_made(made_function *made, void (*callback)(void)) {
  made(callback);
  __asm__ volatile("");
}

static void *waiting(void *made) {
  through_made((made_function *)made, wait_there);
  return NULL;
}

static FRAME void run(made_function *made) {
  while (!line_waits()) through_made(made, called_back);
  CHECK(wait_for_line());
  __asm__ volatile("");
}

static int walk(void) {
  pthread_t thread;
  uint8_t *made = make();
  __register_frame(made + PAGE);
  memset(made + PAGE, 0xff, PAGE); /* it was copied */
  CHECK(pthread_create(&thread, NULL, waiting, made) == 0);
  ready();
  run((made_function *)made);
  make_table(made + PAGE, made, sizeof code);
  __deregister_frame(made + PAGE);
  block = AFTERWARDS;
  ready();
  run((made_function *)made);
  return 0;
}

/* ---- churn ---- */

static _Atomic int ends;
static _Atomic long made_count;

static void *make_and_unmake(void *unused) {
  (void)unused;
  while (!atomic_load(&ends)) {
    uint8_t *all[AT_ONCE];
    for (int i = 0; i < AT_ONCE; i++) {
      all[i] = make();
      __register_frame(all[i] + PAGE);
      through_made((made_function *)all[i], called_back);
    }
    for (int i = 0; i < AT_ONCE; i++) {
      __deregister_frame(all[i] + PAGE);
      unmake(all[i]);
    }
    atomic_fetch_add(&made_count, AT_ONCE);
  }
  return NULL;
}

static int churn(void) {
  enum { THREADS = 3 };
  pthread_t threads[THREADS];
  uint8_t *stays = make();
  __register_frame(stays + PAGE);
  for (int i = 0; i < THREADS; i++)
    CHECK(pthread_create(&threads[i], NULL, make_and_unmake, NULL) == 0);
  ready();
  run((made_function *)stays);
  atomic_store(&ends, 1);
  for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  say("%ld made\n", atomic_load(&made_count));
  return 0;
}

/* ---- hostile ---- */

/* At the end of a page, behind which nothing can be read. */
static uint8_t *at_an_end(const void *bytes, size_t size) {
  uint8_t *memory =
      mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED && mprotect(memory + PAGE, PAGE, PROT_NONE) == 0);
  return memcpy(memory + PAGE - size, bytes, size);
}

static uint64_t state = 88172645463325252ull;
static uint8_t chance(void) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return (uint8_t)(state >> 32);
}

/* The code's own table with some bytes changed; registered, unmapped or changed again. */
static void spoil(uint8_t *made) {
  uint8_t *table = made + PAGE;
  make_table(table, made, sizeof code);
  for (int i = chance() % 6; i >= 0; i--) table[4 + chance() % 100] = chance();
  __register_frame(table);
  for (int i = 0; i < 200; i++) table[chance()] = chance();
  through_made((made_function *)made, called_back);
  if (chance() % 2) __deregister_frame(table);
}

static int hostile(void) {
  static const uint32_t lengths[] = {5, 0x7fffffff, 0xfffffff0, 0xffffffff, 16};
  static uint8_t large[1 << 20];
  uint8_t *made = make();
  ready();
  for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++)
    __register_frame(at_an_end(&lengths[i], sizeof lengths[i]));
  for (int i = 0; i < TURNS; i++) {
    spoil(made);
    if (i % 8 == 7) made = make(); /* the old one's tables stay registered */
  }
  for (unsigned i = 0; i + 8 < sizeof large; i += 8) put_u32(put_u32(large + i, 4), 0);
  __register_frame(large); /* nothing but common entries, of no use */
  run((made_function *)made);
  return 0;
}

int main(int argc, char **argv) {
  CHECK(argc > 1);
  if (strcmp(argv[1], "walk") == 0) walk();
  else if (strcmp(argv[1], "churn") == 0) churn();
  else hostile();
  ready();
  return 0;
}

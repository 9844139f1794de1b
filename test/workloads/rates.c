/* Allocates so much of each kind as a line's first letter says, in the first thread or, where the
 * second letter is t, in a thread that waits meanwhile; prints `done`. The blocks stay until f. */
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "workload.h"

enum { SIZE = 100, EXACT = 1000, SAMPLED = 400000, ROUND = 4000, BRIDGE = 40, BRIDGE_SIZE = 8192 };
enum { HUGE = 8000, HUGE_SIZE = 256 << 20 };

static void **blocks, **last_of_half;
static int orders[2], answers[2];

FRAME static void *at_first(void) { return malloc(SIZE); }
FRAME static void *sampled(void) { return malloc(SIZE); }
FRAME static void *exact(void) { return malloc(SIZE); }
FRAME static void *unseen(void) { return malloc(SIZE); }
FRAME static void *in_round(void) { return malloc(SIZE); }
FRAME static void *bridge(void) { return malloc(BRIDGE_SIZE); }
FRAME static void *huge(void) { return malloc(HUGE_SIZE); }

static void allocate(void *(*function)(void), int count) {
  for (int i = 0; i < count; i++) {
    void **block = keep(function());
    CHECK(block);
    if (function != huge) *block = NULL;
    if (function == sampled) *block = blocks, blocks = block;
    if (function == sampled && i == SAMPLED / 2) last_of_half = block;
    if (function == in_round || function == bridge || function == huge) free(block);
  }
}

static void free_sampled(void **until) {
  while (blocks != until) {
    void **next = *blocks;
    free(blocks);
    blocks = next;
  }
}

enum { MAPPINGS = 20, MAPPING = 1 << 20 };
static char *mappings[MAPPINGS];

FRAME static void *mapped(void *where, int fixed) {
  void *start = mmap(where, MAPPING, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | fixed, -1, 0);
  CHECK(start != MAP_FAILED);
  return keep(start);
}

static void map_all(void) {
  for (int i = 0; i < MAPPINGS; i++) mappings[i] = mapped(NULL, 0);
}

/* In place of the first half. */
static void map_over(void) {
  for (int i = 0; i < MAPPINGS / 2; i++) mapped(mappings[i], MAP_FIXED);
}

/* The child allocates, and stays as long as its parent. */
static void fork_one(void) {
  pid_t child = fork();
  CHECK(child >= 0);
  if (child) return say("child %d\n", child);
  CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
  allocate(exact, EXACT);
  for (;;) pause();
}

static void obey(char order) {
  switch (order) {
    case '1': return allocate(at_first, EXACT);
    case 'b': return allocate(bridge, BRIDGE); /* more than a step: the thread knows the rate */
    case 's': return allocate(sampled, SAMPLED);
    case 'e': return allocate(exact, EXACT);
    case 'u': return allocate(unseen, EXACT);
    case 'g': return allocate(huge, HUGE); /* never touched */
    case 'r': return allocate(in_round, ROUND);
    case 'h': return free_sampled(last_of_half);
    case 'f': return free_sampled(NULL);
    case 'm': return map_all();
    case 'o': return map_over();
    case 'k': return fork_one();
    default: CHECK(0);
  }
}

static void *thread(void *unused) {
  char order;
  while (read(orders[0], &order, 1) == 1) {
    obey(order);
    CHECK(write(answers[1], &order, 1) == 1);
  }
  return unused;
}

int main(void) {
  pthread_t id;
  char line[3];
  CHECK(pipe(orders) == 0 && pipe(answers) == 0);
  CHECK(pthread_create(&id, NULL, thread, NULL) == 0);
  say("size %d exact %d sampled %d round %d\nready\n", SIZE, EXACT, SAMPLED, ROUND);
  while (read(0, line, 3) == 3) {
    if (line[1] == 't') {
      CHECK(write(orders[1], line, 1) == 1 && read(answers[0], line, 1) == 1);
    } else {
      obey(line[0]);
    }
    say("done\n");
  }
  return 0;
}

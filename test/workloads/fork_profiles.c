/* fork_profiles MODE [thread]: a parent and a child of its own image, each with allocations, work
 * and threads of its own. With `thread` it is another thread than main that forks. A line from
 * stdin leads on; the child ends with its parent. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/wait.h>

#include "workload.h"

static int alive[2]; /* a pipe that the parent holds open */

static void wait_for_parents_end(void) {
  char c;
  close(alive[1]);
  while (read(alive[0], &c, 1) > 0) continue;
}

static void *by_thread(void *function) {
  ((void (*)(void))function)();
  return NULL;
}

/* ---- heap: each allocates, frees and inherits ---- */

enum {
  BEFORE = 120,
  BEFORE_SIZE = 1000,
  IN_CHILD = 50,
  CHILD_SIZE = 2000,
  IN_PARENT = 40,
  PARENT_SIZE = 3000,
  CHILD_FREES = 30,
  PARENT_FREES = 10
};
static void *blocks[BEFORE];

FRAME static void allocates_before(void) {
  for (int i = 0; i < BEFORE; i++) blocks[i] = keep(malloc(BEFORE_SIZE));
}
FRAME static void allocates_in_child(void) {
  for (int i = 0; i < IN_CHILD; i++) keep(malloc(CHILD_SIZE));
}
FRAME static void allocates_in_parent(void) {
  for (int i = 0; i < IN_PARENT; i++) keep(malloc(PARENT_SIZE));
}

static void heap(void) {
  struct truth before = {"allocates_before", 0, 0, 0, 0}, child = before;
  allocates_before();
  truth_alloc(&before, BEFORE, BEFORE_SIZE);
  child = before;
  pid_t pid = fork();
  if (pid == 0) {
    struct truth own = {"allocates_in_child", 0, 0, 0, 0};
    allocates_in_child();
    truth_alloc(&own, IN_CHILD, CHILD_SIZE);
    for (int i = 0; i < CHILD_FREES; i++) free(blocks[i]);
    truth_free(&child, CHILD_FREES, BEFORE_SIZE);
    say("child %d\n", (int)getpid());
    truth_print(&child);
    truth_print(&own);
    say("done\n");
    wait_for_parents_end();
    _exit(0);
  }
  struct truth own = {"allocates_in_parent", 0, 0, 0, 0};
  wait_for_line(); /* the test has read what the child said */
  allocates_in_parent();
  truth_alloc(&own, IN_PARENT, PARENT_SIZE);
  for (int i = 0; i < PARENT_FREES; i++) free(blocks[BEFORE - 1 - i]);
  truth_free(&before, PARENT_FREES, BEFORE_SIZE);
  say("parent %d\n", (int)getpid());
  truth_print(&before);
  truth_print(&own);
  ready();
}

/* ---- CPU: each in a function of its own, without pause; threads too ---- */

FRAME static void burns_in_parent(void) {
  for (volatile unsigned i = 0; i < 20000000; i++) continue;
}
FRAME static void burns_in_child(void) {
  for (volatile unsigned i = 0; i < 20000000; i++) continue;
}
FRAME static void burns_in_childs_thread(void) {
  for (volatile unsigned i = 0; i < 20000000; i++) continue;
}
static void *childs_thread_burns(void *unused) {
  for (;;) burns_in_childs_thread();
  return unused;
}

static void cpu(void) {
  pthread_t thread;
  say("before the fork\n"); /* a profile may be under way from here on */
  wait_for_line();
  pid_t pid = fork();
  if (pid == 0) {
    pthread_create(&thread, NULL, childs_thread_burns, NULL);
    say("child %d\n", (int)getpid());
    say("ready\n");
    pid_t parent = getppid();
    while (getppid() == parent) burns_in_child();
    _exit(0);
  }
  for (;;) burns_in_parent(); /* until the test kills it */
}

/* ---- threads ---- */

static pthread_barrier_t started;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

FRAME static void *waits_in_parent(void *unused) {
  pthread_barrier_wait(&started);
  pthread_mutex_lock(&gate); /* held for ever */
  return unused;
}
FRAME static void *waits_in_child(void *unused) {
  pthread_barrier_wait(&started);
  pause();
  return unused;
}
FRAME static void creates_in_parent(int count) {
  pthread_t thread;
  for (int i = 0; i < count; i++) CHECK(pthread_create(&thread, NULL, waits_in_parent, NULL) == 0);
}
FRAME static void creates_in_child(int count) {
  pthread_t thread;
  for (int i = 0; i < count; i++) CHECK(pthread_create(&thread, NULL, waits_in_child, NULL) == 0);
}

static void threads(void) {
  pthread_mutex_lock(&gate);
  pthread_barrier_init(&started, NULL, 4);
  creates_in_parent(3);
  pthread_barrier_wait(&started);
  pid_t pid = fork();
  if (pid == 0) {
    pthread_barrier_init(&started, NULL, 3);
    creates_in_child(2);
    pthread_barrier_wait(&started);
    say("child %d\n", (int)getpid());
    say("ready\n");
    wait_for_parents_end();
    _exit(0);
  }
  wait_for_line();
}

int main(int argc, char **argv) {
  CHECK(argc > 1 && pipe(alive) == 0);
  void (*mode)(void) = strcmp(argv[1], "heap") == 0      ? heap
                       : strcmp(argv[1], "cpu") == 0     ? cpu
                       : strcmp(argv[1], "threads") == 0 ? threads
                                                         : NULL;
  CHECK(mode);
  ready();
  if (argc > 2 && strcmp(argv[2], "thread") == 0) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, by_thread, (void *)mode) == 0);
    pthread_join(thread, NULL);
  } else {
    mode();
  }
  return 0;
}

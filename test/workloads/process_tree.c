/* One of several processes that share a port. Reads lines of words and does what they say, in
 * order:
 *   alloc:N     N bytes in own_block, or child_block in a child
 *   spin        a thread that uses CPU time in own_work, or child_work in a child, for ever
 *   chroot:DIR, uid:N (also gid), close (every descriptor), detach (setsid, then once more fork)
 *   fork        the words after it are for a child, which then stays until the end of this
 *               process's stdin
 *   exec        becomes another process image of this program
 *   exit:N
 * Answers `done PID`, from whoever did the words. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "workload.h"

static int is_child;
static volatile unsigned long work;

static FRAME void *own_block(size_t size) { return memset(keep(malloc(size)), 1, size); }
static FRAME void *child_block(size_t size) { return memset(keep(malloc(size)), 2, size); }
static FRAME void own_work(void) {
  for (unsigned i = 0; i < 1000000; i++) work += i;
}
static FRAME void child_work(void) {
  for (unsigned i = 0; i < 1000000; i++) work ^= i;
}

static void *spin(void *argument) {
  (void)argument;
  for (;;) {
    if (is_child) child_work();
    else own_work();
  }
  return NULL;
}

/* For what a child has no parent to look after. */
static void stay(int descriptors_closed) {
  alarm(300);
  struct pollfd input = {.fd = 0};
  for (;;) {
    if (descriptors_closed) pause();
    else if (poll(&input, 1, -1) > 0 && (input.revents & (POLLHUP | POLLERR))) _exit(0);
  }
}

static void become(int id) {
  CHECK(setgroups(0, NULL) == 0 && setgid((gid_t)id) == 0 && setuid((uid_t)id) == 0);
}

int main(void) {
  static char line[512];
  size_t used = 0;
  char c;
  signal(SIGCHLD, SIG_IGN);
  say("done %d\n", getpid());
  while (read(0, &c, 1) == 1) {
    if (c != '\n') {
      if (used < sizeof line - 1) line[used++] = c;
      continue;
    }
    line[used] = 0;
    used = 0;
    int closed = 0, close_at_end = 0;
    for (char *next, *word = strtok_r(line, " ", &next); word; word = strtok_r(NULL, " ", &next)) {
      char *value = strchr(word, ':');
      int number = value ? atoi(++value) : 0;
      pthread_t thread;
      if (!strncmp(word, "alloc", 5))
        keep(is_child ? child_block((size_t)number) : own_block((size_t)number));
      else if (!strcmp(word, "spin")) CHECK(pthread_create(&thread, NULL, spin, NULL) == 0);
      else if (!strncmp(word, "chroot", 6)) CHECK(chroot(value) == 0 && chdir("/") == 0);
      else if (!strncmp(word, "uid", 3)) become(number);
      else if (!strcmp(word, "close")) close_at_end = 1;
      else if (!strncmp(word, "exit", 4)) _exit(number);
      else if (!strcmp(word, "exec")) CHECK(execl("/proc/self/exe", "process_tree", NULL) == 0);
      else if (!strcmp(word, "fork")) {
        if (fork()) goto next_line;
        is_child = 1;
      } else if (!strcmp(word, "detach")) {
        CHECK(setsid() >= 0);
        if (fork()) _exit(0);
      }
    }
    say("done %d\n", getpid());
    if (close_at_end) closed = close_range(0, ~0u, 0) == 0;
    if (is_child) stay(closed);
  next_line:;
  }
  return 0;
}

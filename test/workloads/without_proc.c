/* Loses its /proc ("root": by chroot, "user": by giving up root), at once or when a line comes
 * ("later"); its first thread waits or ("ends") is the only one to end. */
#define _GNU_SOURCE
#include <grp.h>
#include <pthread.h>
#include <sys/syscall.h>

#include "workload.h"

static volatile uint64_t burnt;

FRAME void burns(void) {
  for (;;) burnt++;
}

FRAME void waits(void) {
  for (;;) pause();
}

void *start_burns(void *argument) {
  burns();
  return argument;
}

void *start_waits(void *argument) {
  waits();
  return argument;
}

FRAME void *keeps_a_block(void) { return keep(malloc(30001)); }

static int is_given(int argc, char **argv, const char *word) {
  for (int i = 1; i < argc; i++)
    if (strcmp(argv[i], word) == 0) return 1;
  return 0;
}

int main(int argc, char **argv) {
  pthread_t thread;
  CHECK(argc > 2);
  if (is_given(argc, argv, "later")) ready();
  if (is_given(argc, argv, "root")) CHECK(chroot(argv[1]) == 0 && chdir("/") == 0);
  if (is_given(argc, argv, "user"))
    CHECK(setgroups(0, NULL) == 0 && setgid(65534) == 0 && setuid(65534) == 0);
  keeps_a_block();
  CHECK(pthread_create(&thread, NULL, start_burns, NULL) == 0);
  CHECK(pthread_create(&thread, NULL, start_waits, NULL) == 0);
  if (is_given(argc, argv, "ends")) {
    say("ready\n");
    syscall(SYS_exit, 0);
  }
  ready();
  _exit(0);
}

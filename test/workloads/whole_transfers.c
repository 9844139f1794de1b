/* flags: -O1 */
/* Large transfers that a signal would cut short, and none comes: each moves all of its bytes, for
 * the seconds that are given. Prints the kinds of which one was short. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>

#include "workload.h"

enum { BIG = 8 << 20, PIECE = 1 << 16 };
static char *memory;
static double seconds;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void *drain(void *argument) {
  int fd = (int)(intptr_t)argument;
  char *piece = malloc(PIECE);
  while (read(fd, piece, PIECE) > 0)
    ;
  free(piece);
  return NULL;
}

static void *feed(void *argument) {
  int fd = (int)(intptr_t)argument;
  char *zeros = calloc(1, PIECE);
  while (send(fd, zeros, PIECE, MSG_NOSIGNAL) > 0)
    ;
  free(zeros);
  return NULL;
}

static FRAME ssize_t read_zero(int fd) { return read(fd, memory, BIG); }
static FRAME ssize_t read_random(int fd) {
  (void)fd;
  return getrandom(memory, BIG, 0);
}
static FRAME ssize_t write_all(int fd) { return write(fd, memory, BIG); }
static FRAME ssize_t receive_all(int fd) { return recv(fd, memory, BIG, MSG_WAITALL); }

static FRAME void repeat(const char *kind, ssize_t (*transfer)(int), int fd) {
  long calls = 0, short_ones = 0;
  for (double end = now() + seconds; now() < end; calls++) short_ones += transfer(fd) != BIG;
  say("%s %s\n", kind, short_ones ? "short" : "whole");
  say("# %s: %ld of %ld short\n", kind, short_ones, calls);
}

static void with_peer(const char *kind, int *pair, int mine, void *(*peer)(void *),
                      ssize_t (*transfer)(int)) {
  pthread_t thread;
  pthread_create(&thread, NULL, peer, (void *)(intptr_t)pair[!mine]);
  repeat(kind, transfer, pair[mine]);
  shutdown(pair[mine], SHUT_RDWR);
  close(pair[mine]);
  pthread_join(thread, NULL);
  close(pair[!mine]);
}

int main(int argc, char **argv) {
  int pair[2];
  seconds = argc > 1 ? atof(argv[1]) : 1;
  memory = malloc(BIG);
  memset(memory, 1, BIG);
  if (!ready()) return 1;
  repeat("read", read_zero, open("/dev/zero", O_RDONLY));
  repeat("getrandom", read_random, -1);
  if (pipe(pair) != 0) return 1;
  with_peer("write", pair, 1, drain, write_all);
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return 1;
  with_peer("send", pair, 0, drain, write_all);
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return 1;
  with_peer("recv", pair, 0, feed, receive_all);
  ready();
  return 0;
}

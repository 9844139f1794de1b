/* Transfers are whole and waits last as long as they are told to, whatever signals others send
 * themselves. See differ.h. */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/random.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#include "differ.h"

enum { BLOCK = 8 << 20, SECONDS = 2 };

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static char block[BLOCK];

/* Counts what is not `whole`, for as long as some profile takes. */
#define COUNT(call, whole)                                           \
  do {                                                               \
    int other = 0;                                                   \
    errno = 0;                                                       \
    for (double end = now() + SECONDS; now() < end;)                 \
      if ((call) != (ssize_t)(whole)) other++;                       \
    say("%s: %d short, %s\n", #call, other, strerrorname_np(errno)); \
  } while (0)

static void reads(const char *name) {
  int zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY);
  int file = open(".", O_TMPFILE | O_RDWR, 0600);
  struct iovec parts[] = {{block, BLOCK / 2}, {block + BLOCK / 2, BLOCK / 2}};
  COUNT(read(zero, block, BLOCK), BLOCK);
  COUNT(readv(zero, parts, 2), BLOCK);
  COUNT(write(null, block, BLOCK), BLOCK);
  COUNT(pwrite(file, block, BLOCK, 0), BLOCK);
  COUNT(pread(file, block, BLOCK, 0), BLOCK);
  COUNT(getrandom(block, 256, 0), 256);
  (void)name;
}

static int ends[2];

/* In pieces, so that a reader waits in the middle of a call. */
static void *send_pieces(void *argument) {
  while (send(ends[1], argument, 5000, MSG_NOSIGNAL) > 0) usleep(500);
  return NULL;
}

static void sockets(const char *name) {
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  pthread_t thread;
  pthread_create(&thread, NULL, send_pieces, block);
  COUNT(recv(ends[0], block, 100000, MSG_WAITALL), 100000);
  close(ends[0]);
  pthread_join(thread, NULL);
  (void)name;
}

static void *take(void *argument) {
  static char sink[1 << 16];
  while (read(ends[0], sink, sizeof sink) > 0) usleep(500);
  return argument;
}

static void pipes(const char *name) {
  CHECK(pipe(ends) == 0);
  pthread_t thread;
  pthread_create(&thread, NULL, take, NULL);
  COUNT(write(ends[1], block, 1 << 20), 1 << 20);
  close(ends[1]);
  pthread_join(thread, NULL);
  (void)name;
}

/* Waits of 20 ms that nothing ends. */
static void waits(const char *name) {
  const struct timespec pause = {0, 20000000};
  struct timeval interval;
  int nothing[2], epoll = epoll_create1(0), word = 0;
  CHECK(pipe(nothing) == 0);
  struct pollfd wanted = {nothing[0], POLLIN, 0};
  struct epoll_event event;
  int sem = semget(IPC_PRIVATE, 1, 0600);
  struct sembuf take_one = {0, -1, 0};
  COUNT(nanosleep(&pause, NULL), 0);
  COUNT(clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL), 0);
  COUNT(poll(&wanted, 1, 20), 0);
  COUNT(ppoll(&wanted, 1, &pause, NULL), 0);
  COUNT((interval = (struct timeval){0, 20000}, select(0, NULL, NULL, NULL, &interval)), 0);
  COUNT(epoll_wait(epoll, &event, 1, 20), 0);
  COUNT((semtimedop(sem, &take_one, 1, &pause), errno), EAGAIN);
  COUNT((syscall(SYS_futex, &word, FUTEX_WAIT, 0, &pause), errno), ETIMEDOUT);
  semctl(sem, 0, IPC_RMID);
  (void)name;
}

#define CASE(name) \
  { #name, name }
static const struct differ_case cases[] = {CASE(reads), CASE(sockets), CASE(pipes), CASE(waits)};

DIFFER_MAIN(cases)

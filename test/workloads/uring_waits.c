/* flags: -O1 */
/* Waits of io_uring for 16 completions at once, which a signal would end early, for two seconds. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <liburing.h>
#include <time.h>

#include "workload.h"

enum { AT_ONCE = 16, PIECE = 1 << 18 };
static char pieces[AT_ONCE][PIECE];

int main(void) {
  struct io_uring ring;
  char path[] = "/tmp/uringXXXXXX";
  int file = mkstemp(path);
  unlink(path);
  if (ftruncate(file, AT_ONCE * PIECE) != 0) return 1;
  int fault = io_uring_queue_init(128, &ring, 0);
  say(fault ? "none\n" : "rings\n");
  if (!ready()) return 1;
  long rounds = 0, early = 0;
  for (time_t end = time(NULL) + 2; !fault && time(NULL) <= end; rounds++) {
    struct __kernel_timespec pause = {0, 300000};
    for (int i = 1; i < AT_ONCE; i++)
      io_uring_prep_read(io_uring_get_sqe(&ring), file, pieces[i], PIECE, (unsigned)(i * PIECE));
    io_uring_prep_timeout(io_uring_get_sqe(&ring), &pause, 0, 0);
    int result = io_uring_submit_and_wait(&ring, AT_ONCE);
    if (result < 0 || io_uring_cq_ready(&ring) < AT_ONCE) early++;
    struct io_uring_cqe *seen;
    while (io_uring_cq_ready(&ring) < AT_ONCE) io_uring_wait_cqe_nr(&ring, &seen, AT_ONCE);
    io_uring_cq_advance(&ring, AT_ONCE);
  }
  say("%s\n", early ? "early" : "all there");
  say("# %ld of %ld early\n", early, rounds);
  ready();
  return 0;
}

/* A thread that waits for a page of memory which nobody provides (userfaultfd). Prints `refused`
 * where the kernel does not allow that. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "workload.h"

static volatile char *page;
static sem_t announced;

static FRAME void leaf_fault(void) {
  char room[100];
  keep(room);
  *page = 1;
  keep(room);
}
static FRAME void outer_fault(void) {
  char room[300];
  keep(room);
  leaf_fault();
  keep(room);
}
static FRAME void *start_fault(void *nothing) {
  say("thread %d\n", (int)syscall(SYS_gettid));
  sem_post(&announced);
  outer_fault();
  return nothing;
}

int main(void) {
  enum { SIZE = 4096 };
  int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
  struct uffdio_api api = {.api = UFFD_API};
  page = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  struct uffdio_register range = {.range = {(uintptr_t)page, SIZE},
                                  .mode = UFFDIO_REGISTER_MODE_MISSING};
  if (fd < 0 || ioctl(fd, UFFDIO_API, &api) != 0 || ioctl(fd, UFFDIO_REGISTER, &range) != 0) {
    say("refused\n");
  } else {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, start_fault, NULL) == 0 && sem_wait(&announced) == 0);
  }
  ready();
  _exit(0);
}

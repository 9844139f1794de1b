/* flags: -O1 */
/* Gives up root, where no signal of its user's may be queued any more, and has a use for SIGURG: of
 * a signal that is sent all the same the kernel tells the number alone. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include "workload.h"

static void handle(int number) { (void)number; }

static void *wait_for_ever(void *argument) {
  pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_lock(&lock);
  pthread_mutex_lock(&lock);
  return argument;
}

int main(void) {
  pthread_t thread;
  signal(SIGURG, handle);
  if (!ready()) return 1; /* the agent's log is open by then */
  if (setrlimit(RLIMIT_SIGPENDING, &(struct rlimit){0, 0}) != 0) return 2;
  if (setresuid(65534, 65534, 65534) != 0) return 3;
  pthread_create(&thread, NULL, wait_for_ever, NULL);
  ready();
  return 0;
}

/* steady_work: forks, creates threads, sleeps and allocates in rounds until its stdin ends. Each
 * round must see what the first one saw: descriptors, signals, errno, threads' and children's
 * results. At the end it says how many were odd. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "workload.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static volatile sig_atomic_t signals_taken;

static void take(int number) { (void)number, signals_taken++; }

static void mix(uint64_t *sum, uint64_t value) { *sum = (*sum ^ value) * 0x100000001b3; }

FRAME static uint64_t burn(uint64_t sum) {
  for (int i = 0; i < 300000; i++) mix(&sum, (uint64_t)i);
  return sum;
}

FRAME static void *run(void *argument) {
  uint64_t sum = (uintptr_t)argument;
  for (int i = 0; i < 200; i++) {
    pthread_mutex_lock(&mutex);
    mix(&sum, (uint64_t)i);
    pthread_mutex_unlock(&mutex);
  }
  return (void *)(uintptr_t)burn(sum);
}

static void with_descriptors(uint64_t *sum) {
  for (int i = 0; i < 256; i++) mix(sum, (uint64_t)(fcntl(i, F_GETFD) + 1));
  int lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);
  mix(sum, (uint64_t)lowest);
  mix(sum, (uint64_t)close(lowest));
}

static void with_signals(uint64_t *sum) {
  sigset_t mask, waiting;
  pthread_sigmask(SIG_BLOCK, NULL, &mask);
  sigpending(&waiting);
  for (int i = 1; i < 65; i++) {
    struct sigaction action = {0};
    mix(sum, (uint64_t)(sigismember(&mask, i) << 1 | sigismember(&waiting, i)));
    if (sigaction(i, NULL, &action) == 0 && i != SIGPROF) /* the sampler's, while it is used */
      mix(sum, (uint64_t)(action.sa_handler == SIG_DFL) << 1 | (action.sa_handler == SIG_IGN));
  }
  raise(SIGUSR1);
}

static void with_children(uint64_t *sum) {
  int status = 0;
  pid_t child = fork();
  if (child == 0) _exit(7);
  if (child > 0) waitpid(child, &status, 0);
  mix(sum, child > 0);
  mix(sum, (uint64_t)status);
  mix(sum, (uint64_t)(waitpid(-1, &status, WNOHANG) == -1 && errno == ECHILD));
}

static void with_threads(uint64_t *sum) {
  pthread_t threads[3];
  for (uintptr_t i = 0; i < 3; i++)
    mix(sum, (uint64_t)pthread_create(&threads[i], NULL, run, (void *)i));
  for (int i = 0; i < 3; i++) {
    void *result;
    pthread_join(threads[i], &result);
    mix(sum, (uint64_t)(uintptr_t)result);
  }
}

static void with_sleep(uint64_t *sum) {
  const struct timespec moment = {.tv_nsec = 3000000};
  mix(sum, (uint64_t)nanosleep(&moment, NULL));
}

static void with_errno(uint64_t *sum) {
  errno = 77;
  for (int i = 0; i < 300; i++) free(keep(malloc((size_t)(1000 + i))));
  mix(sum, (uint64_t)errno);
}

static const struct {
  const char *name;
  void (*run)(uint64_t *sum);
} parts[] = {{"sleep", with_sleep},     {"descriptors", with_descriptors},
             {"signals", with_signals}, {"children", with_children},
             {"threads", with_threads}, {"errno", with_errno}};
enum { PARTS = sizeof parts / sizeof *parts };

int main(void) {
  struct sigaction action = {.sa_handler = take};
  struct pollfd input = {.fd = 0, .events = POLLIN};
  uint64_t first[PARTS] = {0};
  int rounds = 0, odd[PARTS] = {0};
  sigaction(SIGUSR1, &action, NULL); /* no SA_RESTART */
  do {
    for (int i = 0; i < PARTS; i++) {
      uint64_t sum = 0;
      parts[i].run(&sum);
      odd[i] += rounds && sum != first[i];
      if (!rounds) first[i] = sum;
    }
    if (!rounds++) say("ready\n");
  } while (poll(&input, 1, 0) == 0);
  for (int i = 0; i < PARTS; i++)
    say("%s %016llx, %d odd\n", parts[i].name, (unsigned long long)first[i], odd[i]);
  say("%d signals missed\n", rounds - signals_taken);
  return 3;
}

/* A library whose IFUNC resolver makes calls: the loader runs it while it relocates the library,
 * before it has relocated the agent. What it calls is done as without the agent. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXPECT(condition) \
  if (!(condition)) return __LINE__

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char stack[65536];
static int line_of_fault = -1;

static void handler(int number) { (void)number; }

static int try_signals(void) {
  struct sigaction action = {.sa_handler = handler}, old = {.sa_handler = SIG_IGN};
  stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack}, before;
  sigset_t set;
  EXPECT(sigaction(SIGUSR1, &action, NULL) == 0);
  EXPECT(sigaction(SIGUSR1, NULL, &old) == 0 && old.sa_handler == handler);
  EXPECT(signal(SIGUSR1, SIG_DFL) == handler);
  EXPECT(sigaltstack(&alternate, NULL) == 0);
  EXPECT(sigaltstack(NULL, &before) == 0 && before.ss_sp == stack &&
         before.ss_size == sizeof stack);
  alternate.ss_flags = SS_DISABLE;
  EXPECT(sigaltstack(&alternate, NULL) == 0);
  EXPECT(sigpending(&set) == 0);
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  int descriptor = signalfd(-1, &set, SFD_CLOEXEC);
  EXPECT(descriptor >= 0 && close(descriptor) == 0);
  return 0;
}

static int try_calls(void) {
  EXPECT(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1);
  EXPECT(syscall(SYS_getpid) == getpid());
  EXPECT(pthread_mutex_lock(&mutex) == 0);
  EXPECT(pthread_mutex_trylock(&mutex) == EBUSY);
  EXPECT(pthread_mutex_unlock(&mutex) == 0);
  sem_t sem;
  EXPECT(sem_init(&sem, 0, 1) == 0 && sem_wait(&sem) == 0 && sem_trywait(&sem) == -1);
  EXPECT(sem_post(&sem) == 0 && sem_trywait(&sem) == 0);
  int status;
  pid_t child = fork();
  if (child == 0) _exit(3);
  EXPECT(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
         WEXITSTATUS(status) == 3);
  return try_signals();
}

static int result(void) { return line_of_fault; }

static int (*resolve(void))(void) {
  line_of_fault = try_calls();
  return result;
}

static int called_while_relocating(void) __attribute__((ifunc("resolve")));
int calls_while_relocating(void) { return called_while_relocating(); }

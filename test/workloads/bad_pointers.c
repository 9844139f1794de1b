/* Calls with pointers that cannot be read or written, NULL among them, and with arguments that are
 * refused before any pointer is looked at. Each runs in a child of its own, which says how it
 * ended: the same with the agent as without. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>

#include "workload.h"

int capset(void *header, const void *data);

static void *bad; /* no access */
static void *volatile nothing;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static sem_t empty, full;
static sigset_t usr2;
static int futex_word = 1;

static void handler(int number) { (void)number; }
static void *thread_main(void *argument) { return argument; }

static const struct sigaction action = {.sa_handler = handler};
static const struct timespec invalid = {.tv_nsec = -1};
static struct stat status;
static char memory[65536];
static stack_t small = {.ss_sp = memory, .ss_size = 64};
static stack_t strange = {.ss_sp = memory, .ss_size = sizeof memory, .ss_flags = 1 << 20};
static stack_t disabled = {.ss_sp = NULL, .ss_size = 1, .ss_flags = SS_DISABLE};
static pthread_t thread;

#define CALLS(X)                                                                   \
  X(sigaltstack(bad, NULL))                                                        \
  X(sigaltstack(NULL, bad))                                                        \
  X(sigaltstack(&small, NULL))                                                     \
  X(sigaltstack(&strange, NULL))                                                   \
  X(sigaltstack(&disabled, NULL))                                                  \
  X(sigaltstack(NULL, NULL))                                                       \
  X(signalfd(-1, nothing, 0))                                                      \
  X(signalfd(-1, bad, 0))                                                          \
  X(signalfd(-1, nothing, 1))                                                      \
  X(signalfd(-1, &usr2, 1))                                                        \
  X(signalfd(12345, &usr2, 0))                                                     \
  X(signalfd(12345, nothing, 0))                                                   \
  X(sigwait(bad, &(int){0}))                                                       \
  X(sigwait(nothing, &(int){0}))                                                   \
  X(sigwait(&usr2, bad))                                                           \
  X(sigwaitinfo(bad, NULL))                                                        \
  X(sigwaitinfo(nothing, NULL))                                                    \
  X(sigwaitinfo(&usr2, bad))                                                       \
  X(sigtimedwait(bad, NULL, &(struct timespec){0}))                                \
  X(sigtimedwait(&usr2, NULL, bad))                                                \
  X(sigtimedwait(&usr2, NULL, &invalid))                                           \
  X(sigpending(bad))                                                               \
  X(sigpending(nothing))                                                           \
  X(sigaction(0, bad, NULL))                                                       \
  X(sigaction(32, bad, NULL))                                                      \
  X(sigaction(33, bad, bad))                                                       \
  X(sigaction(65, bad, bad))                                                       \
  X(sigaction(SIGKILL, &action, NULL))                                             \
  X(sigaction(SIGKILL, bad, NULL))                                                 \
  X(sigaction(SIGUSR1, bad, NULL))                                                 \
  X(sigaction(SIGUSR1, NULL, bad))                                                 \
  X(sigaction(SIGURG, bad, NULL))                                                  \
  X(sigaction(SIGURG, &action, bad))                                               \
  X((long)signal(SIGKILL, handler))                                                \
  X((long)signal(0, handler))                                                      \
  X((long)signal(65, handler))                                                     \
  X((long)signal(SIGUSR1, SIG_ERR))                                                \
  X((long)sigset(SIGKILL, handler))                                                \
  X(sigignore(SIGKILL))                                                            \
  X(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, bad, 0, 0))                         \
  X(prctl(PR_SET_SECCOMP, 77, 0, 0, 0))                                            \
  X(prctl(PR_SET_NAME, bad, 0, 0, 0))                                              \
  X(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, bad))                         \
  X(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 1, NULL))                        \
  X(syscall(SYS_futex, bad, FUTEX_WAIT, 1, NULL, NULL, 0))                         \
  X(syscall(SYS_futex, nothing, FUTEX_WAKE, 1, NULL, NULL, 0))                     \
  X(syscall(SYS_futex, &futex_word, FUTEX_WAIT, 1, bad, NULL, 0))                  \
  X(syscall(SYS_futex, &futex_word, FUTEX_WAKE_OP, 1, 1, bad, 0))                  \
  X(syscall(SYS_futex, bad, FUTEX_LOCK_PI, 0, NULL, NULL, 0))                      \
  X(syscall(449, bad, 1, 0, NULL, 0)) /* futex_waitv */                            \
  X(syscall(-1))                                                                   \
  X(capset(bad, bad))                                                              \
  X(capset(nothing, nothing))                                                      \
  X(sem_timedwait(&full, bad))                                                     \
  X(sem_timedwait(&full, nothing))                                                 \
  X(sem_timedwait(&empty, &invalid))                                               \
  X(sem_clockwait(&full, 99, bad))                                                 \
  X(sem_wait(bad))                                                                 \
  X(sem_post(bad))                                                                 \
  X(pthread_mutex_timedlock(&mutex, bad))                                          \
  X(pthread_mutex_timedlock(&mutex, nothing))                                      \
  X(pthread_mutex_clocklock(&mutex, 99, bad))                                      \
  X((pthread_mutex_lock(&mutex), pthread_mutex_timedlock(&mutex, bad)))            \
  X((pthread_mutex_lock(&mutex), pthread_mutex_timedlock(&mutex, &invalid)))       \
  X(pthread_mutex_lock(bad))                                                       \
  X(pthread_mutex_unlock(bad))                                                     \
  X(pthread_cond_timedwait(&cond, &mutex, bad))                                    \
  X(pthread_cond_timedwait(&cond, &mutex, &invalid))                               \
  X(pthread_cond_clockwait(&cond, &mutex, 99, bad))                                \
  X(pthread_cond_wait(bad, &mutex))                                                \
  X(pthread_rwlock_timedrdlock(&rwlock, bad))                                      \
  X(pthread_rwlock_timedwrlock(&rwlock, nothing))                                  \
  X(pthread_rwlock_clockrdlock(&rwlock, 99, bad))                                  \
  X(pthread_rwlock_clockwrlock(&rwlock, 99, &invalid))                             \
  X(pthread_rwlock_rdlock(bad))                                                    \
  X(pthread_spin_lock(bad))                                                        \
  X(pthread_barrier_wait(bad))                                                     \
  X(pthread_create(nothing, NULL, thread_main, NULL))                              \
  X(pthread_create(&thread, bad, thread_main, NULL))                               \
  X((pthread_create(&thread, NULL, nothing, NULL), pthread_join(thread, NULL)))    \
  X((pthread_create(&thread, NULL, thread_main, NULL), pthread_join(thread, bad))) \
  X(thrd_create(nothing, bad, NULL))                                               \
  X(mtx_lock(bad))                                                                 \
  X((mtx_timedlock((mtx_t *)&mutex, bad)))                                         \
  X(unshare(1))                                                                    \
  X(unshare(-1))                                                                   \
  X(setns(-1, 0))                                                                  \
  X(setns(12345, 0))                                                               \
  X(setns(0, -1))                                                                  \
  X(open(bad, O_RDONLY))                                                           \
  X(open(nothing, O_RDONLY))                                                       \
  X(open("/proc/self/stat/", O_RDONLY))                                            \
  X(openat(AT_FDCWD, bad, O_RDONLY))                                               \
  X(openat(-1, "self/task", O_RDONLY))                                             \
  X(stat(bad, &status))                                                            \
  X(stat("/proc/self/task", bad))                                                  \
  X(lstat(nothing, &status))                                                       \
  X(fstatat(AT_FDCWD, bad, &status, 0))                                            \
  X(fstatat(-1, "self/task", &status, 0))                                          \
  X(fstatat(0, "self/task", &status, -1))                                          \
  X(statx(AT_FDCWD, bad, 0, STATX_NLINK, bad))                                     \
  X(statx(AT_FDCWD, "/proc/self/task", 0, STATX_NLINK, bad))                       \
  X((fopen(bad, "r"), 0))                                                          \
  X((fopen("/proc/self/stat", "?"), 0))                                            \
  X((opendir(bad), 0))                                                             \
  X((opendir("/proc/self/stat"), 0))                                               \
  X(scandir("/proc/self/no_task", bad, NULL, NULL))                                \
  X(close(-1))                                                                     \
  X(close(12345))                                                                  \
  X(longjmp(bad, 1), 0)

enum { FIRST = __COUNTER__ + 1 };
static long call(int number) {
  switch (number) {
#define X(...) \
  case __COUNTER__ - FIRST: return (long)(__VA_ARGS__);
    CALLS(X)
#undef X
  }
  return -2;
}
enum { COUNT = __COUNTER__ - FIRST };

#define X(...) #__VA_ARGS__,
static const char *const texts[] = {CALLS(X)};
#undef X

static void in_child(int number) {
  sigprocmask(SIG_BLOCK, &usr2, NULL);
  raise(SIGUSR2); /* for those that wait for it */
  alarm(10);
  errno = 0;
  long result = call(number);
  if (result > 1000) result = 1000; /* an address */
  say("%s: %ld, errno %d\n", texts[number], result, errno);
  _exit(0);
}

int main(void) {
  static const struct rlimit no_core;
  setrlimit(RLIMIT_CORE, &no_core);
  bad = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  sigemptyset(&usr2);
  sigaddset(&usr2, SIGUSR2);
  sem_init(&empty, 0, 0);
  sem_init(&full, 0, 1);
  if (!ready()) return 1;
  for (int i = 0; i < COUNT; i++) {
    int status;
    pid_t child = fork();
    if (child == 0) in_child(i);
    if (waitpid(child, &status, 0) != child) return 2;
    if (!WIFEXITED(status) || WEXITSTATUS(status)) say("%s: status %d\n", texts[i], status);
  }
  return 0;
}

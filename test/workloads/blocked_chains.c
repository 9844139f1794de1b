/* A thread blocked in each way that a thread can be, at the end of a chain of functions that the
 * test knows: leaf_X <- middle_X <- outer_X <- start_X. Before it blocks, each thread has run
 * through the very same functions by a detour, so that its stack is full of frames of the
 * past: return addresses and frame pointers which fit one another, and partly even the frames of
 *   today.
 *
 * -DDYNAMIC: frames of a size that no prologue tells. Prints `thread NAME TID` for each, and `main
 * TID`. */
#define _GNU_SOURCE
#include <alloca.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>

#include "workload.h"

static volatile int one = 1;

#ifdef DYNAMIC
#define ROOM(size)         \
  char room[one * (size)]; \
  keep(room);              \
  keep(alloca((size_t)(one * (size) / 2)))
#else
#define ROOM(size) \
  char room[size]; \
  keep(room)
#endif
/* After a call: it is no tail call. */
#define AFTER keep(room)

static pid_t own_tid(void) { return (pid_t)syscall(SYS_gettid); }

/* Frames of functions that have nothing to do with the chain. */
static FRAME void litter_inner(int depth);
static FRAME void litter(int depth) {
  char room[200];
  keep(room);
  if (depth > 0) litter_inner(depth - 1);
  keep(room);
}
static void (*volatile litter_indirectly)(int) = litter;
static FRAME void litter_inner(int depth) {
  char room[56];
  keep(room);
  litter_indirectly(depth);
  keep(room);
}

/* via: how outer calls middle. */
#define CHAIN(name, via)                                        \
  static FRAME void leaf_##name(int wait) {                     \
    ROOM(1500);                                                 \
    if (wait) wait_##name();                                    \
    AFTER;                                                      \
  }                                                             \
  static FRAME void middle_##name(int wait) {                   \
    ROOM(40);                                                   \
    leaf_##name(wait);                                          \
    AFTER;                                                      \
  }                                                             \
  static void (*volatile indirect_##name)(int) = middle_##name; \
  static FRAME void outer_##name(int wait) {                    \
    ROOM(3000);                                                 \
    (void)indirect_##name;                                      \
    via##_##name(wait);                                         \
    AFTER;                                                      \
  }                                                             \
  static FRAME void detour_##name(int depth) {                  \
    char room[24];                                              \
    keep(room);                                                 \
    if (depth > 0) detour_##name(depth - 1);                    \
    else outer_##name(0);                                       \
    AFTER;                                                      \
  }                                                             \
  static FRAME void *start_##name(void *announced) {            \
    prctl(PR_SET_NAME, #name);                                  \
    say("thread %s %d\n", #name, own_tid());                    \
    litter(9);                                                  \
    detour_##name(4);                                           \
    litter(3);                                                  \
    sem_post(announced);                                        \
    outer_##name(1);                                            \
    return NULL;                                                \
  }

/* ---- what they wait for: never comes ---- */

#define WAIT static inline __attribute__((always_inline)) void

static int pipe_ends[2], pair[2], listener, lock_path_fd, second_lock_fd, epoll;
static char lock_path[] = "/tmp/pprofagent-blocked-XXXXXX";
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER, inheriting,
                       cond_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER, read_held = PTHREAD_RWLOCK_INITIALIZER;
static sem_t semaphore;
static pthread_t joined;
static pid_t child;

WAIT wait_epoll_wait(void) {
  struct epoll_event event;
  epoll_wait(epoll, &event, 1, -1);
}
WAIT wait_poll(void) {
  struct pollfd entries[2] = {{.fd = pipe_ends[0], .events = POLLIN},
                              {.fd = listener, .events = POLLIN}};
  poll(entries, 2, -1);
}
WAIT wait_select(void) {
  fd_set set;
  FD_ZERO(&set);
  FD_SET(pipe_ends[0], &set);
  select(pipe_ends[0] + 1, &set, NULL, NULL, NULL);
}
WAIT wait_read(void) {
  char byte;
  CHECK(read(pipe_ends[0], &byte, 1) == 0);
}
WAIT wait_accept(void) { accept(listener, NULL, NULL); }
WAIT wait_recvmsg(void) {
  char byte;
  struct iovec piece = {&byte, 1};
  struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
  recvmsg(pair[0], &message, 0);
}
WAIT wait_nanosleep(void) {
  struct timespec time = {.tv_sec = 100000};
  nanosleep(&time, NULL);
}
WAIT wait_mutex(void) { pthread_mutex_lock(&mutex); }
WAIT wait_inheriting(void) { pthread_mutex_lock(&inheriting); }
WAIT wait_cond(void) {
  pthread_mutex_lock(&cond_mutex);
  pthread_cond_wait(&cond, &cond_mutex);
}
WAIT wait_sem(void) { sem_wait(&semaphore); }
WAIT wait_rdlock(void) { pthread_rwlock_rdlock(&rwlock); }
WAIT wait_wrlock(void) { pthread_rwlock_wrlock(&read_held); }
WAIT wait_sigwait(void) {
  sigset_t set;
  int got;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 3);
  sigaddset(&set, SIGRTMIN + 4);
  sigwait(&set, &got);
}
WAIT wait_waitpid(void) { waitpid(child, NULL, 0); }
WAIT wait_flock(void) { flock(second_lock_fd, LOCK_EX); }
WAIT wait_pause(void) { pause(); }
WAIT wait_join(void) { pthread_join(joined, NULL); }
WAIT wait_sigsuspend(void) {
  sigset_t set;
  sigfillset(&set);
  sigsuspend(&set);
}
WAIT wait_record_lock(void) {
  struct flock lock = {.l_type = F_WRLCK};
  fcntl(second_lock_fd, F_OFD_SETLKW, &lock);
}

/* Blocked in a signal handler, on the thread's stack and on another. */
static FRAME void in_handler(int signal) {
  ROOM(300);
  wait_read();
  (void)signal;
  AFTER;
}
static FRAME void handler(int signal) {
  ROOM(100);
  in_handler(signal);
  AFTER;
}
WAIT wait_handler(void) { raise(SIGUSR1); }
WAIT wait_altstack(void) {
  static char stack[256 << 10];
  stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
  CHECK(sigaltstack(&alternate, NULL) == 0);
  raise(SIGUSR2);
}

/* A coroutine. */
static ucontext_t coroutine_caller, coroutine_context;
static FRAME void in_coroutine(void) {
  ROOM(300);
  wait_nanosleep();
  AFTER;
}
static FRAME void coroutine(void) {
  ROOM(100);
  in_coroutine();
  AFTER;
}
static void make_coroutine(void) {
  static char stack[128 << 10];
  CHECK(getcontext(&coroutine_context) == 0);
  coroutine_context.uc_stack.ss_sp = stack;
  coroutine_context.uc_stack.ss_size = sizeof stack;
  coroutine_context.uc_link = &coroutine_caller;
  makecontext(&coroutine_context, coroutine, 0);
}
WAIT wait_coroutine(void) { swapcontext(&coroutine_caller, &coroutine_context); }

/* Arguments on the stack: the stack pointer at the call is not where the prologue left it. */
static FRAME void with_many_arguments(long a, long b, long c, long d, long e, long f, long g,
                                      long h, long i) {
  ROOM(120);
  if (a + b + c + d + e + f + g + h + i == 45) wait_nanosleep();
  AFTER;
}
WAIT wait_arguments(void) { with_many_arguments(1, 2, 3, 4, 5, 6, 7, 8, one * 9); }

/* Deep in recursion, with the frames of the way here before them. */
static FRAME void recursive(int depth) {
  ROOM(64);
  if (depth == 0) wait_pause();
  else recursive(depth - 1);
  AFTER;
}
WAIT wait_recursion(void) { recursive(40); }

/* A frame realigned to 64 bytes. */
static FRAME void realigned(int wait) {
  _Alignas(64) char aligned[128];
  ROOM(100);
  keep(aligned);
  if (wait) wait_pause();
  keep(aligned);
  AFTER;
}
WAIT wait_realigned(void) { realigned(one); }

#define CHAINS(X)          \
  X(epoll_wait, middle)    \
  X(poll, indirect)        \
  X(select, middle)        \
  X(read, indirect)        \
  X(accept, middle)        \
  X(recvmsg, indirect)     \
  X(nanosleep, middle)     \
  X(mutex, indirect)       \
  X(inheriting, middle)    \
  X(cond, indirect)        \
  X(sem, middle)           \
  X(rdlock, indirect)      \
  X(wrlock, middle)        \
  X(sigwait, indirect)     \
  X(waitpid, middle)       \
  X(flock, indirect)       \
  X(pause, middle)         \
  X(join, indirect)        \
  X(sigsuspend, middle)    \
  X(record_lock, indirect) \
  X(handler, middle)       \
  X(altstack, indirect)    \
  X(coroutine, middle)     \
  X(arguments, indirect)   \
  X(recursion, middle)     \
  X(realigned, indirect)
CHAINS(CHAIN)

static FRAME void main_waits(void) {
  ROOM(2000);
  ready();
  AFTER;
}

int main(void) {
  CHECK(pipe(pipe_ends) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  listener = socket(AF_UNIX, SOCK_STREAM, 0);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  CHECK(bind(listener, (struct sockaddr *)&address, sizeof(sa_family_t)) == 0 &&
        listen(listener, 1) == 0);
  epoll = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN};
  CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, pipe_ends[0], &event) == 0);
  lock_path_fd = mkstemp(lock_path);
  second_lock_fd = open(lock_path, O_RDWR);
  CHECK(flock(lock_path_fd, LOCK_EX) == 0 && unlink(lock_path) == 0);
  struct flock lock = {.l_type = F_WRLCK};
  CHECK(fcntl(lock_path_fd, F_OFD_SETLK, &lock) == 0);
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
  CHECK(pthread_mutex_init(&inheriting, &attributes) == 0);
  pthread_mutex_lock(&inheriting);
  pthread_mutex_lock(&mutex);
  pthread_rwlock_wrlock(&rwlock);
  pthread_rwlock_rdlock(&read_held);
  sem_init(&semaphore, 0, 0);
  struct sigaction action = {.sa_handler = handler};
  CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
  action.sa_flags = SA_ONSTACK;
  CHECK(sigaction(SIGUSR2, &action, NULL) == 0);
  make_coroutine();
  child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) pause();
  }

  say("main %d\n", own_tid());
  say("read_fd %d\n", pipe_ends[0]);
  say("epoll_fd %d\n", epoll);
  say("accept_fd %d\n", listener);
  say("recvmsg_fd %d\n", pair[0]);
  say("flock_fd %d\n", second_lock_fd);
  say("child %d\n", child);
  sem_t announced;
  sem_init(&announced, 0, 0);
#define START(name, via)                                                      \
  pthread_t thread_##name;                                                    \
  CHECK(pthread_create(&thread_##name, NULL, start_##name, &announced) == 0); \
  CHECK(sem_wait(&announced) == 0);                                           \
  if (!joined) joined = thread_##name;
  CHAINS(START)
  main_waits();
  kill(child, SIGKILL);
  _exit(0);
}

/* Counts what blocking system calls return while CPU profiles run.
 * cpu_interrupted_calls count CALLS: so many calls that nothing of the host's interrupts; prints
 *   EINTR counts by kind, 0 without a profiler.
 * cpu_interrupted_calls count_as_nobody CALLS: the same by a process that has given up root: its
 *   own files in /proc are closed to it.
 * cpu_interrupted_calls own SIGNALS: calls that end by a signal of the host's; prints how many did:
 *   all of them. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#include "workload.h"

enum { THREADS = 8 };

static volatile unsigned sink;
static void spin(int count) {
  unsigned x = sink;
  for (int i = 0; i < count; i++) x = x * 1664525u + 1013904223u;
  sink = x;
}

/* What a thread needs for its calls. */
struct things {
  int epoll, sockets[2], event, semaphores, queue;
  sem_t semaphore;
  pthread_mutex_t mutex;
  pthread_cond_t condition;
  int word;
};

static void prepare(struct things *t) {
  t->epoll = epoll_create1(EPOLL_CLOEXEC);
  t->event = eventfd(0, EFD_CLOEXEC);
  CHECK(t->epoll >= 0 && t->event >= 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, t->sockets) == 0);
  struct epoll_event event = {.events = EPOLLIN};
  CHECK(epoll_ctl(t->epoll, EPOLL_CTL_ADD, t->event, &event) == 0);
  struct timeval timeout = {0, 1000};
  CHECK(setsockopt(t->sockets[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) == 0);
  t->semaphores = semget(IPC_PRIVATE, 1, 0600);
  t->queue = msgget(IPC_PRIVATE, 0600);
  CHECK(t->semaphores >= 0 && t->queue >= 0 && sem_init(&t->semaphore, 0, 0) == 0);
  pthread_mutex_init(&t->mutex, NULL);
  pthread_cond_init(&t->condition, NULL);
}
static void dispose(struct things *t) {
  semctl(t->semaphores, 0, IPC_RMID);
  msgctl(t->queue, IPC_RMID, NULL);
}

static struct timespec after(clockid_t clock, int milliseconds) {
  struct timespec time;
  clock_gettime(clock, &time);
  time.tv_nsec += milliseconds * 1000000;
  if (time.tv_nsec >= 1000000000) time.tv_nsec -= 1000000000, time.tv_sec++;
  return time;
}

/* Each call waits for ms (0 or 1) milliseconds and gives its error, 0 when there was none. */
#define RESULT(call) ((call) < 0 ? errno : 0)
static int call_epoll_wait(struct things *t, int ms) {
  struct epoll_event event;
  return RESULT(epoll_wait(t->epoll, &event, 1, ms));
}
static int call_epoll_pwait(struct things *t, int ms) {
  struct epoll_event event;
  sigset_t none;
  sigemptyset(&none);
  return RESULT(epoll_pwait(t->epoll, &event, 1, ms, &none));
}
static int call_poll(struct things *t, int ms) {
  return RESULT(poll(&(struct pollfd){.fd = t->event, .events = POLLIN}, 1, ms));
}
static int call_ppoll(struct things *t, int ms) {
  sigset_t none;
  sigemptyset(&none);
  return RESULT(ppoll(&(struct pollfd){.fd = t->event, .events = POLLIN}, 1,
                      &(struct timespec){0, ms * 1000000}, &none));
}
static int call_select(struct things *t, int ms) {
  fd_set set;
  FD_ZERO(&set);
  FD_SET(t->event, &set);
  return RESULT(select(t->event + 1, &set, NULL, NULL, &(struct timeval){0, ms * 1000}));
}
static int call_pselect(struct things *t, int ms) {
  (void)t;
  return RESULT(pselect(0, NULL, NULL, NULL, &(struct timespec){0, ms * 1000000}, NULL));
}
static int call_nanosleep(struct things *t, int ms) {
  (void)t;
  return RESULT(nanosleep(&(struct timespec){0, ms * 1000000 + 1}, NULL));
}
static int call_clock_nanosleep(struct things *t, int ms) {
  (void)t;
  struct timespec until = after(CLOCK_MONOTONIC, ms);
  return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}
static int call_sem_timedwait(struct things *t, int ms) {
  struct timespec until = after(CLOCK_REALTIME, ms);
  return RESULT(sem_timedwait(&t->semaphore, &until));
}
static int call_cond_timedwait(struct things *t, int ms) {
  struct timespec until = after(CLOCK_REALTIME, ms);
  pthread_mutex_lock(&t->mutex);
  int result = pthread_cond_timedwait(&t->condition, &t->mutex, &until);
  pthread_mutex_unlock(&t->mutex);
  return result;
}
static int call_sigtimedwait(struct things *t, int ms) {
  (void)t;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  return RESULT(sigtimedwait(&set, NULL, &(struct timespec){0, ms * 1000000}));
}
/* an SO_RCVTIMEO makes the kernel give up SA_RESTART */
static int call_recv(struct things *t, int ms) {
  char byte;
  return RESULT(recv(t->sockets[0], &byte, 1, ms ? 0 : MSG_DONTWAIT));
}
static int call_read(struct things *t, int ms) {
  char byte;
  return ms ? RESULT(read(t->sockets[0], &byte, 1))
            : RESULT(recv(t->sockets[0], &byte, 1, MSG_DONTWAIT));
}
static int call_semtimedop(struct things *t, int ms) {
  struct sembuf operation = {.sem_op = -1};
  return RESULT(semtimedop(t->semaphores, &operation, 1, &(struct timespec){0, ms * 1000000}));
}
/* of a message that is there: it has no timeout */
static int call_msgrcv(struct things *t, int ms) {
  struct {
    long type;
    char text[8];
  } message = {1, "message"};
  (void)ms;
  return RESULT(msgsnd(t->queue, &message, 8, 0)) ?: RESULT(msgrcv(t->queue, &message, 8, 0, 0));
}
static int call_usleep(struct things *t, int ms) {
  (void)t;
  return RESULT(usleep((useconds_t)ms * 1000 + 1));
}
static int call_futex(struct things *t, int ms) {
  return RESULT(syscall(SYS_futex, &t->word, FUTEX_WAIT_PRIVATE, 0,
                        &(struct timespec){0, ms * 1000000 + 1}, NULL, 0));
}

/* FRAME-like names are not needed: the leaf of a sample inside is libc's wrapper. */
static const struct kind {
  const char *name;
  int (*call)(struct things *, int);
} kinds[] = {
#define KIND(name) \
  { #name, call_##name }
    KIND(epoll_wait),    KIND(epoll_pwait),    KIND(poll),         KIND(ppoll),
    KIND(select),        KIND(pselect),        KIND(nanosleep),    KIND(clock_nanosleep),
    KIND(sem_timedwait), KIND(cond_timedwait), KIND(sigtimedwait), KIND(recv),
    KIND(read),          KIND(semtimedop),     KIND(msgrcv),       KIND(usleep),
    KIND(futex),
};
enum { KINDS = sizeof kinds / sizeof *kinds };
static _Atomic long interrupted[KINDS], made[KINDS], odd[KINDS];
static long calls_wanted;

static void *make_calls(void *number) {
  struct things t = {0};
  prepare(&t);
  for (long i = 0; i < calls_wanted / THREADS; i++) {
    size_t kind = (size_t)(i + (intptr_t)number) % KINDS;
    int error = kinds[kind].call(&t, i / KINDS % 64 == 0);
    made[kind]++;
    if (error == EINTR) interrupted[kind]++;
    else if (error != 0 && error != EAGAIN && error != ETIMEDOUT) odd[kind]++;
    spin(2000);
  }
  dispose(&t);
  return NULL;
}

static void count(int as_another_user) {
  ready(); /* the agent's log is open by then */
  if (as_another_user) CHECK(setuid(65534) == 0);
  pthread_t threads[THREADS];
  for (intptr_t i = 0; i < THREADS; i++)
    CHECK(pthread_create(&threads[i], NULL, make_calls, (void *)i) == 0);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  for (int kind = 0; kind < KINDS; kind++)
    say("%s: %ld interrupted, %ld odd of %ld\n", kinds[kind].name, interrupted[kind], odd[kind],
        made[kind]);
  ready();
}

/* ---- signals of the host's own ---- */

static volatile long handled;
static void on_own(int number) {
  (void)number;
  handled++;
}

static void each(const char *name, int signals, int (*wait)(const sigset_t *), int masks) {
  /* One signal at a time, sent by a timer a moment later: the call that waits is interrupted by
   * each, whenever it comes. */
  sigset_t usual, waiting;
  sigemptyset(&usual);
  sigaddset(&usual, SIGUSR1);
  pthread_sigmask(masks ? SIG_BLOCK : SIG_UNBLOCK, &usual, NULL);
  sigemptyset(&waiting);
  timer_t timer;
  struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
  event._sigev_un._tid = gettid();
  CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
  long before = handled, interrupts = 0, others = 0;
  /* Where the mask is not changed by the call, a signal may come before it: the timer then goes
   * on. */
  struct itimerspec when = {.it_value = {0, 200000}, .it_interval = {0, masks ? 0 : 1000000}},
                    off = {{0, 0}, {0, 0}};
  for (int i = 0; i < signals; i++) {
    when.it_value.tv_nsec = 20000 + i % 100 * 5000;
    CHECK(timer_settime(timer, 0, &when, NULL) == 0);
    spin(i % 50 * 1000);
    if (wait(&waiting) == EINTR) interrupts++;
    else others++;
    timer_settime(timer, 0, &off, NULL);
  }
  timer_delete(timer);
  if (masks)
    say("%s: %ld interrupts, %ld handled, %ld other ends\n", name, interrupts, handled - before,
        others);
  else say("%s: %ld interrupts, %ld other ends\n", name, interrupts, others);
}

static int own_sigsuspend(const sigset_t *set) { return RESULT(sigsuspend(set)); }
static int own_ppoll(const sigset_t *set) { return RESULT(ppoll(NULL, 0, NULL, set)); }
static int own_pselect(const sigset_t *set) {
  return RESULT(pselect(0, NULL, NULL, NULL, NULL, set));
}
static int own_epoll_pwait(const sigset_t *set) {
  static int epoll = -1;
  if (epoll < 0) epoll = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event;
  return RESULT(epoll_pwait(epoll, &event, 1, -1, set));
}
static int own_pause(const sigset_t *set) { return (void)set, RESULT(pause()); }
static int own_poll(const sigset_t *set) { return (void)set, RESULT(poll(NULL, 0, -1)); }
static int own_nanosleep(const sigset_t *set) {
  return (void)set, RESULT(nanosleep(&(struct timespec){1000, 0}, NULL));
}
static int own_sem_wait(const sigset_t *set) {
  static sem_t semaphore;
  return (void)set, RESULT(sem_wait(&semaphore));
}
static int own_read(const sigset_t *set) { /* the handler has no SA_RESTART */
  static int pipe_ends[2];
  char byte;
  if (pipe_ends[0] == 0) CHECK(pipe(pipe_ends) == 0);
  return (void)set, RESULT(read(pipe_ends[0], &byte, 1));
}
static void own(int signals) {
  struct sigaction action = {.sa_handler = on_own};
  CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
  ready();
  each("sigsuspend", signals, own_sigsuspend, 1);
  each("ppoll", signals, own_ppoll, 1);
  each("pselect", signals, own_pselect, 1);
  each("epoll_pwait", signals, own_epoll_pwait, 1);
  each("pause", signals, own_pause, 0);
  each("poll", signals, own_poll, 0);
  each("nanosleep", signals, own_nanosleep, 0);
  each("sem_wait", signals, own_sem_wait, 0);
  each("read", signals, own_read, 0);
  ready();
}

/* The host's own timer runs on the same CPU clock, so that its signal and the profiler's come in
 * the same instant. */
static void own_with_tick(int signals) {
  struct sigaction action = {.sa_handler = on_own};
  CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
  ready();
  sigset_t block, waiting;
  sigemptyset(&block);
  sigemptyset(&waiting);
  sigaddset(&block, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &block, NULL);
  timer_t timer;
  struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
  event._sigev_un._tid = gettid();
  CHECK(timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer) == 0);
  struct itimerspec when = {.it_value = {0, 1}};
  long interrupts = 0, others = 0;
  for (int i = 0; i < signals; i++) {
    CHECK(timer_settime(timer, 0, &when, NULL) == 0);
    /* It fires while this thread runs: in spin, and stays pending until ppoll lets it in, or inside
     * a short call. */
    for (long before = handled; handled == before;) {
      int error = RESULT(ppoll(NULL, 0, &(struct timespec){0, 0}, &waiting));
      if (error == EINTR) interrupts++;
      else if (error) others++;
      if (error == EINTR && handled == before) others++; /* interrupted, but by whom? */
    }
  }
  say("%ld handled, %ld unexplained ends of a call\n", handled, others);
  ready();
}

int main(int argc, char **argv) {
  CHECK(argc == 3);
  calls_wanted = atol(argv[2]);
  if (strcmp(argv[1], "count") == 0) count(0);
  else if (strcmp(argv[1], "count_as_nobody") == 0) count(1);
  else if (strcmp(argv[1], "own") == 0) own((int)calls_wanted);
  else own_with_tick((int)calls_wanted);
  return 0;
}

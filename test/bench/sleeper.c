/* The least that a preload with a thread of its own costs each process: a thread that sleeps. With
 * -DBARE one that libc does not know of. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { STACK = 64 << 10 };

#ifdef BARE
/* It shares its creator's thread-local storage, so it must not touch errno. */
static int sleep_on(void *unused) {
  for (;;) {
#ifdef __x86_64__
    long number = SYS_pause;
    __asm__ volatile("syscall" : "+a"(number) : : "rcx", "r11", "memory");
#else
    register long number __asm__("x8") = SYS_ppoll;
    register long r0 __asm__("x0") = 0, r1 __asm__("x1") = 0, r2 __asm__("x2") = 0,
                     r3 __asm__("x3") = 0;
    __asm__ volatile("svc 0" : "+r"(r0) : "r"(number), "r"(r1), "r"(r2), "r"(r3) : "memory");
#endif
  }
  return unused != NULL;
}

static void create(void) {
  char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
  if (stack == MAP_FAILED) return;
  clone(sleep_on, stack + STACK,
        CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM, NULL);
}
#else
static void *sleep_on(void *unused) {
  for (;;) pause();
  return unused;
}

static void create(void) {
  pthread_t thread;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, STACK);
  pthread_create(&thread, &attributes, sleep_on, NULL);
  pthread_attr_destroy(&attributes);
}
#endif

__attribute__((constructor)) static void start(void) {
  sigset_t all, old;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &old);
  create();
  sigprocmask(SIG_SETMASK, &old, NULL);
}

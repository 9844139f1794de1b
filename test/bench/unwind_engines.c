/* Linked with the library as test/workloads/unwind_oracle.c is: what a stack of 20 frames costs by
 * the built-in interpreter, in the program's own thread, and by libunwind, as the agent's threads
 * use it: of a thread that waits (all memory is read as it is now) and of a sample (registers and a
 * copy of the stack). Preloaded with UNWIND_ENGINES set it prints `NAME NUMBER` lines and ends the
 * program. first: nothing is remembered of any table; in nanoseconds. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/stacks/remote_unwind.h"
#include "shim/stacks/stack_capture.h"
#include "shim/base/thread_state.h"

enum { DEPTH = 17, FIRSTS = 15, WARM = 20000, COPIED = 16384 }; /* libc and the loader make it 20 */

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static long resident_kilobytes(void) {
  char text[64] = "";
  int file = open("/proc/self/statm", O_RDONLY);
  if (file < 0 || read(file, text, sizeof text - 1) <= 0) return 0;
  close(file);
  return atol(strchr(text, ' ')) * 4;
}

static __attribute__((always_inline)) inline struct remote_registers registers_here(void) {
  struct remote_registers here = {.known = REMOTE_ALL_KNOWN, .exact = true};
  __asm__ volatile(
      "movq %%rbx, 24(%0)\n movq %%rbp, 48(%0)\n movq %%rsp, 56(%0)\n"
      "movq %%r12, 96(%0)\n movq %%r13, 104(%0)\n movq %%r14, 112(%0)\n"
      "movq %%r15, 120(%0)\n leaq 0(%%rip), %%rcx\n movq %%rcx, 128(%0)\n"
      :
      : "r"(here.value)
      : "rcx", "memory");
  return here;
}

static int ascending(const void *a, const void *b) {
  return *(const double *)a < *(const double *)b ? -1 : 1;
}

static void say(const char *name, double *times, int count) {
  qsort(times, (size_t)count, sizeof *times, ascending);
  printf("%s %.0f\n", name, times[count / 2]);
}

static void measure_interpreter(const struct remote_registers *registers) {
  CAPTURED_STACK(out);
  struct unwind_registers three = {.pc = registers->value[REMOTE_PC],
                                   .sp = registers->value[REMOTE_RSP],
                                   .fp = registers->value[REMOTE_RBP],
                                   .rbx = registers->value[REMOTE_RBX]};
  double first[FIRSTS];
  long before = resident_kilobytes();
  for (int i = 0; i < FIRSTS; i++) {
    stack_capture_forget_rules();
    double start = now();
    stack_capture_interrupted(&three, &thread_state, out);
    first[i] = now() - start;
  }
  say("interpreter_first", first, FIRSTS);
  double start = now();
  for (int i = 0; i < WARM; i++) stack_capture_interrupted(&three, &thread_state, out);
  printf("interpreter_warm %.0f\ninterpreter_kilobytes %ld\nframes %u\n", (now() - start) / WARM,
         resident_kilobytes() - before, out->frame_count);
}

static void measure_libunwind(const struct remote_registers *registers, const char *name,
                              const struct stack_copy *copy) {
  uint64_t frames[STACK_DEFAULT_FRAMES];
  enum remote_step end;
  double first[FIRSTS];
  char line[64];
  struct remote_unwinder *unwinder = NULL;
  long before = resident_kilobytes();
  for (int i = 0; i < FIRSTS; i++) {
    remote_unwinder_release(unwinder);
    double start = now();
    unwinder = remote_unwinder_new();
    remote_unwind(unwinder, registers, copy, frames, STACK_DEFAULT_FRAMES, &end);
    first[i] = now() - start;
  }
  snprintf(line, sizeof line, "libunwind_%s_first", name);
  say(line, first, FIRSTS);
  double start = now();
  for (int i = 0; i < WARM; i++)
    remote_unwind(unwinder, registers, copy, frames, STACK_DEFAULT_FRAMES, &end);
  printf("libunwind_%s_warm %.0f\n", name, (now() - start) / WARM);
  long most = resident_kilobytes();
  remote_unwinder_release(unwinder);
  printf("libunwind_%s_kilobytes %ld\nlibunwind_%s_kilobytes_afterwards %ld\n", name, most - before,
         name, resident_kilobytes() - before);
}

static __attribute__((noinline)) void deep(int depth) {
  if (depth > 0) {
    deep(depth - 1);
    __asm__ volatile("");
    return;
  }
  struct remote_registers here = registers_here();
  static char bytes[COPIED];
  struct stack_copy copy = {here.value[REMOTE_RSP], bytes, COPIED, false};
  uintptr_t room = (uintptr_t)__builtin_thread_pointer() - copy.start; /* the stack's top */
  if (copy.size > room) copy.size = room;
  memcpy(bytes, (const void *)copy.start, copy.size);
  /* once in vain: the tables of libraries are in memory then, whoever reads them */
  measure_libunwind(&here, "not_counted", NULL);
  measure_interpreter(&here);
  measure_libunwind(&here, "waiting", NULL);
  measure_libunwind(&here, "sample", &copy);
}

static void *run(void *argument) {
  deep(DEPTH);
  return argument;
}

__attribute__((constructor)) static void start(void) {
  pthread_t thread;
  if (!getenv("UNWIND_ENGINES")) return;
  /* a thread's stack is whole; above a constructor's the loader has no unwind information */
  if (pthread_create(&thread, NULL, run, NULL) == 0) pthread_join(thread, NULL);
  fflush(stdout);
  _exit(0);
}

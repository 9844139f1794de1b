/* Linked with the library into a preload of its own (Makefile): at each tick of the program's CPU
 * time the interrupted thread's stack is taken by both engines, and what they say is compared frame
 * by frame. UNWIND_ORACLE names the file that the answers are added to, UNWIND_ORACLE_COMM the
 * program, UNWIND_ORACLE_STACKS how many stacks are enough. A line a stack:
 *   same FRAMES | further FRAMES MORE | differs, then a line for each frame
 * UNWIND_ORACLE_HOLD: libunwind is not asked; as soon as that file is there, each stack of the
 * interpreter's is written as a line of addresses, and the thread stops by SIGSTOP for a debugger.
 * ("further": the built-in interpreter ended at a frame that it cannot leave, libunwind went on).
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#include "agent/stacks/remote_unwind.h"
#include "shim/stacks/kernel_action.h"
#include "shim/stacks/stack_capture.h"
#include "shim/base/thread_state.h"

static struct remote_unwinder *unwinder;
static const char *report;
static long stacks_left;
static pid_t owner;
static _Atomic int busy;

extern const char __start_thread_trampolines[] __attribute__((visibility("hidden")));
extern const char __stop_thread_trampolines[] __attribute__((visibility("hidden")));

struct stack {
  uint64_t frames[STACK_DEFAULT_FRAMES];
  size_t count;
  enum remote_step end;
};

static void by_libunwind(const struct remote_registers *registers, struct stack *out) {
  static uint64_t frames[STACK_DEFAULT_FRAMES + 1];
  size_t count = remote_unwind(unwinder, registers, NULL, frames, STACK_DEFAULT_FRAMES, &out->end);
  out->count = 0;
  for (size_t i = 0; i < count; i++)
    if (frames[i] - 1 - (uintptr_t)__start_thread_trampolines >=
        (uintptr_t)__stop_thread_trampolines - (uintptr_t)__start_thread_trampolines)
      out->frames[out->count++] = frames[i];
}

static void by_interpreter(const struct remote_registers *registers, struct stack *out) {
  CAPTURED_STACK(captured);
  struct unwind_registers three = {.pc = registers->value[REMOTE_PC],
                                   .sp = registers->value[REMOTE_RSP],
                                   .fp = registers->value[REMOTE_RBP],
                                   .rbx = registers->value[REMOTE_RBX]};
  stack_capture_interrupted(&three, &thread_state, captured);
  out->count = captured->frame_count;
  out->end = REMOTE_OUTERMOST;
  uint64_t last = captured->frames[captured->frame_count - 1];
  if (last < STACK_MARKER_LIMIT) {
    out->count--;
    out->end = last == STACK_TRUNCATED_DEPTH    ? REMOTE_DEPTH
               : last == STACK_TRUNCATED_MEMORY ? REMOTE_NO_MEMORY
                                                : REMOTE_NO_UNWIND;
  }
  memcpy(out->frames, captured->frames, out->count * sizeof *out->frames);
}

static char text[1 << 16];
static size_t used;
static void say(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int size = vsnprintf(text + used, sizeof text - used, format, arguments);
  va_end(arguments);
  if (size > 0 && (size_t)size < sizeof text - used) used += (size_t)size;
}

static void say_frames(const char *engine, const struct stack *stack) {
  for (size_t i = 0; i < stack->count; i++) {
    struct dl_find_object found;
    uint64_t frame = stack->frames[i];
    if (_dl_find_object((void *)(frame - 1), &found) == 0)
      say("  %s %s+0x%lx\n", engine, found.dlfo_link_map->l_name,
          frame - found.dlfo_link_map->l_addr);
    else say("  %s ?0x%lx\n", engine, frame);
  }
  say("  %s ends %d\n", engine, (int)stack->end);
}

static void add_to_report(void) {
  int file = (int)syscall(SYS_openat, AT_FDCWD, report, O_WRONLY | O_APPEND | O_CLOEXEC);
  if (file >= 0) syscall(SYS_write, file, text, used);
  if (file >= 0) syscall(SYS_close, file);
}

static const char *hold;

static void show(const struct stack *ours) {
  used = 0;
  say("held");
  for (size_t i = 0; i < ours->count; i++) say(" %lx", ours->frames[i]);
  say("\n");
  add_to_report();
  syscall(SYS_tgkill, owner, syscall(SYS_gettid), SIGSTOP);
}

static void compare(const struct stack *ours, const struct stack *theirs) {
  size_t least = ours->count < theirs->count ? ours->count : theirs->count, same = 0;
  while (same < least && ours->frames[same] == theirs->frames[same]) same++;
  used = 0;
  if (same == ours->count && same == theirs->count && ours->end == theirs->end) {
    say("same %zu\n", same);
  } else if (same == ours->count && theirs->count > same && ours->end == REMOTE_NO_UNWIND) {
    say("further %zu %zu\n", same, theirs->count - same);
    say_frames("libunwind", theirs);
  } else {
    say("differs\n");
    say_frames("interpreter", ours);
    say_frames("libunwind", theirs);
  }
  add_to_report();
}

static void tick(int number, siginfo_t *info, void *context) {
  (void)number, (void)info;
  /* DWARF's numbers */
  static const int places[] = {REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI,
                               REG_RBP, REG_RSP, REG_R8,  REG_R9,  REG_R10, REG_R11,
                               REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP};
  static struct stack ours, theirs;
  if (syscall(SYS_getpid) != owner || __atomic_exchange_n(&busy, 1, __ATOMIC_ACQUIRE)) return;
  bool waits = hold && syscall(SYS_faccessat, AT_FDCWD, hold, F_OK) != 0;
  if (waits) {
  } else if (stacks_left-- > 0) {
    const ucontext_t *interrupted = context;
    struct remote_registers registers = {.known = REMOTE_ALL_KNOWN, .exact = true};
    for (int i = 0; i < REMOTE_REGISTERS; i++)
      registers.value[i] = (uint64_t)interrupted->uc_mcontext.gregs[places[i]];
    by_interpreter(&registers, &ours);
    if (hold) show(&ours);
    else by_libunwind(&registers, &theirs), compare(&ours, &theirs);
  } else {
    struct itimerval never = {0};
    syscall(SYS_setitimer, ITIMER_PROF, &never, NULL);
  }
  __atomic_store_n(&busy, 0, __ATOMIC_RELEASE);
}

extern void __restore_rt(void);

__attribute__((constructor)) static void start(void) {
  char comm[16] = "";
  const char *wanted = getenv("UNWIND_ORACLE_COMM"), *stacks = getenv("UNWIND_ORACLE_STACKS");
  report = getenv("UNWIND_ORACLE");
  hold = getenv("UNWIND_ORACLE_HOLD");
  prctl(PR_GET_NAME, comm);
  if (!report || !wanted || !stacks || strncmp(comm, wanted, strlen(wanted)) != 0) return;
  stacks_left = atol(stacks);
  owner = getpid();
  unwinder = remote_unwinder_new();
  if (!unwinder) return;
  struct kernel_action action = {.handler = (uintptr_t)tick,
                                 .flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK | SA_RESTORER_FLAG,
                                 .restorer = (uintptr_t)__restore_rt};
  kernel_action_exchange(SIGPROF, &action, NULL);
  struct itimerval interval = {{0, hold ? 20000 : 1000}, {0, 1000}};
  syscall(SYS_setitimer, ITIMER_PROF, &interval, NULL);
}

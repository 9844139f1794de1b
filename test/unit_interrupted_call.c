/* flags: -Wno-unused-parameter */
/* System calls that a signal interrupts, from code as glibc 2.41 and compilers have it, and from
 * such that looks like it: a call that can be told goes on, any other keeps its EINTR. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "shim/base/counters.h"
#include "shim/stacks/host_handlers.h"
#include "shim/cpu/interrupted_call.h"
#include "check.h"

/* ---- in place of what is not tested here ---- */

struct dl_find_object;
void module_registry_note(const struct dl_find_object *found) {}
bool host_handlers_adopt_all(void) { return true; }
struct shim_counters shim_counters;
void handler_stack_enter(int number, siginfo_t *info, void *context) {
  (void)number, (void)info, (void)context;
}

/* ---- the code ---- */

/* MAKER: the function that makes the call, with the seven arguments of __syscall_cancel_arch: the
 * number is the second, the last two are on the stack. PASSER: its caller, with those of
 * __internal_syscall_cancel: the number is the seventh. WRAPPER: poll's arguments (rdi, rsi, rdx)
 * for PASSER. */
#define FUNCTION(name, body)                                                                 \
  __asm__(".text\n.p2align 4\n.type " #name ", @function\n" #name ":\n.cfi_startproc\n" body \
          ".cfi_endproc\n.size " #name ", .-" #name "\n");
#define MAKER_END "ret\n"
#define MAKER_MOVES                                                                      \
  "mov (%rdi), %eax\n testb $8, (%rdi)\n jne 9f\n mov %rdi, %r11\n mov %rsi, %rax\n"     \
  "mov %rdx, %rdi\n mov %rcx, %rsi\n mov %r8, %rdx\n mov %r9, %r10\n mov 8(%rsp), %r8\n" \
  "mov 16(%rsp), %r9\n"
#define MAKER(name, more, end) FUNCTION(name, MAKER_MOVES more "syscall\n" end "9: ud2\n")

MAKER(maker, "mov %r11, 8(%rsp)\n", MAKER_END) /* glibc's own */
MAKER(maker_writes_higher, "mov %rdx, 40(%rsp)\n", MAKER_END) /* where the number is */
MAKER(maker_writes_by_pointer, "mov %r11, 16(%r11)\n", MAKER_END)
MAKER(maker_moves_sp, "push %r11\n .cfi_adjust_cfa_offset 8\n",
      "pop %r11\n .cfi_adjust_cfa_offset -8\n" MAKER_END)
MAKER(maker_jumped_into, "mov %r11, 8(%rsp)\n", MAKER_END "jmp maker_jumped_into\n")
FUNCTION(maker_writes_number, "lea (%rsi), %rsi\n" MAKER_MOVES "syscall\n ret\n 9: ud2\n")
FUNCTION(maker_by_another_way, "jmp maker\n")

#define PUSH(what) "push " what "\n .cfi_adjust_cfa_offset 8\n"
#define POP(what) "pop " what "\n .cfi_adjust_cfa_offset -8\n"
/* As gcc 14 compiles it for Debian 13. load: of the number; last: before the call. */
#define PASSER(name, load, last, call) \
  FUNCTION(name, PUSH("%rbx") "mov %rcx, %r10\n" PUSH("%r9") "lea word(%rip), %r11\n"          \
                 "mov %rcx, %r9\n mov %rsi, %rcx\n" PUSH("%r8") load                          \
                 "mov %rdx, %r8\n mov %rdi, %rdx\n mov %r11, %rdi\n" last call "\n"           \
                 POP("%rcx") POP("%rsi") POP("%rbx") "ret\n")
#define LOAD "mov 0x20(%rsp), %rsi\n"

PASSER(passer, LOAD, "", "call maker")
PASSER(passer_of_constant, "mov $7, %esi\n", "", "call maker")
PASSER(passer_to_writes_higher, LOAD, "", "call maker_writes_higher")
PASSER(passer_to_writes_by_pointer, LOAD, "", "call maker_writes_by_pointer")
PASSER(passer_to_moves_sp, LOAD, "", "call maker_moves_sp")
PASSER(passer_to_jumped_into, LOAD, "", "call maker_jumped_into")
PASSER(passer_to_writes_number, LOAD, "", "call maker_writes_number")
PASSER(passer_by_another_way, LOAD, "", "call maker_by_another_way")
PASSER(passer_by_pointer, LOAD, "lea maker(%rip), %rax\n", "call *%rax")
PASSER(passer_changes_slot, LOAD, "movq $35, 0x20(%rsp)\n", "call maker")
PASSER(passer_changes_register, LOAD, "mov %rcx, %rsi\n mov $7, %sil\n", "call maker")
PASSER(passer_of_own_word, "movq $7, 8(%rsp)\n mov 8(%rsp), %rsi\n", "", "call maker")
PASSER(passer_indexed, "xor %eax, %eax\n mov 0x20(%rsp,%rax), %rsi\n", "", "call maker")
/* With frame pointers, as other distributions build theirs. */
FUNCTION(passer_with_frame,
         PUSH("%rbp") ".cfi_offset %rbp, -16\n mov %rsp, %rbp\n .cfi_def_cfa_register %rbp\n"
         "push %rbx\n push %r9\n mov %rcx, %r9\n mov %rsi, %rcx\n mov 0x10(%rbp), %rsi\n"
         "push %r8\n mov %rdx, %r8\n mov %rdi, %rdx\n lea word(%rip), %rdi\n call maker\n"
         "mov -8(%rbp), %rbx\n leave\n .cfi_def_cfa %rsp, 8\n ret\n")
/* Where nothing can be cancelled. */
FUNCTION(passer_itself,
         PUSH("%rbx") "mov %rcx, %r10\n mov 0x10(%rsp), %rax\n syscall\n" POP("%rbx") "ret\n")
FUNCTION(passer_itself_with_frame,
         PUSH("%rbp") ".cfi_offset %rbp, -16\n mov %rsp, %rbp\n .cfi_def_cfa_register %rbp\n"
         "mov %rcx, %r10\n mov 0x10(%rbp), %rax\n syscall\n leave\n .cfi_def_cfa %rsp, 8\n ret\n")

#define FOR_EACH_PASSER(use)                                                                 \
  use(passer, true) use(passer_of_constant, true) use(passer_with_frame, true)               \
      use(passer_itself, true) use(passer_itself_with_frame, true)                           \
          use(passer_to_writes_higher, false) use(passer_to_writes_by_pointer, false)        \
              use(passer_to_moves_sp, false) use(passer_to_jumped_into, false)               \
                  use(passer_to_writes_number, false) use(passer_by_another_way, false)      \
                      use(passer_by_pointer, false) use(passer_changes_slot, false)          \
                          use(passer_changes_register, false) use(passer_of_own_word, false) \
                              use(passer_indexed, false)

uint64_t word[4] __attribute__((visibility("hidden")));
#define WRAPPER(passer, goes_on)                                                      \
  FUNCTION(wrapper_of_##passer, "sub $0x10, %rsp\n .cfi_adjust_cfa_offset 16\n" PUSH( \
                                    "$7") "call " #passer                             \
                                          "\n add $0x18, %rsp\n"                      \
                                          ".cfi_adjust_cfa_offset -24\n ret\n")       \
  long wrapper_of_##passer(struct pollfd *, long, long) __attribute__((visibility("hidden")));
FOR_EACH_PASSER(WRAPPER)

struct shape {
  const char *name;
  long (*wrapper)(struct pollfd *, long, long);
  bool goes_on;
};
#define SHAPE(passer, goes_on) {#passer, wrapper_of_##passer, goes_on},
static const struct shape shapes[] = {FOR_EACH_PASSER(SHAPE)};

/* ---- a call that is interrupted ---- */

enum { TIMEOUT = SYS_writev /* milliseconds: some */, INTERVAL = 5 };
static int ends[2];
static volatile sig_atomic_t interrupted;

static void handle(int number, siginfo_t *info, void *context) {
  interrupted++;
  interrupted_call_restart(context);
}

static const char *call(const struct shape *shape, timer_t timer) {
  struct pollfd wanted = {.fd = ends[0], .events = POLLIN};
  struct itimerspec once = {.it_value.tv_nsec = INTERVAL * 1000000}, none = {0};
  interrupted = 0;
  timer_settime(timer, 0, &once, NULL);
  long result = shape->wrapper(&wanted, 1, TIMEOUT);
  timer_settime(timer, 0, &none, NULL);
  if (!interrupted) return "not interrupted";
  return result == -EINTR ? "ended" : result == 0 ? "went on" : "became another";
}

static void test_shapes(timer_t timer) {
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
    const struct shape *shape = &shapes[i];
    const char *what;
    do what = call(shape, timer);
    while (strcmp(what, "not interrupted") == 0); /* the machine is busy */
    const char *right = shape->goes_on ? "went on" : "ended";
    if (strcmp(what, right) == 0) continue;
    failures++;
    printf("%s: the call %s\n", shape->name, what);
  }
}

/* ---- another's stack ---- */

static bool read_nothing(void *reader, uintptr_t address, uintptr_t *value) { return false; }
static bool read_rubbish(void *reader, uintptr_t address, uintptr_t *value) {
  *value = (uintptr_t)reader;
  return true;
}

static void test_rubbish(void) {
  extern const char maker[] __attribute__((visibility("hidden")));
  uintptr_t pc = (uintptr_t)maker;
  while (memcmp((const void *)pc, "\x0f\x05", 2) != 0) pc++;
  struct interrupted_thread thread = {.pc = pc + 2, .sp = (uintptr_t)&thread};
  uint32_t number;
  thread.read = read_nothing;
  CHECK(!interrupted_call_number(&thread, &number));
  const uintptr_t rubbish[] = {0,
                               1,
                               4,
                               5,
                               (uintptr_t)maker,
                               (uintptr_t)maker + 1,
                               pc,
                               pc + 2,
                               (uintptr_t)word,
                               (uintptr_t)-1,
                               (uintptr_t)test_rubbish + 9,
                               (uintptr_t)getpid,
                               (uintptr_t)getpid + 5};
  thread.read = read_rubbish;
  for (size_t i = 0; i < sizeof rubbish / sizeof *rubbish; i++) {
    thread.reader = (void *)rubbish[i];
    CHECK(!interrupted_call_number(&thread, &number));
  }
}

int main(void) {
  struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO};
  memset(&action.sa_mask, 0xff, sizeof action.sa_mask);
  timer_t timer;
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
  CHECK(sigaction(SIGUSR1, &action, NULL) == 0 && pipe(ends) == 0);
  CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
  test_shapes(timer);
  test_rubbish();
  return failures != 0;
}

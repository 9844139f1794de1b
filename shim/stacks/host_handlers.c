#include "host_handlers.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "shim/base/confinement.h"
#include "handler_stack.h"
#include "kernel_action.h"
#include "shim/base/raw_syscall.h"

#if defined(__x86_64__)

/* At the entry rsp is the address of the ucontext; rax, rcx, rsp, rip and r11 of what was
 * interrupted are in it. A system call has just ended there if rcx is rip. (Not so with FRED, where
 * only the code tells; what is on rip's own page can be read.) Every register is free here.
 * Named as libc's, since it stands in profiles where that would; unwinding information as there:
 * all registers are in the ucontext. It begins a byte before the entry, where unwinders look that
 * do not know of signal frames. */
#define SAVED(reg, at) \
  ".cfi_escape 0x10, " #reg ", 3, 0x77, (" #at " & 0x7f) | 0x80, " #at " >> 7\n"
__asm__(".pushsection .text.restore_rt, \"ax\", @progbits\n"
        ".hidden __restore_rt\n"
        ".globl __restore_rt\n"
        ".type __restore_rt, @function\n"
        ".cfi_startproc\n"
        ".cfi_signal_frame\n"
        ".cfi_escape 0x0f, 4, 0x77, 0xa0, 0x01, 0x06\n" /* CFA: the rsp in the ucontext */
        SAVED(8, 40) SAVED(9, 48) SAVED(10, 56) SAVED(11, 64) SAVED(12, 72) SAVED(13, 80)
        SAVED(14, 88) SAVED(15, 96) SAVED(5, 104) SAVED(4, 112) SAVED(6, 120) SAVED(3, 128)
        SAVED(1, 136) SAVED(0, 144) SAVED(2, 152) SAVED(7, 160) SAVED(16, 168)
        "  nop\n"
        "__restore_rt:\n"
        "  cmpq $-4, 144(%rsp)\n" /* -EINTR */
        "  jne 2f\n"
        "  movq 168(%rsp), %rax\n"
        "  cmpq %rax, 152(%rsp)\n"
        "  je 1f\n"
        "  movl %eax, %ecx\n"
        "  andl $4095, %ecx\n"
        "  cmpl $2, %ecx\n"
        "  jb 2f\n"
        "  cmpw $0x050f, -2(%rax)\n"
        "  jne 2f\n"
        "1: movq $0x6d61726b, 64(%rsp)\n" /* HOST_HANDLER_MARK */
        "2: movl $15, %eax\n"             /* rt_sigreturn */
        "  syscall\n"
        "  ud2\n"
        ".cfi_endproc\n"
        ".size __restore_rt, . - __restore_rt\n"
        ".popsection\n");
_Static_assert(EINTR == 4 && SYS_rt_sigreturn == 15 && HOST_HANDLER_MARK == 0x6d61726b, "as above");

#else
#error "__restore_rt is not written for this architecture yet"
#endif

/* What the last handler that was adopted would have returned to: libc's, as a rule. */
static void (*_Atomic replaced)(void);

/* Not so the handler that takes our ticks: it marks what the program's own has returned to itself,
 * since an EINTR that it leaves to the next signal may be mended there. */
static bool is_strange(const struct kernel_action *action) {
  return action->handler != (uintptr_t)SIG_DFL && action->handler != (uintptr_t)SIG_IGN &&
         action->handler != (uintptr_t)handler_stack_enter && (action->flags & SA_RESTORER_FLAG) &&
         action->restorer != (uintptr_t)__restore_rt;
}

static struct kernel_action adopted(struct kernel_action action) {
  if (!is_strange(&action)) return action;
  atomic_store_explicit(&replaced, (void (*)(void))action.restorer, memory_order_relaxed);
  action.restorer = (uintptr_t)__restore_rt;
  return action;
}

static bool equal(const struct kernel_action *a, const struct kernel_action *b) {
  return memcmp(a, b, sizeof *a) == 0;
}

/* The kernel exchanges actions but cannot compare them first. Another thread's change that came in
 * between is found in what was replaced, and put back. False: it was a strange one. */
static bool adopt(int number) {
  struct kernel_action in_force, wanted, found;
  if (kernel_action_exchange(number, NULL, &in_force) != 0 || !is_strange(&in_force)) return true;
  for (wanted = adopted(in_force); kernel_action_exchange(number, &wanted, &found) == 0;
       wanted = adopted(found)) {
    if (equal(&found, &in_force) || equal(&found, &wanted)) break;
    in_force = wanted;
  }
  return false;
}

void host_handler_adopt(int number) {
  if (!confinement_forbids_calls()) adopt(number); /* else there are no more ticks */
}

bool host_handler_set(int number, const struct sigaction *action, struct sigaction *old,
                      int *result) {
  struct kernel_action wanted, before;
  if (!atomic_load_explicit(&replaced, memory_order_relaxed)) return false; /* none to be shown */
  if (action) {
    wanted.handler = (uintptr_t)action->sa_handler;
    wanted.flags = (uint32_t)action->sa_flags | SA_RESTORER_FLAG;
    wanted.restorer = (uintptr_t)__restore_rt;
    memcpy(&wanted.mask, &action->sa_mask, sizeof wanted.mask);
  }
  *result = (int)kernel_action_exchange(number, action ? &wanted : NULL, old ? &before : NULL);
  if (*result != 0 || !old) return true;
  old->sa_handler = (void (*)(int))before.handler;
  old->sa_flags = (int)before.flags;
  old->sa_restorer = (void (*)(void))before.restorer;
  memcpy(&old->sa_mask, &before.mask, sizeof before.mask);
  return true;
}

static int64_t now_ns(void) {
  struct timespec now = {0, 0};
  raw_syscall4(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&now, 0, 0);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

bool host_handlers_adopt_all(void) {
  enum { LIBC_FIRST = 32, LIBC_LAST = 33 }; /* its own, for cancellation and setuid */
  static const int64_t in_flight_ns = 100 * 1000 * 1000;
  static _Atomic int64_t doubtful_until; /* 0: not ever; any thread writes what is true for all */
  bool all = true;
  for (int number = 1; number <= 64; number++)
    if (number < LIBC_FIRST || number > LIBC_LAST) all &= adopt(number);
  if (!all) atomic_store_explicit(&doubtful_until, now_ns() + in_flight_ns, memory_order_relaxed);
  int64_t until = atomic_load_explicit(&doubtful_until, memory_order_relaxed);
  return until == 0 || now_ns() >= until;
}

void host_handlers_settle(void) {
  static const long pause[2] = {0, 5 * 1000 * 1000};
  for (int i = 0; i < 40 && !host_handlers_adopt_all(); i++)
    raw_syscall4(SYS_nanosleep, (long)pause, 0, 0, 0);
}

void (*host_handlers_restorer_shown(void (*restorer)(void)))(void) {
  void (*other)(void) = atomic_load_explicit(&replaced, memory_order_relaxed);
  return restorer == __restore_rt && other ? other : restorer;
}

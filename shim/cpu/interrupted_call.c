#include "interrupted_call.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "shim/stacks/handler_stack.h"
#include "shim/stacks/kernel_action.h"
#include "shim/base/counters.h"
#include "shim/base/call_number.h"
#include "shim/stacks/host_handlers.h"
#include "shim/base/raw_syscall.h"
#include "shim/stacks/readable_pages.h"
#include "shim/stacks/unwind_rule.h"

_Atomic uint64_t interrupted_calls_restarted;

/* Calls that may be made again with the same arguments after an EINTR: they have done nothing yet.
 * (Not close: the descriptor may be gone.) */
bool interrupted_call_may_be_repeated(uint64_t number) {
  switch (number) {
#ifdef SYS_poll /* not on newer architectures */
    case SYS_poll:
    case SYS_select:
    case SYS_epoll_wait:
    case SYS_pause:
    case SYS_accept:
#endif
    case SYS_ppoll:
    case SYS_pselect6:
    case SYS_epoll_pwait:
    case 441 /* epoll_pwait2 */:
    case SYS_nanosleep:
    case SYS_clock_nanosleep:
    case SYS_futex:
    case 449 /* futex_waitv */:
    case SYS_rt_sigtimedwait:
    case SYS_rt_sigsuspend:
    case SYS_semop:
    case SYS_semtimedop:
    case SYS_msgsnd:
    case SYS_msgrcv:
    case SYS_mq_timedsend:
    case SYS_mq_timedreceive:
    case SYS_io_getevents:
    case SYS_io_uring_enter:
    case SYS_getrandom:
    case SYS_read:
    case SYS_readv:
    case SYS_write:
    case SYS_writev:
    case SYS_recvfrom:
    case SYS_recvmsg:
    case SYS_recvmmsg:
    case SYS_sendto:
    case SYS_sendmsg:
    case SYS_sendmmsg:
    case SYS_accept4:
    case SYS_connect:
    case SYS_wait4:
    case SYS_waitid:
    case SYS_flock:
    case SYS_fcntl: return true;
    default: return false;
  }
}

/* Nothing would have come of it, or its handler is ours too. */
static bool is_of_no_account(int number) {
  struct kernel_action now;
  if (kernel_action_exchange(number, NULL, &now) != 0) return false;
  if (now.handler == (uintptr_t)handler_stack_enter) return true;
  if (now.handler != (uintptr_t)SIG_DFL) return now.handler == (uintptr_t)SIG_IGN;
  return number == SIGCHLD || number == SIGURG || number == SIGWINCH || number == SIGCONT;
}

/* A signal that the interrupted code would take now: the call's EINTR belongs to it. */
static bool another_signal_waits(const ucontext_t *context) {
  uint64_t pending = 0, blocked;
  memcpy(&blocked, &context->uc_sigmask, sizeof blocked);
  if (raw_syscall4(SYS_rt_sigpending, (long)&pending, sizeof pending, 0, 0) != 0) return true;
  for (pending &= ~blocked; pending; pending &= pending - 1)
    if (!is_of_no_account(__builtin_ctzll(pending) + 1)) return true;
  return false;
}

#if defined(__x86_64__)

enum { SYSCALL_SIZE = 2, CALL_SIZE = 5, WORD = 8, RSP = 4, RBP = 5 };

/* By their numbers in the instruction set; those that a call changes have none. */
static const int registers_by_number[16] = {-1,      -1,      REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                            REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, -1,
                                            REG_R12, REG_R13, REG_R14, REG_R15};

static bool read_register(const struct interrupted_thread *thread, uint32_t which,
                          uintptr_t *value) {
  if (which != RSP && !thread->registers) return false;
  *value = which == RSP ? thread->sp : (uintptr_t)thread->registers[registers_by_number[which]];
  return true;
}

static bool is_relative_to(const struct cfi_rule *rule, uint32_t which) {
  return rule->base == (which == RSP ? CFI_BASE_SP : CFI_BASE_FP);
}

/* The rule at an address whose function can be read as well. */
static bool find_function(uintptr_t at, struct cfi_rule *rule) {
  return unwind_rule_find(at, rule) && readable_pages_cover(rule->start, rule->end - rule->start);
}

/* Where the caller has loaded the number from, if that is an argument of its own, on the stack:
 * nobody has written there since then. The CFA is the same in a whole function. */
static bool find_argument(const struct interrupted_thread *thread, const struct cfi_rule *at_call,
                          size_t load, const struct call_number *argument, uintptr_t *slot) {
  struct cfi_rule at_load;
  uintptr_t base;
  if (!unwind_rule_find(at_call->start + load, &at_load) || at_load.start != at_call->start ||
      !is_relative_to(&at_load, argument->value) || argument->displacement < at_load.cfa_offset)
    return false;
  uint32_t which = is_relative_to(at_call, RSP) ? RSP : RBP;
  if (!is_relative_to(at_call, which) || !read_register(thread, which, &base)) return false;
  if (which == RSP) base += WORD; /* the return address */
  *slot = base + (uintptr_t)(at_call->cfa_offset + argument->displacement - at_load.cfa_offset);
  return true;
}

/* The function has it in a register when it is entered. */
static bool find_number_of_caller(const struct interrupted_thread *thread,
                                  const struct cfi_rule *function, const struct call_number *entry,
                                  uintptr_t *number) {
  struct cfi_rule caller;
  struct call_number argument;
  uintptr_t back, slot;
  size_t load;
  if (!thread->read(thread->reader, thread->sp, &back)) return false;
  uintptr_t call = back - CALL_SIZE;
  if (!find_function(call, &caller) ||
      !call_argument_find((const uint8_t *)caller.start, caller.end - caller.start,
                          call - caller.start, function->start - caller.start, entry->value,
                          &argument, &load))
    return false;
  *number = argument.value;
  if (argument.place == NUMBER_CONSTANT) return true;
  return find_argument(thread, &caller, load, &argument, &slot) &&
         slot - thread->sp >= (uintptr_t)entry->displacement &&
         thread->read(thread->reader, slot, number);
}

bool interrupted_call_number(const struct interrupted_thread *thread, uint32_t *number) {
  struct cfi_rule rule;
  struct call_number call;
  uintptr_t at = thread->pc - SYSCALL_SIZE, value;
  if (!find_function(at, &rule) ||
      !call_number_find((const uint8_t *)rule.start, rule.end - rule.start, at - rule.start, &call))
    return false;
  bool known = true;
  switch (call.place) {
    case NUMBER_CONSTANT: value = call.value; break;
    case NUMBER_IN_REGISTER: known = read_register(thread, call.value, &value); break;
    case NUMBER_IN_MEMORY:
      known = read_register(thread, call.value, &value) &&
              thread->read(thread->reader, value + (uintptr_t)(intptr_t)call.displacement, &value);
      break;
    case NUMBER_AT_ENTRY: known = find_number_of_caller(thread, &rule, &call, &value); break;
  }
  if (!known) return false;
  *number = (uint32_t)value;
  return interrupted_call_may_be_repeated(*number);
}

/* As __restore_rt (host_handlers.c) looks at it. */
static bool ended_in_eintr(const ucontext_t *context) {
  enum { PAGE = 4096 };
  const greg_t *registers = context->uc_mcontext.gregs;
  if (registers[REG_RAX] != -EINTR) return false;
  const uint8_t *after = (const uint8_t *)registers[REG_RIP];
  if (registers[REG_RCX] == registers[REG_RIP]) return true;
  return (uintptr_t)after % PAGE >= SYSCALL_SIZE && after[-2] == 0x0f && after[-1] == 0x05;
}

static bool read_own(void *reader, uintptr_t address, uintptr_t *value) {
  (void)reader;
  if (address % sizeof *value || !raw_is_readable(address)) return false;
  *value = *(const uintptr_t *)address;
  return true;
}

static bool find_number(const greg_t *registers, uint32_t *number) {
  struct interrupted_thread thread = {.pc = (uintptr_t)registers[REG_RIP],
                                      .sp = (uintptr_t)registers[REG_RSP],
                                      .registers = registers,
                                      .read = read_own};
  return interrupted_call_number(&thread, number);
}

void interrupted_call_mark(ucontext_t *context) {
  if (ended_in_eintr(context)) context->uc_mcontext.gregs[REG_R11] = HOST_HANDLER_MARK;
}

void interrupted_call_restart(ucontext_t *context) {
  greg_t *registers = context->uc_mcontext.gregs;
  uint32_t number;
  if (!ended_in_eintr(context) || registers[REG_R11] == HOST_HANDLER_MARK) return;
  if (another_signal_waits(context)) return;
  if (find_number(registers, &number) && host_handlers_adopt_all()) {
    registers[REG_RAX] = (greg_t)number;
    registers[REG_RIP] -= SYSCALL_SIZE;
    atomic_fetch_add_explicit(&interrupted_calls_restarted, 1, memory_order_relaxed);
  } else {
    COUNT_LOSS(cpu_calls_interrupted);
  }
}

#else
#error "interrupted_call_restart is not written for this architecture yet"
#endif

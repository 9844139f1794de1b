#include "interrupted_call.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "counters.h"
#include "host_handlers.h"
#include "raw_syscall.h"

_Atomic uint64_t interrupted_calls_restarted;

/* Calls that may be made again with the same arguments after an EINTR: they have done nothing yet. (Not close: the descriptor may be gone.) */
bool interrupted_call_may_be_repeated(uint64_t number) {
  switch (number) {
#ifdef SYS_poll /* not on newer architectures */
    case SYS_poll: case SYS_select: case SYS_epoll_wait: case SYS_pause: case SYS_accept:
#endif
    case SYS_ppoll: case SYS_pselect6: case SYS_epoll_pwait: case 441 /* epoll_pwait2 */:
    case SYS_nanosleep: case SYS_clock_nanosleep: case SYS_futex: case 449 /* futex_waitv */:
    case SYS_rt_sigtimedwait: case SYS_rt_sigsuspend:
    case SYS_semop: case SYS_semtimedop: case SYS_msgsnd: case SYS_msgrcv: case SYS_mq_timedsend: case SYS_mq_timedreceive:
    case SYS_io_getevents: case SYS_io_uring_enter: case SYS_getrandom:
    case SYS_read: case SYS_readv: case SYS_write: case SYS_writev:
    case SYS_recvfrom: case SYS_recvmsg: case SYS_recvmmsg: case SYS_sendto: case SYS_sendmsg: case SYS_sendmmsg:
    case SYS_accept4: case SYS_connect:
    case SYS_wait4: case SYS_waitid: case SYS_flock: case SYS_fcntl:
      return true;
    default:
      return false;
  }
}

/* A signal that the interrupted code would take now: the call's EINTR belongs to it. */
static bool another_signal_waits(const ucontext_t *context) {
  uint64_t pending = 0, blocked;
  memcpy(&blocked, &context->uc_sigmask, sizeof blocked);
  return raw_syscall4(SYS_rt_sigpending, (long)&pending, sizeof pending, 0, 0) != 0 || (pending & ~blocked);
}

#if defined(__x86_64__)

enum { SYSCALL_SIZE = 2, MOVE_SIZE = 5, BETWEEN_MAX = 5, LOOK_BACK = SYSCALL_SIZE + MOVE_SIZE + BETWEEN_MAX };

/* What compilers put between `mov $number,%eax` and the system call: one instruction that loads an argument. */
static const struct between {
  uint8_t size, known, bytes[4];
} between[] = {
    {0, 0, {0}},
    {2, 1, {0x31}},                   /* xor %edi,%edi */
    {3, 2, {0x48, 0x89}},             /* mov %rsi,%rdx */
    {3, 3, {0x8b, 0x3c, 0x24}},       /* mov (%rsp),%edi */
    {4, 3, {0x8b, 0x7c, 0x24}},       /* mov disp8(%rsp),%edi */
    {5, 4, {0x48, 0x8b, 0x7c, 0x24}}, /* mov disp8(%rsp),%rdi */
    {5, 4, {0x48, 0x8b, 0x74, 0x24}}, /* mov disp8(%rsp),%rsi */
    {5, 4, {0x48, 0x8b, 0x54, 0x24}}, /* mov disp8(%rsp),%rdx */
};

_Static_assert((int)LOOK_BACK == (int)INTERRUPTED_CALL_LOOK_BACK, "as the header says");

bool interrupted_call_number(const uint8_t *after, uint32_t *number) {
  for (size_t i = 0; i < sizeof between / sizeof *between; i++) {
    const uint8_t *loaded = after - SYSCALL_SIZE - between[i].size, *move = loaded - MOVE_SIZE;
    if (*move != 0xb8 || memcmp(loaded, between[i].bytes, between[i].known) != 0) continue;
    memcpy(number, move + 1, sizeof *number);
    if (interrupted_call_may_be_repeated(*number)) return true;
  }
  *number = SYS_read; /* whose 0 is made by xor %eax,%eax */
  return after[-4] == 0x31 && after[-3] == 0xc0;
}

static bool ended_in_eintr(const ucontext_t *context) {
  const greg_t *registers = context->uc_mcontext.gregs;
  if (registers[REG_RAX] != -EINTR) return false;
  const uint8_t *after = (const uint8_t *)registers[REG_RIP];
  struct dl_find_object found;
  if (_dl_find_object((void *)(after - 1), &found) != 0 || (uintptr_t)after - (uintptr_t)found.dlfo_map_start < LOOK_BACK) return false;
  return after[-2] == 0x0f && after[-1] == 0x05; /* else a register that happens to hold -4 */
}

/* `mov %rbx,%rax; syscall`: raw_syscall_kept. */
static bool find_number(const greg_t *registers, uint32_t *number) {
  static const uint8_t kept[] = {0x48, 0x89, 0xd8};
  const uint8_t *after = (const uint8_t *)registers[REG_RIP];
  if (memcmp(after - SYSCALL_SIZE - sizeof kept, kept, sizeof kept) != 0) return interrupted_call_number(after, number);
  *number = (uint32_t)registers[REG_RBX];
  return interrupted_call_may_be_repeated((uint64_t)registers[REG_RBX]);
}

/* A system call leaves its own flags in r11 (the psABI's Linux conventions: rcx and r11 are lost), so nobody keeps anything there. */
enum { MARK = 0x6d61726b };

void interrupted_call_mark(ucontext_t *context) {
  if (ended_in_eintr(context)) context->uc_mcontext.gregs[REG_R11] = MARK;
}

void interrupted_call_restart(ucontext_t *context) {
  greg_t *registers = context->uc_mcontext.gregs;
  uint32_t number;
  if (!ended_in_eintr(context) || registers[REG_R11] == MARK || another_signal_waits(context)) return;
  if (find_number(registers, &number) && !host_handlers_some_are_unseen()) {
    registers[REG_RAX] = number;
    registers[REG_RIP] -= SYSCALL_SIZE;
    atomic_fetch_add_explicit(&interrupted_calls_restarted, 1, memory_order_relaxed);
  } else {
    COUNT_LOSS(cpu_calls_interrupted);
  }
}

#else
#error "interrupted_call_restart is not written for this architecture yet"
#endif

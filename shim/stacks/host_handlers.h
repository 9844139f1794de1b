/* The host's signal handlers return through a few instructions of ours. They tell our tick that an
 * EINTR is the host's, not ours.
 *
 * Why. A tick of ours that interrupts a system call has the call made again (interrupted_call.c):
 * the host shall see no EINTR of ours. The tick knows such a call by the registers. But there is a
 * case that looks the same: a handler of the host's has interrupted the call, the call ends in
 * -EINTR, the handler returns behind it, and our tick comes before the next instruction. If the
 * call were made again then, a program that waits for its own signal would wait for ever.
 *
 * How. A handler returns to its action's sa_restorer, which libc, or whoever calls the kernel, sets
 * to code that calls rt_sigreturn. Ours does the same. But if the handler returns right behind a
 * system call that ends in -EINTR, it first leaves a mark in a register that is free there. The
 * tick finds the mark, and leaves the call alone.
 *
 * So the handler itself stays what the program has installed, for whoever asks; it needs no more
 * stack than without us; and there may be any number of handlers.
 * Context: any. Locks: none.
 */
#ifndef SHIM_HOST_HANDLERS_H
#define SHIM_HOST_HANDLERS_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* The mark, in r11. A system call overwrites rcx and r11 (psABI), so nobody keeps anything there.
 */
enum { HOST_HANDLER_MARK = 0x6d61726b };

/* Does what libc's sigaction does, but so that the handler returns through us from the first moment
 * on. It is one call of the kernel's. With two, a tick that adopts could come between them, see the
 * first action, and put it in force again although the program has changed it since. *result: 0, or
 * -errno. False: nothing was done, since no handler has been adopted yet. */
bool host_handler_set(int number, const struct sigaction *action, struct sigaction *old,
                      int *result);

/* Adopts the handler of a signal, if there is one: it returns through us. To be called after each
 * change that is seen and was not made by host_handler_set. */
void host_handler_adopt(int number);

/* The same for all signals. It finds handlers that were installed before us, by libc for itself
 * (system, a profiled program's gmon), or by system calls of the program's own. False: it has
 * adopted one, now or within the last tenth of a second. That one may still be running, as it was
 * before: any EINTR may be its work. */
bool host_handlers_adopt_all(void);

/* Before the first tick: adopts all, and waits until none is in doubt, a fifth of a second at most.
 * Context: agent. */
void host_handlers_settle(void);

/* Our restorer (x86-64). */
extern void __restore_rt(void) __attribute__((visibility("hidden")));

/* For a restorer that the program reads: the one that it would read without us. */
void (*host_handlers_restorer_shown(void (*restorer)(void)))(void);

#endif

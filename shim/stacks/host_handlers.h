/* The host's signal handlers return through code of ours, so that an EINTR that one of them returns
 * to is never mistaken for ours.
 *
 * A tick that comes before the first instruction after such a handler's return would find the same
 * registers as one that has interrupted the system call itself; interrupted_call.c would make the
 * call again, and a program that waits for its own signal would wait for ever. So whoever returns
 * right behind a system call that ends in -EINTR leaves a mark there, in a register that is free
 * behind a system call. The tick finds it, and leaves the call alone.
 *
 * A handler returns to its action's sa_restorer, which libc (or whoever calls the kernel) sets to
 * some code that calls rt_sigreturn. Ours does the same and sets the mark before. So the handler
 * itself stays what the program has installed, for whoever asks, needs no more stack than it
 * would without us, and there may be any number of them.
 * Context: any; locks: none.
 */
#ifndef SHIM_HOST_HANDLERS_H
#define SHIM_HOST_HANDLERS_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* In r11: a system call leaves its own flags there (psABI: rcx and r11 are lost), so nobody keeps
 * anything in it. */
enum { HOST_HANDLER_MARK = 0x6d61726b };

/* What libc's sigaction asks the kernel for, but that the handler returns through us from the first
 * moment on: by two calls, one of them would be seen by a tick that adopts, and might put it in
 * force again although the program has changed it since. 0, or -errno. False: not yet, a handler
 * must have been adopted before. */
bool host_handler_set(int number, const struct sigaction *action, struct sigaction *old,
                      int *result);

/* Makes the handler of a signal, if there is one, return through us. To be called after each change
 * that is seen and not made by host_handler_set. */
void host_handler_adopt(int number);

/* The same for all signals: handlers that were installed before us, by libc for itself (system, a
 * profiled program's gmon), or by system calls of the program's own. False: there was one, now or
 * a tenth of a second ago, and it may be running still: any EINTR may be its work. */
bool host_handlers_adopt_all(void);

/* Adopts all and waits until none is in doubt, a fifth of a second at most: before the first tick,
 * not while nobody asks for one. Context: agent. */
void host_handlers_settle(void);

/* Our restorer (x86-64). */
extern void __restore_rt(void) __attribute__((visibility("hidden")));

/* The restorer that a program would read without us, for one that it reads. */
void (*host_handlers_restorer_shown(void (*restorer)(void)))(void);

#endif

/* The host's signal handlers, each behind a thunk, so that an EINTR that one of them returns to is never mistaken for ours.
 *
 * A tick of ours that comes before the first instruction after such a handler's return would find the same registers as one that has interrupted the
 * system call itself; interrupted_call.c would make the call again, and a program that waits for its own signal would wait for ever. So a handler that
 * returns right behind a system call that ends in -EINTR leaves a mark there, in a register that is free behind a system call
 * (interrupted_call_mark): such a tick finds it, and leaves the call alone.
 * A thunk stands for one handler for good, so that either is found from the other, whoever asks. Handlers of signals that come
 * of what the thread itself does (SIGSEGV, ...) are installed as they are.
 * Context: any; locks: none.
 */
#ifndef SHIM_HOST_HANDLERS_H
#define SHIM_HOST_HANDLERS_H

#include <stdbool.h>
#include <stdint.h>

/* What to install for a handler (SIG_DFL, SIG_IGN and thunks stay what they are), and what the host called an installed one. */
uintptr_t host_handler_to_install(int number, uintptr_t handler);
uintptr_t host_handler_of_installed(uintptr_t installed);

/* Looks whether the handler of a signal is behind no thunk: installed by a system call of the program's own. Context: agent. */
void host_handler_check(int number);
/* There is such a handler, or there were more handlers than thunks: any EINTR may be the host's. */
bool host_handlers_some_are_unseen(void);

#endif

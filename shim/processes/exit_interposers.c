/* The ways by which a program ends itself, without libc's exit handlers but for the first. (By
 * syscall(SYS_exit_group): process_interposers.c; by return from main: agent_end.c.) A child of
 * vfork comes here with its parent's memory, and changes nothing in it. */
#include <stdlib.h>
#include <unistd.h>

#include "shim/base/agent_hooks.h"
#include "shim/base/config.h"
#include "shim/next/interposed.h"
#include "shim/next/next_functions.h"

#define ENDS(name, tell)                                     \
  EXPORTED __attribute__((noreturn)) void name(int status) { \
    if (UNLIKELY(config.dumps_at_exit)) tell();              \
    NEXT_AT_FIRST_CALL(name)(status);                        \
    __builtin_unreachable();                                 \
  }

ENDS(exit, agent_process_exits)
ENDS(_exit, agent_process_ends)
ENDS(_Exit, agent_process_ends)

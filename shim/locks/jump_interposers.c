/* longjmp and its like: a signal handler may leave a wait that it interrupted by one of these; the
 * wait is then over. Context: host thread, signal handler. */
#include "shim/next/interposed.h"
#include "lock_functions.h"
#include "lock_waits.h"
#include "shim/next/startup.h"
#include "shim/base/thread_state.h"

#define DEFINE_JUMP(name)                                                                      \
  EXPORTED __attribute__((noreturn)) void name(struct __jmp_buf_tag *environment, int value) { \
    if (UNLIKELY(!real_locks.name) && !lock_functions_find()) {                                \
      STARTUP_NEXT(name)(environment, value);                                                  \
      __builtin_unreachable();                                                                 \
    }                                                                                          \
    if (UNLIKELY(thread_state.waiting != NULL)) lock_waits_abandon();                          \
    real_locks.name(environment, value);                                                       \
    __builtin_unreachable();                                                                   \
  }

DEFINE_JUMP(longjmp)
DEFINE_JUMP(_longjmp)
DEFINE_JUMP(siglongjmp)
DEFINE_JUMP(__longjmp_chk)

#include "host_handlers.h"

#include <signal.h>
#include <stdatomic.h>

#include "interposed.h"
#include "interrupted_call.h"

enum { THUNKS = 64 };

/* A slot is taken for good by the CAS of the first that installs its handler. */
static _Atomic uintptr_t handlers[THUNKS];
static _Atomic bool some_are_unseen;

/* All three arguments, whichever kind the handler is: it takes those that it knows of. */
static void run(uint32_t slot, int number, siginfo_t *info, void *context) {
  ((void (*)(int, siginfo_t *, void *))atomic_load_explicit(&handlers[slot], memory_order_relaxed))(number, info, context);
  interrupted_call_mark(context);
}

#define THUNK(n) static void thunk_##n(int number, siginfo_t *info, void *context) { run(n, number, info, context); }
#define EIGHT(X, t) X(t##0) X(t##1) X(t##2) X(t##3) X(t##4) X(t##5) X(t##6) X(t##7)
#define ALL(X) EIGHT(X, 0) EIGHT(X, 01) EIGHT(X, 02) EIGHT(X, 03) EIGHT(X, 04) EIGHT(X, 05) EIGHT(X, 06) EIGHT(X, 07) /* octal */
ALL(THUNK)
#define ADDRESS(n) thunk_##n,
static void (*const thunks[THUNKS])(int, siginfo_t *, void *) = {ALL(ADDRESS)};

static bool is_synchronous(int number) {
  switch (number) {
    case SIGSEGV: case SIGBUS: case SIGILL: case SIGFPE: case SIGTRAP: case SIGSYS: case SIGABRT: return true;
    default: return false;
  }
}

static bool is_thunk(uintptr_t handler) {
  for (uint32_t i = 0; i < THUNKS; i++)
    if (handler == (uintptr_t)thunks[i]) return true;
  return false;
}

uintptr_t host_handler_to_install(int number, uintptr_t handler) {
  if (handler == (uintptr_t)SIG_DFL || handler == (uintptr_t)SIG_IGN || handler == (uintptr_t)SIG_ERR || handler == (uintptr_t)SIG_HOLD ||
      is_synchronous(number) || is_thunk(handler))
    return handler;
  for (uint32_t i = 0; i < THUNKS; i++) {
    uintptr_t found = atomic_load_explicit(&handlers[i], memory_order_relaxed);
    if (found == 0 && atomic_compare_exchange_strong(&handlers[i], &found, handler)) return (uintptr_t)thunks[i];
    if (found == handler) return (uintptr_t)thunks[i];
  }
  atomic_store(&some_are_unseen, true);
  return handler;
}

void host_handler_check(int number) {
  struct sigaction now;
  if (is_synchronous(number) || !real.sigaction || real.sigaction(number, NULL, &now) != 0) return;
  if (now.sa_handler != SIG_DFL && now.sa_handler != SIG_IGN && !is_thunk((uintptr_t)now.sa_handler)) atomic_store(&some_are_unseen, true);
}

uintptr_t host_handler_of_installed(uintptr_t installed) {
  for (uint32_t i = 0; i < THUNKS; i++)
    if (installed == (uintptr_t)thunks[i]) return atomic_load_explicit(&handlers[i], memory_order_relaxed);
  return installed;
}

bool host_handlers_some_are_unseen(void) { return atomic_load(&some_are_unseen); }

#include "tree_keys.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "agent/http/process_owner.h"
#include "agent/runtime/agent_inherited.h"

static struct tree_key keys[TREE_KEYS] AGENT_INHERITED;

enum { KEY_NONE, KEY_BEING_MADE, KEY_MADE };
static _Atomic int key_state
    AGENT_INHERITED; /* a thread that forks, or the admin thread, moves it on */

bool tree_key_equals(const struct tree_key *a, const struct tree_key *b) {
  return memcmp(a, b, sizeof *a) == 0;
}

bool tree_key_is_set(const struct tree_key *key) {
  static const struct tree_key none;
  return !tree_key_equals(key, &none);
}

const struct tree_key *tree_keys(void) { return keys; }

void tree_keys_make(void) {
  if (atomic_load_explicit(&key_state, memory_order_acquire) == KEY_MADE) return;
  sigset_t all, mask;
  memset(&all, ~0, sizeof all);
  pthread_sigmask(
      SIG_SETMASK, &all,
      &mask); /* a handler that forks would wait for the thread that it has interrupted */
  int before = KEY_NONE;
  if (atomic_compare_exchange_strong_explicit(&key_state, &before, KEY_BEING_MADE,
                                              memory_order_acquire, memory_order_acquire)) {
    /* By number: libc's wrapper is a cancellation point. */
    if (syscall(SYS_getrandom, &keys[0], sizeof keys[0], GRND_NONBLOCK) != sizeof keys[0])
      memset(&keys[0], 0, sizeof keys[0]);
    atomic_store_explicit(&key_state, KEY_MADE, memory_order_release);
  }
  pthread_sigmask(SIG_SETMASK, &mask, NULL);
  const struct timespec pause = {.tv_nsec = 100 * 1000};
  /* Bounded: a raw clone may have left the maker behind. */
  for (int naps = 0;
       naps < 100 && atomic_load_explicit(&key_state, memory_order_acquire) != KEY_MADE; naps++)
    nanosleep(&pause, NULL);
}

void tree_keys_learn(const struct tree_key *of_tree) { keys[1] = *of_tree; }

bool tree_keys_know(const struct tree_key *key) {
  return tree_key_is_set(key) && (tree_key_equals(key, &keys[0]) || tree_key_equals(key, &keys[1]));
}

/* Whoever now shares the user that this process has taken on could ask for the key, and be root's
 * holder with it. */
bool tree_keys_may_show(uid_t user) {
  return user == 0 || (user == process_owner_first() && process_owner_may_look(user));
}

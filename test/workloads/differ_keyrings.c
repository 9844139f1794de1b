/* Keyrings: a session's is given to a parent only that has one thread. See differ.h. */
#define _GNU_SOURCE
#include <linux/keyctl.h>
#include <sys/prctl.h>

#include "differ.h"

static long keyctl(int what, long a, long b, long c) {
  return syscall(SYS_keyctl, what, a, b, c, 0L);
}

static long add(const char *name, long keyring) {
  return syscall(SYS_add_key, "user", name, "x", 1L, keyring);
}

static void join_session(const char *name) {
  TRY(keyctl(KEYCTL_JOIN_SESSION_KEYRING, (long)"differ", 0, 0));
  TRY(add("key", KEY_SPEC_SESSION_KEYRING));
  TRY(keyctl(KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING, (long)"user", (long)"key"));
  ordinary_life();
  (void)name;
}

static void session_to_parent(const char *name) {
  TRY(keyctl(KEYCTL_JOIN_SESSION_KEYRING, (long)"first", 0, 0));
  pid_t pid = fork();
  if (pid == 0) {
    TRY(keyctl(KEYCTL_JOIN_SESSION_KEYRING, (long)"second", 0, 0));
    TRY(add("from the child", KEY_SPEC_SESSION_KEYRING));
    TRY(keyctl(KEYCTL_SESSION_TO_PARENT, 0, 0, 0));
    _exit(0);
  }
  say_end("child", pid);
  TRY(keyctl(KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING, (long)"user", (long)"from the child"));
  (void)name;
}

static void process_keyring(const char *name) {
  TRY(add("a", KEY_SPEC_THREAD_KEYRING));
  TRY(add("b", KEY_SPEC_PROCESS_KEYRING));
  TRY(keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 0, 0));
  TRY(keyctl(KEYCTL_SEARCH, KEY_SPEC_PROCESS_KEYRING, (long)"user", (long)"b"));
  TRY(keyctl(KEYCTL_SET_REQKEY_KEYRING, KEY_REQKEY_DEFL_PROCESS_KEYRING, 0, 0));
  TRY(setuid(1000));
  TRY(keyctl(KEYCTL_SEARCH, KEY_SPEC_PROCESS_KEYRING, (long)"user", (long)"b"));
  (void)name;
}

static const struct differ_case cases[] = {
    {"join_session", join_session},
    {"session_to_parent", session_to_parent},
    {"process_keyring", process_keyring},
};

DIFFER_MAIN(cases)

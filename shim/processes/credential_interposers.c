/* Calls that change what the program may do. They are the program's as ever; if the agent has
 * threads, they follow (agent_follow_credentials): none keeps a right that the program gives up. */
#include <errno.h>
#include <grp.h>
#include <sys/fsuid.h>
#include <sys/types.h>
#include <unistd.h>

#include "shim/base/agent_hooks.h"
#include "shim/next/interposed.h"
#include "shim/next/next_functions.h"
#include "shim/stacks/stack_capture.h"

static void follow(void) {
  int error = errno;
  agent_follow_credentials();
  errno = error;
}

/* libc makes these in every thread. */
#define CREDENTIAL_CALL(name, parameters, arguments) \
  EXPORTED int name parameters {                     \
    int result = NEXT_AT_FIRST_CALL(name) arguments; \
    if (result == 0) follow();                       \
    return result;                                   \
  }

/* These in the caller only. They return what was before. */
#define OWN_CREDENTIAL_CALL(name, parameters, arguments) \
  EXPORTED int name parameters {                         \
    int before = NEXT_AT_FIRST_CALL(name) arguments;     \
    if (stack_capture_is_first_thread()) follow();       \
    return before;                                       \
  }

CREDENTIAL_CALL(setuid, (uid_t user), (user))
CREDENTIAL_CALL(seteuid, (uid_t user), (user))
CREDENTIAL_CALL(setreuid, (uid_t real_user, uid_t effective), (real_user, effective))
CREDENTIAL_CALL(setresuid, (uid_t real_user, uid_t effective, uid_t saved),
                (real_user, effective, saved))
CREDENTIAL_CALL(setgid, (gid_t group), (group))
CREDENTIAL_CALL(setegid, (gid_t group), (group))
CREDENTIAL_CALL(setregid, (gid_t real_group, gid_t effective), (real_group, effective))
CREDENTIAL_CALL(setresgid, (gid_t real_group, gid_t effective, gid_t saved),
                (real_group, effective, saved))
CREDENTIAL_CALL(setgroups, (size_t count, const gid_t *groups), (count, groups))
CREDENTIAL_CALL(initgroups, (const char *user, gid_t group), (user, group))

OWN_CREDENTIAL_CALL(setfsuid, (uid_t user), (user))
OWN_CREDENTIAL_CALL(setfsgid, (gid_t group), (group))

#include "process_owner.h"

#include <stdatomic.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "shim/base/dumpable.h"
#include "shim/base/raw_syscall.h"

/* Not by libc: fakeroot would answer. Where the kernel does not tell, nobody owns it. */
struct process_users process_owner_users(void) {
  struct process_users users;
  if (raw_syscall4(SYS_getresuid, (long)&users.real, (long)&users.effective, (long)&users.saved,
                   0) != 0)
    users = (struct process_users){(uid_t)-1, (uid_t)-2, (uid_t)-3};
  return users;
}

bool process_owner_is(uid_t uid) {
  struct process_users users = process_owner_users();
  return uid == users.real && uid == users.effective && uid == users.saved;
}

/* What the kernel wrote down at exec; forked children have the copy. */
uid_t process_owner_first(void) { return (uid_t)getauxval(AT_EUID); }

static bool is_dumpable(void) {
  return raw_syscall6(SYS_prctl, PR_GET_DUMPABLE, 0, 0, 0, 0, 0) == 1;
}

bool process_owner_may_look(uid_t uid) {
  if (!process_owner_is(uid)) return false;
  bool gave_up_root = process_owner_first() == 0 && uid != 0;
  return is_dumpable() || (gave_up_root && !dumpable_was_refused());
}

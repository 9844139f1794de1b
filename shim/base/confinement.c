#include "confinement.h"

#include <linux/capability.h>
#include <linux/filter.h>
#include <string.h>
#include <sys/prctl.h>

#include "raw_syscall.h"

_Atomic uint32_t confinement_word;

bool confinement_begin(void) {
  if (confinement_now() != CONFINEMENT_NONE) return false;
  atomic_fetch_add(&confinement_word, 1); /* seq_cst: before the agent is looked for */
  return true;
}

void confinement_found(enum confinement is) {
  uint32_t now = atomic_load(&confinement_word);
  while (now >> CONFINEMENT_SHIFT == CONFINEMENT_NONE &&
         !atomic_compare_exchange_weak(&confinement_word, &now,
                                       now | (uint32_t)is << CONFINEMENT_SHIFT)) {}
}

void confinement_end(enum confinement is) {
  if (is != CONFINEMENT_NONE) confinement_found(is);
  atomic_fetch_sub(&confinement_word, 1);
}

const char *confinement_reason(void) {
  switch (confinement_now()) {
    case CONFINEMENT_FILTER:
      return "the program has put itself under a seccomp filter, which may kill it for a call that "
             "it does not expect";
    case CONFINEMENT_STRICT: return "the program has put itself into seccomp's strict mode";
    case CONFINEMENT_DISPATCH:
      return "the program handles system calls by itself (PR_SET_SYSCALL_USER_DISPATCH)";
    case CONFINEMENT_NONE: break;
  }
  return NULL;
}

/* ---- calls that cannot succeed ---- */

/* seccomp(2) wants one of the two. Under a filter that was there before, capget may be forbidden:
 * then it is taken for granted. */
static bool has_the_right(void) {
  if (raw_syscall6(SYS_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0, 0) != 0) return true;
  if (raw_syscall6(SYS_prctl, PR_GET_SECCOMP, 0, 0, 0, 0, 0) != 0) return true;
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
  if (raw_syscall4(SYS_capget, (long)&header, (long)data, 0, 0) != 0) return true;
  return data[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective & CAP_TO_MASK(CAP_SYS_ADMIN);
}

bool confinement_filter_may_succeed(const void *program) {
  struct sock_fprog filter;
  if (!program || !raw_range_is_readable(program, sizeof filter)) return false;
  memcpy(&filter, program, sizeof filter);
  return filter.len > 0 && filter.len <= BPF_MAXINSNS && filter.filter && has_the_right();
}

bool confinement_strict_may_succeed(unsigned long flags, const void *arguments) {
  return flags == 0 && !arguments;
}

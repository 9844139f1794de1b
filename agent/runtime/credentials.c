#include "credentials.h"

#include <linux/capability.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "shim/base/raw_syscall.h"

_Static_assert(_LINUX_CAPABILITY_U32S_3 == CREDENTIALS_WORDS, "capset(2), version 3");

static _Atomic uint32_t changes;

void credentials_note_change(void) { atomic_fetch_add_explicit(&changes, 1, memory_order_release); }
uint32_t credentials_changes(void) { return atomic_load_explicit(&changes, memory_order_acquire); }

static long ask(long number, const void *a, const void *b, const void *c) {
  return raw_syscall4(number, (long)a, (long)b, (long)c, 0);
}

static long capabilities(long number, const void *words) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  return ask(number, &header, words, NULL);
}

static long prctl_of(long option, long a) { return raw_syscall6(SYS_prctl, option, a, 0, 0, 0, 0); }

bool credentials_read(struct credentials *out) {
  memset(out, 0, sizeof *out);
  for (long i = 0, has; i < 64 && (has = prctl_of(PR_CAPBSET_READ, i)) >= 0; i++)
    out->bounding |= (uint64_t)has << i;
  out->no_new_privileges = prctl_of(PR_GET_NO_NEW_PRIVS, 0) == 1;
  out->users[3] = (uint32_t)raw_syscall4(SYS_setfsuid, -1, 0, 0, 0);
  out->groups[3] = (uint32_t)raw_syscall4(SYS_setfsgid, -1, 0, 0, 0);
  long count = raw_syscall4(SYS_getgroups, CREDENTIALS_GROUPS_MAX, (long)out->list, 0, 0);
  out->list_size = count > 0 ? (uint32_t)count : 0;
  return count >= 0 && ask(SYS_getresuid, &out->users[0], &out->users[1], &out->users[2]) == 0 &&
         ask(SYS_getresgid, &out->groups[0], &out->groups[1], &out->groups[2]) == 0 &&
         capabilities(SYS_capget, out->words) == 0;
}

static bool same_identity(const struct credentials *a, const struct credentials *b) {
  return memcmp(a->users, b->users, sizeof a->users) == 0 &&
         memcmp(a->groups, b->groups, sizeof a->groups) == 0 && a->list_size == b->list_size &&
         memcmp(a->list, b->list, a->list_size * sizeof *a->list) == 0;
}

bool credentials_equal(const struct credentials *a, const struct credentials *b) {
  return same_identity(a, b) && a->bounding == b->bounding &&
         a->no_new_privileges == b->no_new_privileges &&
         memcmp(a->words, b->words, sizeof a->words) == 0;
}

/* No more than wanted: what the thread cannot get back does no harm. */
static bool has_no_more(const struct credentials *now, const struct credentials *wanted) {
  for (int i = 0; i < CREDENTIALS_WORDS; i++)
    if ((now->words[i].permitted | now->words[i].effective) & ~wanted->words[i].permitted)
      return false;
  return same_identity(now, wanted);
}

/* Groups first, while it may; but one that becomes root again may only then. The permitted
 * capabilities outlive the change of user, and are cut to what is wanted afterwards. */
bool credentials_take(const struct credentials *wanted) {
  struct credentials now;
  const uint32_t *users = wanted->users, *groups = wanted->groups;
  for (long i = 0; i < 64 && prctl_of(PR_CAPBSET_READ, i) >= 0; i++)
    if (!(wanted->bounding >> i & 1)) prctl_of(PR_CAPBSET_DROP, i);
  if (wanted->no_new_privileges) prctl_of(PR_SET_NO_NEW_PRIVS, 1);
  prctl_of(PR_SET_KEEPCAPS, 1);
  for (int i = 0; i < 2; i++) {
    raw_syscall4(SYS_setgroups, wanted->list_size, (long)wanted->list, 0, 0);
    raw_syscall4(SYS_setresgid, groups[0], groups[1], groups[2], 0);
    raw_syscall4(SYS_setfsgid, groups[3], 0, 0, 0);
    raw_syscall4(SYS_setresuid, users[0], users[1], users[2], 0);
    raw_syscall4(SYS_setfsuid, users[3], 0, 0, 0);
  }
  capabilities(SYS_capset, wanted->words);
  prctl_of(PR_SET_KEEPCAPS, 0);
  if (credentials_read(&now) && has_no_more(&now, wanted)) return true;
  memset(now.words, 0, sizeof now.words);
  capabilities(SYS_capset, now.words);
  return false;
}

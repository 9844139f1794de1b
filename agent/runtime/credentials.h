/* What a thread may do: its user, groups and capabilities. In Linux they are each thread's own;
 * libc makes those of a program's threads the same, but does not know the agent's (bare_thread.h).
 *
 * Context: any, signal handlers too; raw system calls, errno stays; locks: none. */
#ifndef AGENT_CREDENTIALS_H
#define AGENT_CREDENTIALS_H

#include <stdbool.h>
#include <stdint.h>

enum { CREDENTIALS_GROUPS_MAX = 1024, CREDENTIALS_WORDS = 2 };

struct credentials {
  uint32_t users[4], groups[4]; /* real, effective, saved, for files */
  struct {
    uint32_t effective, permitted, inheritable; /* capabilities, as capset(2) has them */
  } words[CREDENTIALS_WORDS];
  uint64_t bounding; /* capabilities, PR_CAPBSET_READ */
  uint32_t no_new_privileges;
  uint32_t list_size;
  uint32_t list[CREDENTIALS_GROUPS_MAX]; /* setgroups(2) */
};

/* This thread's. False: they cannot be had, or there are too many groups. */
bool credentials_read(struct credentials *out);
bool credentials_equal(const struct credentials *a, const struct credentials *b);

/* Makes them this thread's. False: the kernel refuses, and none of its capabilities is left. */
bool credentials_take(const struct credentials *wanted);

/* How often those of the agent's threads have become others. A reader sees what it was changed to
 * (release, acquire). */
void credentials_note_change(void);
uint32_t credentials_changes(void);

#endif

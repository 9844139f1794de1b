/* What a seccomp filter that the program was started under allows: service managers' lists, some of
 * which kill for what they name. Before the agent makes its first call of a kind that such lists
 * are about, a child that shares nothing with the program makes it, with arguments that do nothing;
 * if that kills the child, the agent goes without. Where there is no filter there is no child. (A
 * call that is refused with an error harms nobody: whoever makes it copes.) */
#ifndef AGENT_ALLOWED_CALLS_H
#define AGENT_ALLOWED_CALLS_H

#include <stdbool.h>

enum call_use {
  CALLS_SERVING, /* without these there is no agent */
  CALLS_SAMPLING, /* a thread's ticks: CPU profiles, stacks of running threads */
  CALLS_READING, /* process_vm_readv */
  CALLS_ISOLATING, /* close_range */
  CALLS_STACKS, /* get_robust_list: where threads' stacks are */
  CALLS_UNSHARING,
  CALLS_CREDENTIALS, /* by which threads follow the program's */
  CALLS_SCHEDULING, /* thread_manners.c */
  CALLS_PATHS, /* without: links are not followed, no file is removed, descriptors are not named */
  CALLS_LOCALHOST, /* localhost_twin.c */
  CALLS_DUMPING, /* dump_file.c */
  CALL_USES
};

/* Once a process; children inherit the answer. Context: the admin thread, first of all. */
void allowed_calls_look(void);

/* NULL: they may be made; else one sentence. Context: any agent thread. */
const char *allowed_calls_lack(enum call_use use);

/* Whether a host's thread and the agent's may make CALLS_CREDENTIALS. Context: host thread. */
bool allowed_calls_of_credentials(void);

/* Whether any thread may make CALLS_SERVING (not before the agent has looked), and CALLS_PATHS. */
bool allowed_calls_of_serving(void);
bool allowed_calls_of_paths(void);

#endif

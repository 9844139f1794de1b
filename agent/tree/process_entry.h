/* What each process that shares a port says of itself; the list at `/` shows it. */
#ifndef AGENT_PROCESS_ENTRY_H
#define AGENT_PROCESS_ENTRY_H

#include <stdbool.h>
#include <stdint.h>

enum { PROCESS_TREE_MAX = 1000 /* processes */, PROCESS_NAME_MAX = 64, PROCESS_COMMAND_MAX = 256 };

struct process_entry {
  int32_t pid, parent; /* as the holder sees them; parent 0: not known */
  uint32_t uid; /* effective; of its own saying, like all that follows */
  uint32_t threads; /* the program's own; 0: not known */
  int64_t heap_bytes; /* in use, estimated; -1: heap is off or not known */
  double uptime_seconds; /* below 0: not known */
  bool is_holder, answered; /* not answered (stopped, swapped out): only pid and uid are known */
  char name[PROCESS_NAME_MAX], command[PROCESS_COMMAND_MAX]; /* arguments separated by spaces; cut
                                                                short; any bytes but NUL */
};

/* This process's own. Context: agent threads. */
void process_entry_read(struct process_entry *out);

#endif

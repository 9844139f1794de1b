/* What /proc says about this process, by open and read alone. Everything has a value when /proc is not there (chroot): 0 or "".
 * Context: agent threads. */
#ifndef AGENT_PROCESS_INFO_H
#define AGENT_PROCESS_INFO_H

#include <stddef.h>
#include <stdint.h>

enum { PROCESS_COMM_MAX = 64 };

struct process_identity {
  int pid;
  char comm[PROCESS_COMM_MAX];
  double uptime_seconds; /* since the process was created */
  unsigned threads;      /* the agent's included */
};
void process_identity_read(struct process_identity *out);

/* When the process was created, on the wall clock; 0: not known. That clock may be set: of what the
 * calls since the agent's start have found, the earliest. An exec does not change it. */
int64_t process_start_nanos(void);

struct process_memory {
  uint64_t rss_bytes, max_rss_bytes;
  uint64_t data_bytes; /* private writable address space: data segments, heaps, stacks */
};
void process_memory_read(struct process_memory *out);

/* argv joined by NUL, without the last NUL, in agent_malloc'ed memory; NULL when it cannot be read. A program that rewrote its command line
 * (setproctitle) gives what it wrote. */
char *process_command_line(size_t *size);

/* A whole file of /proc, NUL-terminated, at most limit bytes, in agent_malloc'ed memory; NULL when it cannot be read. */
char *process_read_file(const char *path, size_t limit, size_t *size);

#endif

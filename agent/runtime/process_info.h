/* What /proc says about this process, by open and read alone; where it says nothing (proc_fault),
 * what is known without, or that it is not known.
 * Context: agent threads. */
#ifndef AGENT_PROCESS_INFO_H
#define AGENT_PROCESS_INFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Why /proc says nothing here, in one sentence; NULL: it does. Asked anew each time: it takes no
 * descriptor. */
const char *proc_fault(void);
/* It is of another pid namespace, where this process and its threads have other numbers. */
bool proc_numbers_differ(void);

enum { PROCESS_COMM_MAX = 64 };

struct process_identity {
  int pid, parent; /* parent 0: not known, or outside of this pid namespace */
  char comm[PROCESS_COMM_MAX]; /* where it cannot be read, the one that the program started with */
  double uptime_seconds; /* since the process was created; below 0: not known */
  unsigned threads; /* the agent's included; 0: not known */
};
void process_identity_read(struct process_identity *out);

/* Once, at load, before the program can change its arguments. Context: the constructor. */
void process_arguments_remember(void);

/* When the process was created, on the wall clock; 0: not known. That clock may be set: of what the
 * calls since the agent's start have found, the earliest. An exec does not change it. */
int64_t process_start_nanos(void);

struct process_memory {
  int64_t rss_bytes, max_rss_bytes; /* each below 0: not known */
  int64_t data_bytes; /* private writable address space: data segments, heaps, stacks */
};
void process_memory_read(struct process_memory *out);

/* argv joined by NUL, without the last NUL, in agent_malloc'ed memory; NULL when it cannot be read.
 * A program that rewrote its command line (setproctitle) gives what it wrote. */
char *process_command_line(size_t *size);

/* The program's path as exec was given it, perhaps relative to another directory; "" if not known.
 */
const char *process_program_path(void);

/* When the process was created, in the kernel's ticks since the machine's start; 0: not known. An
 * exec does not change it. */
uint64_t process_start_ticks(void);

/* A whole file of /proc, NUL-terminated, at most limit bytes, in agent_malloc'ed memory; NULL when
 * it cannot be read. */
char *process_read_file(const char *path, size_t limit, size_t *size);

#endif

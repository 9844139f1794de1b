/* Files of /proc/self/task/TID: small, read whole, one open each. /proc/self is the process also on
 * a thread whose descriptor table is its own. Context: agent threads; locks: none. */
#ifndef AGENT_TASK_FILES_H
#define AGENT_TASK_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A descriptor of the thread's directory (0: of the calling thread's), or -1: the thread is gone,
 * or proc_fault (process_info.h) says why none can be had. */
int task_open(int32_t tid);

/* Where /proc numbers threads otherwise (proc_numbers_differ): the number that one of /proc's has
 * here, 0: it is gone; and all that are known, of which task_open is to make use. Takes the
 * agent_malloc'ed memory over. */
struct task_number {
  int32_t here, in_proc;
};
int32_t task_number_here(int32_t in_proc);
void task_numbers_keep(struct task_number *numbers, size_t count);

/* Whether the thread is there and has not ended. By system calls alone, without /proc. */
bool task_is_alive(int32_t tid);

/* The descriptor of a file in it, or -1 with errno (EACCES; ENOENT, ESRCH: the thread is gone, or
 * the kernel has no such file). */
int task_file_open(int task, const char *name);

/* Reads from the start of an open file, NUL-terminates; the length, or -1 with errno (ESRCH: the
 * thread is gone). */
ssize_t task_file_read_again(int fd, char *text, size_t size);

/* Opens, reads and closes. */
ssize_t task_file_read(int task, const char *name, char *text, size_t size);

/* The thread's name, cut to the size; "": it is gone. */
void task_read_name(int task, char *name, size_t size);

#endif

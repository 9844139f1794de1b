/* The threads of the process, from /proc/self/task, by open, read and getdents64 alone. Context:
 * agent threads. */
#ifndef AGENT_THREAD_LIST_H
#define AGENT_THREAD_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct thread_ids {
  size_t count;
  int32_t *tids; /* agent_malloc'ed */
};
/* The host's threads: those of the agent are left out. Where /proc cannot be read, those that are
 * in the shim's registry. False: no memory. */
bool thread_list_read(struct thread_ids *out);
void thread_list_release(struct thread_ids *ids);

/* How many threads the kernel counts, the agent's too; 0: not known. One system call. */
size_t thread_list_kernel_count(void);

/* The thread's SigBlk has this signal. False too when the thread is gone. */
bool thread_blocks_signal(int32_t tid, int signal);

/* CPU time that the thread has used; 0 when it is gone. */
uint64_t thread_cpu_nanoseconds(int32_t tid);

#endif

/* Keeps the shim's thread records in step with the threads that there are: threads that no
 * pthread_create was seen for (the first thread, raw clone, libc's own) get a record, records whose
 * thread is gone without a word are given back. Context: agent threads; locks: its own (callers may
 * overlap).
 */
#ifndef AGENT_THREAD_RECORDS_H
#define AGENT_THREAD_RECORDS_H

#include <stdint.h>

#include "thread_list.h"

/* The record of each of these threads, 0 where there is none to be had: records[i] for
 * ids->tids[i]. Creates and gives back records. */
void thread_records_match(const struct thread_ids *ids, uint32_t *records);

#endif

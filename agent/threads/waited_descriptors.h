/* Descriptors that a thread's system call waits for, in words: "fd 5 (socket:[1234])". Short and
 * printable; at least "fd 5". Context: agent threads; locks: none. */
#ifndef AGENT_WAITED_DESCRIPTORS_H
#define AGENT_WAITED_DESCRIPTORS_H

#include <stddef.h>
#include <stdint.h>

#include "agent/runtime/memory_reader.h"

void waited_descriptor_describe(int32_t tid, int32_t descriptor, char *text, size_t size);
/* And the descriptors that are in an epoll set. */
void waited_epoll_describe(int32_t tid, int32_t descriptor, char *text, size_t size);
/* Of poll's array. */
void waited_poll_describe(int32_t tid, struct memory_reader *memory, uint64_t array, uint64_t count,
                          char *text, size_t size);
/* Of select's three sets. */
void waited_select_describe(struct memory_reader *memory, uint64_t highest, const uint64_t sets[3],
                            char *text, size_t size);

#endif

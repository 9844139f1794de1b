/* The floor of a thread's stack, as far as its creator's attributes tell (stack_capture_has_room).
 */
#ifndef SHIM_STACK_SIZE_H
#define SHIM_STACK_SIZE_H

#include <pthread.h>
#include <stdint.h>

/* What is known of a new thread's stack. Told to the creator: with which attributes, may be NULL;
 * 0: nothing. Then that number is told to the thread, at its start. */
uint8_t stack_size_class(const pthread_attr_t *attributes);
void stack_size_thread_starts(uint8_t size_class);

#endif

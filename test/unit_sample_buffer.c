/* sanitizer: thread */
/* Several writers, one reader, a ring far too small for them: every sample is read once and whole,
 * every refused one counted as dropped. */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "shim/cpu/sample_buffer.h"
#include "shim/stacks/stack_table.h"
#include "check.h"

enum { WRITERS = 4, EACH = 20000, CAPACITY = 64 * 1024 };
static struct sample_buffer buffer;
static _Atomic int running;
static _Atomic uint64_t refused;

static void *writer(void *argument) {
  int tid = (int)(intptr_t)argument;
  uint64_t frames[STACK_DEFAULT_FRAMES + 1];
  for (uint32_t i = 0; i < EACH; i++) {
    struct stack_sample head = {.tid = tid,
                                .ticks = i,
                                .nanoseconds = (uint64_t)tid << 32 | i,
                                .frame_count = 1 + (i * 7 + (uint32_t)tid) % 129};
    snprintf(head.name, sizeof head.name, "writer-%d", tid);
    for (uint32_t k = 0; k < head.frame_count; k++)
      frames[k] = (uint64_t)tid << 40 ^ (uint64_t)i << 8 ^ k;
    while (!sample_buffer_write(&buffer, &head, frames)) {
      atomic_fetch_add(&refused, 1);
      sched_yield();
    }
  }
  atomic_fetch_sub(&running, 1);
  return NULL;
}

int main(void) {
  struct stack_sample none = {.frame_count = 1};
  uint64_t frame = 1;
  CHECK(!sample_buffer_write(&buffer, &none, &frame)); /* closed */
  CHECK(sample_buffer_next(&buffer) == NULL);
  CHECK(sample_buffer_open(&buffer, CAPACITY));
  pthread_t threads[WRITERS];
  atomic_store(&running, WRITERS);
  for (intptr_t t = 0; t < WRITERS; t++) pthread_create(&threads[t], NULL, writer, (void *)(t + 1));
  uint64_t read = 0, seen[WRITERS + 1] = {0};
  for (bool last = false;;) {
    const struct stack_sample *sample = sample_buffer_next(&buffer);
    if (!sample && last) break;
    if (!sample) {
      last = atomic_load(&running) == 0;
      continue;
    }
    uint32_t tid = (uint32_t)sample->tid, i = sample->ticks;
    char name[SAMPLE_NAME_SIZE];
    snprintf(name, sizeof name, "writer-%u", tid);
    CHECK(tid >= 1 && tid <= WRITERS && i < EACH && strcmp(name, sample->name) == 0);
    CHECK(sample->nanoseconds == ((uint64_t)tid << 32 | i) &&
          sample->frame_count == 1 + (i * 7 + tid) % 129);
    for (uint32_t k = 0; k < sample->frame_count; k++)
      CHECK(sample->frames[k] == ((uint64_t)tid << 40 ^ (uint64_t)i << 8 ^ k));
    CHECK(i == seen[tid]); /* a writer's own order is kept */
    seen[tid] = i + 1;
    read++;
  }
  for (int t = 0; t < WRITERS; t++) pthread_join(threads[t], NULL);
  CHECK(read == (uint64_t)WRITERS * EACH);
  CHECK(atomic_load(&buffer.dropped) == atomic_load(&refused));
  sample_buffer_close(&buffer);
  CHECK(!sample_buffer_write(&buffer, &none, &frame));
  CHECK(sample_buffer_open(&buffer, CAPACITY) && sample_buffer_write(&buffer, &none, &frame) &&
        sample_buffer_next(&buffer)->frames[0] == 1);
  sample_buffer_close(&buffer);
  return failures != 0;
}

/* links: test/stub_announced_code.c test/agent_memory_libc.c test/stub_module_registry.c */
/* What the health page asks the symbolizer answers while a lookup, which may take seconds, holds
 * its lock; and while a name is read, the lock is free. */
#include <link.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/symbols/large_stack.h"
#include "agent/symbols/symbolizer.h"

static sem_t is_inside, may_go_on;
static int calls_to_run; /* the next one after them waits */

/* Names that must be read. */
__attribute__((noinline)) void first(void) __asm__("_ZN5outer5firstEv");
void first(void) { __asm__ volatile(""); }
__attribute__((noinline)) void second(void) __asm__("_ZN5outer6secondEv");
void second(void) { __asm__ volatile("nop"); }
static void (*asked)(void);

/* Stands for a large stack: those who call it have one. Waits where a lookup takes long. */
bool large_stack_call(struct large_stack *stack, void (*function)(void *), void *argument) {
  (void)stack;
  if (calls_to_run-- > 0) {
    function(argument);
    return true;
  }
  sem_post(&is_inside);
  sem_wait(&may_go_on);
  function(argument);
  return true;
}

void large_stack_release(struct large_stack *stack) { (void)stack; }

static int note_bias(struct dl_phdr_info *info, size_t size, void *bias) {
  (void)size;
  *(uint64_t *)bias = info->dlpi_addr; /* of the program, which comes first */
  return 1;
}

static void *look_up(void *session) {
  struct mapping map = {
      .limit = UINT64_MAX, .kind = MAPPING_FILE, .path = "/proc/self/exe", .build_id = ""};
  dl_iterate_phdr(note_bias, &map.bias);
  return (void *)symbolizer_resolve(session, &map, (uintptr_t)asked);
}

static pthread_t start(struct symbolizer_session *session) {
  pthread_t thread;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 64 << 20);
  pthread_create(&thread, &attributes, look_up, session);
  sem_wait(&is_inside);
  return thread;
}

/* The object is looked at: health answers. */
static bool health_answers(void) {
  struct symbolizer_counters counters;
  void *found;
  struct symbolizer_session *session = symbolizer_open();
  calls_to_run = 0;
  asked = first;
  pthread_t thread = start(session);
  alarm(30); /* where it waits for the lock, it waits for ever */
  symbolizer_read_counters(&counters);
  (void)symbolizer_cache_bytes();
  alarm(0);
  calls_to_run = 1;
  sem_post(&may_go_on);
  pthread_join(thread, &found);
  bool counted = symbolizer_cache_bytes() > 0; /* the object's name is in the cache */
  const struct symbol_location *location = found;
  bool named =
      location->frame_count == 1 && strcmp(location->frames[0].function, "outer::first()") == 0;
  symbolizer_close(session);
  if (!counted || !named) printf("the cache's size, or the name, is not known\n");
  return counted && named;
}

/* A name is read: other requests come and go, and those that ask for what is known get it. */
static bool others_go_on(void) {
  void *found;
  struct symbolizer_session *session = symbolizer_open();
  calls_to_run = 1; /* the object */
  asked = second;
  pthread_t thread = start(session);
  alarm(30);
  struct symbolizer_session *other = symbolizer_open();
  symbolizer_close(other);
  alarm(0);
  sem_post(&may_go_on);
  pthread_join(thread, &found);
  const struct symbol_location *location = found;
  bool named =
      location->frame_count == 1 && strcmp(location->frames[0].function, "outer::second()") == 0;
  symbolizer_close(session);
  if (!named) printf("no name\n");
  return named;
}

int main(void) {
  sem_init(&is_inside, 0, 0);
  sem_init(&may_go_on, 0, 0);
  bool healthy = health_answers();
  return !(others_go_on() && healthy);
}

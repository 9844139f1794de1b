/* links: agent/symbolizer.c agent/symbol_cache.c agent/symbol_table.c agent/object_symbols.c agent/plt_symbols.c agent/dwarf_names.c agent/debug_files.c agent/elf_file.c agent/memory_image.c agent/own_memory.c agent/perf_map.c agent/process_info.c agent/demangle.c agent/libbacktrace_region.c test/agent_memory_libc.c agent/mappings.c shim/module_identity.c test/stub_module_registry.c agent/memory_headroom.c agent/split_dwarf.c agent/fde_ranges.c agent/symbol_versions.c agent/loaded_code.c agent/allowed_calls.c agent/trusted_path.c agent/unmapped_user.c agent/mapped_file.c agent/symbol_memory.c agent/section_windows.c agent/shared_objects.c */
/* deps: libbacktrace libiberty */
/* What the health page asks the symbolizer answers while a lookup, which may take seconds, holds
 * its lock. */
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "large_stack.h"
#include "symbolizer.h"

static sem_t is_inside, may_go_on;

/* Stands for a lookup in an object with much debug information: it is called with the lock held. */
bool large_stack_call(struct large_stack *stack, void (*function)(void *), void *argument) {
  (void)stack, (void)function, (void)argument;
  sem_post(&is_inside);
  sem_wait(&may_go_on);
  return true;
}

void large_stack_release(struct large_stack *stack) { (void)stack; }

static void *look_up(void *session) {
  struct mapping map = {
      .limit = UINT64_MAX, .kind = MAPPING_FILE, .path = "/proc/self/exe", .build_id = ""};
  symbolizer_resolve(session, &map, 1);
  return NULL;
}

int main(void) {
  pthread_t thread;
  struct symbolizer_counters counters;
  sem_init(&is_inside, 0, 0);
  sem_init(&may_go_on, 0, 0);
  struct symbolizer_session *session = symbolizer_open();
  pthread_create(&thread, NULL, look_up, session);
  sem_wait(&is_inside);
  alarm(30); /* where it waits for the lock, it waits for ever */
  symbolizer_read_counters(&counters);
  (void)symbolizer_cache_bytes();
  alarm(0);
  sem_post(&may_go_on);
  pthread_join(thread, NULL);
  bool counted = symbolizer_cache_bytes() > 0; /* the object's name is in the cache */
  symbolizer_close(session);
  if (!counted) printf("the cache's size is not known\n");
  return !counted;
}

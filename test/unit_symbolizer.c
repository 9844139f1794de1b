/* mappings_find over epochs, the name cache, sessions after a fork, and the region's limit, without
 * any object file. */
/* links: test/stub_announced_code.c test/stub_module_registry.c test/agent_memory_libc.c */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/runtime/agent_memory.h"
#include "agent/symbols/libbacktrace_region.h"
#include "stub_module_registry.h"
#include "agent/symbols/symbol_cache.h"
#include "agent/symbols/symbolizer.h"

extern int64_t agent_memory_fail_after;

static int failures;
#define CHECK(condition)                                                         \
  do {                                                                           \
    if (!(condition)) failures++, printf("line %d: %s\n", __LINE__, #condition); \
  } while (0)

static const uint64_t GONE = 0x300000000000, PAGES = 0x10000;

static const char *path_at(const struct mappings *set, uint64_t address, uint32_t epoch) {
  const struct mapping *map = mappings_find(set, address, epoch);
  return map == NULL ? NULL : map->path;
}

/* Two modules that lay at the same place one after the other, then JIT code that is there now. */
static void epochs_of_one_place(void) {
  static const uint8_t first_id[] = {1, 2, 3}, second_id[] = {0xab, 0xcd};
  struct module_view first = {
      GONE, GONE + PAGES, GONE, "/gone/first.so", first_id, sizeof first_id, 0, 0, false};
  struct module_view second = {
      GONE, GONE + PAGES, GONE, "/gone/second.so", second_id, sizeof second_id, 5, 0, false};
  CHECK(stub_module_registry_add(&first) && stub_module_registry_add(&second));
  struct mappings *set = mappings_collect();
  CHECK(set != NULL);
  CHECK(strcmp(path_at(set, GONE + 5, 0), "/gone/first.so") == 0);
  CHECK(strcmp(path_at(set, GONE + 5, 4), "/gone/first.so") == 0);
  CHECK(strcmp(path_at(set, GONE + 5, 5), "/gone/second.so") == 0);
  CHECK(strcmp(path_at(set, GONE + 5, UINT32_MAX), "/gone/second.so") == 0);
  CHECK(path_at(set, GONE + PAGES, 5) == NULL && path_at(set, GONE - 1, 5) == NULL);
  CHECK(mappings_find(set, GONE, 0)->unloaded &&
        strcmp(mappings_find(set, GONE, 9)->build_id, "abcd") == 0);
  mappings_release(set);

  void *code = mmap((void *)(uintptr_t)GONE, PAGES, PROT_READ | PROT_EXEC,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  CHECK(code == (void *)(uintptr_t)GONE);
  set = mappings_collect();
  CHECK(strcmp(path_at(set, GONE + 5, 4), "/gone/first.so") == 0);
  CHECK(strcmp(path_at(set, GONE + 5, UINT32_MAX), "") == 0);
  CHECK(mappings_find(set, GONE + 5, UINT32_MAX)->kind == MAPPING_ANONYMOUS);
  munmap(code, PAGES);
  mappings_release(set);
}

static void main_program_is_first(void) {
  struct mappings *set = mappings_collect();
  char program[4096] = "";
  CHECK(readlink("/proc/self/exe", program, sizeof program - 1) > 0);
  CHECK(strcmp(set->items[0].path, program) == 0 && set->items[0].kind == MAPPING_FILE &&
        set->items[0].build_id[0] != '\0');
  for (size_t i = 0; i < set->count; i++)
    if (!set->items[i].unloaded)
      CHECK(mappings_find(set, set->items[i].start, UINT32_MAX) == &set->items[i]);
  mappings_release(set);
}

static void cache_keeps_one_copy(void) {
  struct symbol_cache *cache = symbol_cache_create(1 << 24);
  char text[32];
  const char *kept[5000];
  for (int i = 0; i < 5000; i++) {
    snprintf(text, sizeof text, "function_%d", i);
    kept[i] = symbol_cache_intern(cache, text);
    struct symbol_frame frame = {.function = kept[i], .system_name = kept[i], .line = (uint32_t)i};
    CHECK(symbol_cache_add(cache, kept[0], (uint64_t)i * 16, 7, &frame, 1) != NULL);
  }
  for (int i = 0; i < 5000; i++) {
    snprintf(text, sizeof text, "function_%d", i);
    CHECK(symbol_cache_intern(cache, text) == kept[i] && strcmp(kept[i], text) == 0);
    const struct symbol_location *location = symbol_cache_find(cache, kept[0], (uint64_t)i * 16);
    CHECK(location != NULL && location->frame_count == 1 &&
          location->frames[0].line == (uint32_t)i && location->symbol_start == 7);
    CHECK(symbol_cache_find(cache, kept[1], (uint64_t)i * 16) == NULL);
  }
  symbol_cache_destroy(cache);
  cache = symbol_cache_create(20000); /* full: nothing is found, nothing breaks */
  const char *last = "";
  for (int i = 0; i < 5000 && last != NULL; i++) {
    snprintf(text, sizeof text, "function_%d", i);
    last = symbol_cache_intern(cache, text);
  }
  CHECK(last == NULL);
  symbol_cache_destroy(cache);
}

static void region_ends_at_its_limit(void) {
  struct region *region = region_create(1 << 20);
  CHECK(region_alloc(region, SIZE_MAX) == NULL && region_exhausted(region));
  region_destroy(region);
  region = region_create(1 << 20);
  size_t blocks = 0;
  while (region_alloc(region, 1000) != NULL) blocks++;
  CHECK(blocks > 500 && blocks * 1000 <= 1 << 20 && region_exhausted(region) &&
        region_bytes(region) <= 1 << 20);
  region_destroy(region);
  region = region_create(1 << 20);
  for (int i = 0; i < 100; i++) { /* large blocks come back */
    void *block = region_alloc(region, 900000);
    CHECK(block != NULL);
    region_free(region, block, 900000);
  }
  region_destroy(region);
}

static void *resolve_for_ever(void *stop) {
  struct mapping map = {.limit = UINT64_MAX, .kind = MAPPING_FILE, .path = "/proc/self/exe"};
  for (uint64_t address = 0x1000; !*(volatile int *)stop; address += 3) {
    struct symbolizer_session *session = symbolizer_open();
    symbolizer_resolve(session, &map, address);
    symbolizer_close(session);
  }
  return NULL;
}

/* A child that is forked while another thread holds the lock must be able to resolve. */
static void fork_in_the_middle(void) {
  static volatile int stop;
  struct mapping map = {.limit = UINT64_MAX, .kind = MAPPING_FILE, .path = "/proc/self/exe"};
  struct symbolizer_session *session = symbolizer_open();
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, resolve_for_ever, (void *)(uintptr_t)&stop) == 0);
  for (int i = 0; i < 20; i++) {
    usleep(2000);
    pid_t child = fork();
    if (child == 0) {
      alarm(20);
      agent_memory_fail_after =
          0; /* malloc's lock, which this test's agent_memory uses, may be held */
      symbolizer_resolve(session, &map, 1);
      _exit(0);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
  }
  stop = 1;
  pthread_join(thread, NULL);
  symbolizer_close(session);
}

int main(void) {
  uint64_t before = agent_memory_bytes();
  epochs_of_one_place();
  main_program_is_first();
  cache_keeps_one_copy();
  region_ends_at_its_limit();
  CHECK(agent_memory_bytes() == before);
  fork_in_the_middle();
  CHECK(symbolizer_resolve(NULL, NULL, 1)->frame_count == 0);
  return failures != 0;
}

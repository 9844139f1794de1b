/* Resolves addresses by agent/symbols/symbolizer.c outside the agent, for test_symbols.py.
 *
 * symbols_driver FILE BUILD_ID    addresses of FILE's program headers (hex) from standard input;
 *   BUILD_ID: "" or what memory is said to hold
 * symbols_driver --self COMMAND    of the process itself, see below
 *
 * Prints for each address "ADDRESS SYMBOL_START", then per frame a tab, and function, system name,
 * file, line separated by tabs, then the loss counters and how long it took.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>
#include <unistd.h>

#include "agent/runtime/agent_memory.h"
#include "agent/symbols/mappings.h"
#include "agent/symbols/symbolizer.h"
#include "../stub_module_registry.h"

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static const char *text(const char *value) { return value == NULL ? "?" : value; }

static void print_location(uint64_t address, const struct symbol_location *location) {
  printf("%lx %lx\n", (unsigned long)address, (unsigned long)location->symbol_start);
  for (uint32_t i = 0; i < location->frame_count; i++) {
    const struct symbol_frame *frame = &location->frames[i];
    printf("\t%s\t%s\t%s\t%u\n", text(frame->function), text(frame->system_name),
           text(frame->filename), frame->line);
  }
}

static void print_counters(double seconds) {
  struct symbolizer_counters counters;
  symbolizer_read_counters(&counters);
#define X(identifier, text) printf("%s=%lu ", #identifier, (unsigned long)counters.identifier);
  SYMBOLIZER_LOSS_COUNTERS(X)
#undef X
  printf("cache_bytes=%lu agent_bytes=%lu seconds=%.6f\n", (unsigned long)symbolizer_cache_bytes(),
         (unsigned long)agent_memory_bytes(), seconds);
}

static int resolve_file(const char *path, const char *build_id) {
  struct mapping map = {.limit = UINT64_MAX, .kind = MAPPING_FILE, .path = path};
  snprintf(map.build_id, sizeof map.build_id, "%s", build_id);
  struct symbolizer_session *session = symbolizer_open();
  unsigned long address;
  double start = 0, seconds = 0;
  while (scanf("%lx", &address) == 1) {
    start = now();
    const struct symbol_location *location = symbolizer_resolve(session, &map, address);
    seconds += now() - start;
    print_location(address, location);
  }
  print_counters(seconds);
  symbolizer_close(session);
  printf("after close: ");
  print_counters(0);
  return 0;
}

static void resolve_own(const void *pointer) {
  struct mappings *set = mappings_collect();
  struct symbolizer_session *session = symbolizer_open();
  uint64_t address = (uint64_t)(uintptr_t)pointer;
  const struct mapping *map = mappings_find(set, address, UINT32_MAX);
  printf("map %s kind=%d deleted=%d unloaded=%d build_id=%s main=%s\n",
         map == NULL ? "none" : map->path, map == NULL ? -1 : (int)map->kind,
         map != NULL && map->deleted, map != NULL && map->unloaded,
         map == NULL ? "" : map->build_id, set->items[0].path);
  print_location(address, symbolizer_resolve(session, map, address));
  symbolizer_close(session);
  mappings_release(set);
}

static int note_module(struct dl_phdr_info *info, size_t size, void *wanted) {
  (void)size;
  if (info->dlpi_name == NULL || strstr(info->dlpi_name, wanted) == NULL) return 0;
  static uint8_t build_id[64];
  struct module_view view = {
      .start = UINT64_MAX, .bias = info->dlpi_addr, .path = strdup(info->dlpi_name)};
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
    uint64_t start = info->dlpi_addr + segment->p_vaddr;
    if (segment->p_type == PT_LOAD && start < view.start) view.start = start & ~0xfffUL;
    if (segment->p_type == PT_LOAD && start + segment->p_memsz > view.end)
      view.end = (start + segment->p_memsz + 0xfff) & ~0xfffUL;
    if (segment->p_type != PT_NOTE) continue;
    for (uint64_t at = start; at + sizeof(ElfW(Nhdr)) < start + segment->p_memsz;) {
      const ElfW(Nhdr) *note = (const ElfW(Nhdr) *)at;
      if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4) {
        memcpy(build_id, (const char *)(note + 1) + 4, note->n_descsz);
        view.build_id = build_id;
        view.build_id_size = note->n_descsz;
      }
      at += sizeof *note + ((note->n_namesz + 3) & ~3U) + ((note->n_descsz + 3) & ~3U);
    }
  }
  return stub_module_registry_add(&view);
}

/* library PATH SYMBOL [then ...]: loads it, then does what the further words say, then resolves the
 * symbol's address + 1. */
static int resolve_library(char **words) {
  void *library = dlopen(words[0], RTLD_NOW);
  if (library == NULL) return printf("%s\n", dlerror()), 1;
  char *address = dlsym(library, words[1]);
  for (char **word = words + 2; *word != NULL; word++) {
    if (strcmp(*word, "unlink") == 0) unlink(words[0]);
    if (strncmp(*word, "replace=", 8) == 0) rename(*word + 8, words[0]);
    if (strcmp(*word, "note") == 0) dl_iterate_phdr(note_module, words[0]);
    if (strcmp(*word, "close") == 0) dlclose(library);
  }
  resolve_own(address + 1);
  print_counters(0);
  return 0;
}

__attribute__((noinline)) void own_function(void) { __asm__ volatile(""); }

int main(int count, char **words) {
  if (count >= 3 && strcmp(words[1], "--self") == 0) {
    if (strcmp(words[2], "library") == 0) return resolve_library(words + 3);
    if (strcmp(words[2], "main") == 0) {
      if (words[3] != NULL) unlink(words[3]);
      resolve_own((char *)own_function);
      return 0;
    }
    if (strcmp(words[2], "vdso") == 0) {
      void *vdso = dlopen("linux-vdso.so.1", RTLD_NOW | RTLD_NOLOAD);
      void *symbol = vdso == NULL ? NULL : dlsym(vdso, "__vdso_clock_gettime");
      if (symbol == NULL) return printf("%s\n", dlerror()), 77;
      resolve_own((char *)symbol + 1);
      return 0;
    }
    if (strcmp(words[2], "jit") == 0) { /* lines of the map on standard input */
      char *code = (char *)0x200000000000;
      char path[64], line[4096];
      snprintf(path, sizeof path, "/tmp/perf-%d.map", (int)getpid());
      FILE *map = fopen(path, "w");
      while (map != NULL && fgets(line, sizeof line, stdin) != NULL) fputs(line, map);
      if (map != NULL) fclose(map);
      for (char **word = words + 3; *word != NULL; word++)
        resolve_own(code + strtoul(*word, NULL, 16));
      unlink(path);
      return 0;
    }
  }
  return count == 3 ? resolve_file(words[1], words[2]) : 2;
}

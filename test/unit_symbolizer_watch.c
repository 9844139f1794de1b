/* A request that nobody waits for any more ends, wherever its lookup is; what it leaves behind
 * spoils no later one. */
/* links: test/stub_announced_code.c test/stub_module_registry.c test/agent_memory_libc.c
 *      agent/symbols/section_windows.c */
/* flags: -DSECTION_WINDOW=4096 -DSMALL_SECTION=0 */
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "agent/symbols/symbol_memory.h"
#include "agent/symbols/symbolizer.h"

static int asks_left, asked;

static bool wanted(void) {
  asked++;
  return asks_left-- > 0;
}

static int note_bias(struct dl_phdr_info *info, size_t size, void *bias) {
  (void)size;
  *(uint64_t *)bias = info->dlpi_addr; /* of the program, which comes first */
  return 1;
}

__attribute__((noinline)) static int first(int a) { return a + 1; }
__attribute__((noinline)) static int second(int a) { return a + 2; }

static const char *name_of(struct symbolizer_session *session, int (*function)(int)) {
  struct mapping map = {
      .limit = UINT64_MAX, .kind = MAPPING_FILE, .path = "/proc/self/exe", .build_id = ""};
  dl_iterate_phdr(note_bias, &map.bias);
  const struct symbol_location *found = symbolizer_resolve(session, &map, (uintptr_t)function);
  return found->frame_count == 1 && found->frames[0].line > 0 ? found->frames[0].function : "";
}

/* Given up at the nth question, at each in turn until one is not given up at all. */
int main(void) {
  int failures = 0, given_up = 0;
  for (int asks = 0; asks < 100000; asks++) {
    symbolizer_watch(wanted);
    asks_left = asks;
    asked = 0;
    struct symbolizer_session *session = symbolizer_open();
    const char *name = name_of(session, first);
    bool over = asked > asks;
    given_up += over;
    bool none = name[0] == '\0';
    if (none != over || asked > asks + 4)
      failures++, printf("%d asks: \"%s\", %d\n", asks, name, asked);
    if (none && !symbolizer_given_up(session)) failures++, printf("%d asks: not said\n", asks);
    symbolizer_close(session);
    if (!over) break;
    if (given_up % 4 == 0) { /* another one gets all; a new address, as this one would be known */
      symbolizer_watch(NULL);
      session = symbolizer_open();
      if (strcmp(name_of(session, second), "second") != 0)
        failures++, printf("after %d: no name\n", asks);
      symbolizer_close(session);
    }
  }
  symbolizer_watch(NULL);
  struct symbolizer_session *session = symbolizer_open();
  if (strcmp(name_of(session, first), "first") != 0) failures++, printf("no name at last\n");
  symbolizer_close(session);
  if (given_up < 6) failures++, printf("given up %d times only\n", given_up);
  if (symbol_memory_peak() > symbol_memory_budget()) failures++, printf("over the budget\n");
  return failures != 0;
}

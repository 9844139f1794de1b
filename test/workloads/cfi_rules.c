/* flags: -O1 */
/* For each address (hex, of the file given as argument) on standard input prints the agent's unwind
 * rule there: "ADDRESS CFA RBP RA" in the notation of readelf --debug-dump=frames-interp, or
 * "ADDRESS none". Linked with shim/stacks/cfi.c and what that needs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>

#include "shim/stacks/cfi.h"

static void print_register(const struct cfi_register_rule *rule) {
  switch (rule->place) {
    case CFI_UNCHANGED: printf(" s"); break;
    case CFI_UNDEFINED: printf(" u"); break;
    case CFI_AT_CFA: printf(" c%+lld", (long long)rule->offset); break;
    case CFI_CFA_PLUS: printf(" v%+lld", (long long)rule->offset); break;
    case CFI_EXPRESSION: printf(" exp"); break;
    case CFI_VALUE_EXPRESSION: printf(" vexp"); break;
    case CFI_ELSEWHERE: printf(" r"); break;
  }
}

int main(int argc, char **argv) {
  struct link_map *map = argc > 1 ? dlopen(argv[1], RTLD_LAZY | RTLD_LOCAL) : NULL;
  if (!map) {
    fprintf(stderr, "%s\n", argc > 1 ? dlerror() : "usage: cfi_rules FILE <ADDRESSES");
    return 1;
  }
  unsigned long address;
  while (scanf("%lx", &address) == 1) {
    struct dl_find_object found;
    struct cfi_rule rule;
    uintptr_t pc = map->l_addr + address;
    if (_dl_find_object((void *)pc, &found) != 0 || !found.dlfo_eh_frame ||
        !cfi_find_rule(pc, found.dlfo_eh_frame, (uintptr_t)found.dlfo_map_start,
                       (uintptr_t)found.dlfo_map_end, &rule)) {
      printf("%lx none\n", address);
      continue;
    }
    static const char *const bases[] = {"rsp", "rbp", "exp", "other"};
    printf("%lx %s", address, bases[rule.base]);
    if (rule.base == CFI_BASE_SP || rule.base == CFI_BASE_FP)
      printf("%+lld", (long long)rule.cfa_offset);
    print_register(&rule.fp);
    print_register(&rule.return_address);
    printf("\n");
  }
  return 0;
}

#include "profile_losses.h"

#include <stdio.h>
#include <string.h>

#include "shim/base/counters.h"

enum { LINE = 256 };

static const struct loss {
  const char *name, *meaning;
  _Atomic uint64_t *counter;
} losses[] = {
#define X(identifier, meaning) {#identifier, meaning, &shim_counters.identifier},
    SHIM_LOSS_COUNTERS(X)
#undef X
};
enum { COUNT = sizeof losses / sizeof *losses };

/* 0: nothing was lost, or it does not concern the profile. */
static unsigned long long lost(const struct loss *loss, const char *const *prefixes) {
  for (; *prefixes; prefixes++)
    if (strncmp(loss->name, *prefixes, strlen(*prefixes)) == 0)
      return atomic_load_explicit(loss->counter, memory_order_relaxed);
  return 0;
}

bool profile_losses_comment(struct profile *profile, const char *const *prefixes) {
  const char **lines = profile_alloc(profile, COUNT * sizeof *lines);
  if (!lines) return false;
  profile->comments = lines;
  for (size_t i = 0; i < COUNT; i++) {
    unsigned long long count = lost(&losses[i], prefixes);
    if (count == 0) continue;
    char *line = profile_alloc(profile, LINE);
    if (!line) return false;
    snprintf(line, LINE, "%llu %s", count, losses[i].meaning);
    lines[profile->comment_count++] = line;
  }
  return true;
}

bool profile_losses_trail(struct profile *profile, const char *const *prefixes) {
  const char *before = profile->text_trailer ? profile->text_trailer : "";
  size_t used = strlen(before);
  char *text = profile_alloc(profile, used + COUNT * LINE + 1);
  if (!text) return false;
  memcpy(text, before, used);
  for (size_t i = 0; i < COUNT; i++) {
    unsigned long long count = lost(&losses[i], prefixes);
    if (count == 0) continue;
    int length =
        snprintf(text + used, LINE, "# %s = %llu (%s)\n", losses[i].name, count, losses[i].meaning);
    used += length < LINE ? (size_t)length : LINE - 1;
  }
  if (used > 0) profile->text_trailer = text;
  return true;
}

#define X(identifier, meaning)                                    \
  _Static_assert(sizeof #identifier + sizeof meaning + 24 < LINE, \
                 "a line takes it whole, newline included");
SHIM_LOSS_COUNTERS(X)
#undef X

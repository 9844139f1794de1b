#include "profile_losses.h"

#include <stdio.h>
#include <string.h>

#include "shim/base/counters.h"

enum { LINE = 256 };

/* Name and meaning of each counter, in their order: no pointers, which each exec would relocate. */
static const char texts[] =
#define X(identifier, meaning) #identifier "\0" meaning "\0"
    SHIM_LOSS_COUNTERS(X);
#undef X
enum { COUNT = sizeof(struct shim_counters) / sizeof(uint64_t) };

struct loss {
  const char *name, *meaning;
  unsigned long long count; /* 0: nothing was lost, or it does not concern the profile */
};

/* *text: the place in texts of counter number i, moved to that of the next. */
static struct loss read_loss(size_t i, const char **text, const char *const *prefixes) {
  struct loss loss = {.name = *text, .meaning = *text + strlen(*text) + 1};
  *text = loss.meaning + strlen(loss.meaning) + 1;
  const _Atomic uint64_t *counters = (const _Atomic uint64_t *)&shim_counters;
  for (; *prefixes; prefixes++)
    if (strncmp(loss.name, *prefixes, strlen(*prefixes)) == 0)
      loss.count = atomic_load_explicit(&counters[i], memory_order_relaxed);
  return loss;
}

bool profile_losses_comment(struct profile *profile, const char *const *prefixes) {
  const char *next = texts;
  for (size_t i = 0; i < COUNT; i++) {
    struct loss loss = read_loss(i, &next, prefixes);
    if (loss.count > 0 && !profile_add_comment(profile, "%llu %s", loss.count, loss.meaning))
      return false;
  }
  return true;
}

bool profile_losses_trail(struct profile *profile, const char *const *prefixes) {
  const char *before = profile->text_trailer ? profile->text_trailer : "";
  size_t used = strlen(before);
  char *text = profile_alloc(profile, used + COUNT * LINE + 1);
  if (!text) return false;
  memcpy(text, before, used);
  const char *next = texts;
  for (size_t i = 0; i < COUNT; i++) {
    struct loss loss = read_loss(i, &next, prefixes);
    if (loss.count == 0) continue;
    int length =
        snprintf(text + used, LINE, "# %s = %llu (%s)\n", loss.name, loss.count, loss.meaning);
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

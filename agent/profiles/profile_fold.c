#include "profile_fold.h"

#include <string.h>

#include "agent/runtime/agent_memory.h"
#include "agent/runtime/growing_array.h"
#include "agent/runtime/index_table.h"

enum { ROOT = 0, ROOM_FOR_COMMENT = 512, NONE = UINT32_MAX };

/* A place in the tree of stacks: so far down from the root they are the same. */
struct fold_node {
  uint32_t parent, location;
  uint32_t folded; /* sample of the attempt that ends here; NONE */
  float share; /* of the profile, at least that of each sample type */
};

struct fold {
  struct profile *profile;
  struct fold_node *nodes;
  uint32_t node_count, node_capacity;
  struct index_table index; /* by parent and location */
  uint32_t *leaves; /* nodes of the samples */
  size_t steps; /* locations of all samples */
};

/* ---- the tree ---- */

struct node_key {
  const struct fold_node *nodes;
  uint32_t parent, location;
};

static bool node_equal(const void *context, uint32_t position) {
  const struct node_key *key = context;
  const struct fold_node *node = &key->nodes[position];
  return node->parent == key->parent && node->location == key->location;
}

/* NONE: out of memory. */
static uint32_t node_below(struct fold *fold, uint32_t parent, uint32_t location) {
  struct node_key key = {fold->nodes, parent, location};
  uint64_t hash = hash_mix(parent, location);
  uint32_t found = index_table_find(&fold->index, hash, node_equal, &key);
  if (found != INDEX_TABLE_NONE) return found;
  if (!growing_array_reserve(&fold->nodes, fold->node_count, &fold->node_capacity,
                             sizeof *fold->nodes) ||
      !index_table_add(&fold->index, hash, fold->node_count))
    return NONE;
  fold->nodes[fold->node_count] = (struct fold_node){.parent = parent, .location = location};
  return fold->node_count++;
}

static double size_of(int64_t value) { return value < 0 ? -(double)value : (double)value; }

/* The largest of a sample's shares: their sums are no less than the shares of the sums. */
static double share_of(const struct profile *profile, const struct profile_sample *sample,
                       const double *totals) {
  double largest = 0;
  for (uint32_t v = 0; v < profile->value_count; v++) {
    double share = totals[v] > 0 ? size_of(sample->values[v]) / totals[v] : 0;
    if (share > largest) largest = share;
  }
  return largest;
}

static bool build(struct fold *fold) {
  const struct profile *profile = fold->profile;
  double totals[PROFILE_MAX_VALUES] = {0};
  fold->leaves = agent_malloc((profile->sample_count + 1) * sizeof *fold->leaves);
  if (!fold->leaves || node_below(fold, NONE, NONE) != ROOT) return false;
  for (size_t s = 0; s < profile->sample_count; s++)
    for (uint32_t v = 0; v < profile->value_count; v++)
      totals[v] += size_of(profile->samples[s].values[v]);
  for (size_t s = 0; s < profile->sample_count; s++) {
    const struct profile_sample *sample = &profile->samples[s];
    double share = share_of(profile, sample, totals);
    uint32_t at = ROOT;
    for (uint32_t i = sample->location_count; i > 0; i--) {
      at = node_below(fold, at, sample->locations[i - 1]);
      if (at == NONE) return false;
      fold->nodes[at].share += (float)share;
    }
    fold->leaves[s] = at;
    fold->steps += sample->location_count;
  }
  return true;
}

/* ---- an attempt ---- */

/* What the profile would be: its own samples and locations, only those that are used. */
struct attempt {
  struct profile profile;
  uint32_t *steps, *new_places; /* of all samples; of the profile's locations, NONE: not used */
  size_t used;
  uint32_t marker; /* location; NONE: not yet */
  size_t samples_folded;
};

static uint32_t place_of(const struct fold *fold, struct attempt *attempt, uint32_t location) {
  struct profile *out = &attempt->profile;
  if (attempt->new_places[location] == NONE) {
    attempt->new_places[location] = (uint32_t)out->location_count;
    out->locations[out->location_count++] = fold->profile->locations[location];
  }
  return attempt->new_places[location];
}

static uint32_t marker_of(struct attempt *attempt) {
  struct profile *out = &attempt->profile;
  if (attempt->marker == NONE) {
    attempt->marker = (uint32_t)out->location_count;
    out->locations[out->location_count++] = (struct profile_location){.marker = PROFILE_FOLDED};
  }
  return attempt->marker;
}

/* The stack that ends at a node, into a new sample. */
static struct profile_sample *add_sample(const struct fold *fold, struct attempt *attempt,
                                         uint32_t node, bool is_folded) {
  struct profile_sample *sample = &attempt->profile.samples[attempt->profile.sample_count++];
  uint32_t *steps = attempt->steps + attempt->used, count = 0;
  *sample = (struct profile_sample){.locations = steps};
  if (is_folded) steps[count++] = marker_of(attempt);
  for (; node != ROOT; node = fold->nodes[node].parent)
    steps[count++] = place_of(fold, attempt, fold->nodes[node].location);
  sample->location_count = count;
  attempt->used += count;
  return sample;
}

/* Where a sample ends if parts below `least` are folded. */
static uint32_t end_of(const struct fold *fold, size_t sample, double least) {
  uint32_t node = fold->leaves[sample];
  while (node != ROOT && fold->nodes[node].share < least) node = fold->nodes[node].parent;
  return node;
}

static void fill(struct fold *fold, struct attempt *attempt, double least) {
  const struct profile *from = fold->profile;
  for (uint32_t n = 0; n < fold->node_count; n++) fold->nodes[n].folded = NONE;
  for (size_t l = 0; l < from->location_count; l++) attempt->new_places[l] = NONE;
  for (size_t s = 0; s < from->sample_count; s++) {
    const struct profile_sample *sample = &from->samples[s];
    uint32_t end = end_of(fold, s, least);
    if (end == fold->leaves[s]) {
      struct profile_sample *copy = add_sample(fold, attempt, end, false);
      memcpy(copy->values, sample->values, sizeof copy->values);
      copy->label_count = sample->label_count;
      copy->labels = sample->labels;
      continue;
    }
    attempt->samples_folded++;
    if (fold->nodes[end].folded == NONE) {
      fold->nodes[end].folded = (uint32_t)attempt->profile.sample_count;
      add_sample(fold, attempt, end, true);
    }
    struct profile_sample *sum = &attempt->profile.samples[fold->nodes[end].folded];
    for (uint32_t v = 0; v < from->value_count; v++) /* as readers add: past the largest, too */
      sum->values[v] = (int64_t)((uint64_t)sum->values[v] + (uint64_t)sample->values[v]);
  }
}

static void drop(struct attempt *attempt) {
  agent_free(attempt->steps);
  agent_free(attempt->new_places);
  agent_free(attempt->profile.samples);
  agent_free(attempt->profile.locations);
}

/* False: out of memory. To be dropped. */
static bool attempt_with(struct fold *fold, struct attempt *out, double least) {
  const struct profile *from = fold->profile;
  size_t samples = from->sample_count, locations = from->location_count + 1;
  *out = (struct attempt){.profile = *from, .marker = NONE};
  out->profile.sample_count = out->profile.location_count = 0;
  out->steps = agent_malloc((fold->steps + samples + 1) * sizeof *out->steps);
  out->new_places = agent_malloc(locations * sizeof *out->new_places);
  out->profile.samples = agent_malloc((samples + 1) * sizeof *out->profile.samples);
  out->profile.locations = agent_malloc(locations * sizeof *out->profile.locations);
  if (!out->steps || !out->new_places || !out->profile.samples || !out->profile.locations)
    return false;
  fill(fold, out, least);
  return true;
}

/* ---- how large it is ---- */

struct limit_sink {
  struct byte_sink base;
  size_t left;
  bool is_over;
};

static bool count(struct byte_sink *sink, const void *bytes, size_t size) {
  struct limit_sink *limit = (struct limit_sink *)sink;
  (void)bytes;
  limit->is_over = limit->is_over || size > limit->left;
  limit->left -= limit->is_over ? 0 : size;
  return !limit->is_over;
}

enum fit { FITS, TOO_LARGE, NO_MEMORY };

static enum fit fits(const struct profile *profile, size_t max_bytes) {
  struct limit_sink sink = {.base = {count}, .left = max_bytes};
  if (profile_encode_proto(profile, &sink.base)) return FITS;
  return sink.is_over ? TOO_LARGE : NO_MEMORY;
}

static enum fit fits_with(struct fold *fold, size_t max_bytes, double least) {
  struct attempt attempt;
  enum fit fit = NO_MEMORY;
  if (attempt_with(fold, &attempt, least)) fit = fits(&attempt.profile, max_bytes);
  drop(&attempt);
  return fit;
}

/* The least part with which it fits, to a factor of 1.3; more than all of it if none does. */
static enum fit find_least(struct fold *fold, size_t max_bytes, double *least) {
  enum { STEP = 8, HALVINGS = 3 };
  enum fit fit = TOO_LARGE;
  double upper = 1e-7, ratio = STEP;
  while (fit == TOO_LARGE && upper <= 1) fit = fits_with(fold, max_bytes, upper *= STEP);
  static const double roots[HALVINGS] = {2.8284271247461903, 1.6817928305074290,
                                         1.2968395546510096};
  for (int i = 0; fit == FITS && i < HALVINGS; i++) {
    double middle = upper / ratio * roots[i]; /* ratio^(1/2), of 8, ... */
    enum fit lower = fits_with(fold, max_bytes, middle);
    if (lower == NO_MEMORY) return NO_MEMORY;
    if (lower == FITS) upper = middle;
    ratio = roots[i];
  }
  *least = upper;
  return fit;
}

/* The attempt becomes the profile. */
static bool take(struct fold *fold, size_t max_bytes, double least) {
  struct attempt attempt;
  struct profile *profile = fold->profile;
  bool ok = attempt_with(fold, &attempt, least);
  uint32_t *steps = ok ? profile_alloc(profile, (attempt.used + 1) * sizeof *steps) : NULL;
  ok = ok && steps &&
       profile_add_comment(profile,
                           "folded to fit into %zu bytes: %zu of %zu samples end at what called "
                           "them, in " PROFILE_FOLDED
                           ", each part below 1/%.0f of every sample "
                           "type",
                           max_bytes, attempt.samples_folded, profile->sample_count, 1 / least);
  if (ok) {
    memcpy(steps, attempt.steps, attempt.used * sizeof *steps);
    for (size_t s = 0; s < attempt.profile.sample_count; s++) {
      struct profile_sample *sample = &attempt.profile.samples[s];
      sample->locations = steps + (sample->locations - attempt.steps);
    }
    agent_free(profile->samples);
    agent_free(profile->locations);
    profile->samples = attempt.profile.samples;
    profile->locations = attempt.profile.locations;
    profile->sample_count = attempt.profile.sample_count;
    profile->location_count = attempt.profile.location_count;
    attempt.profile.samples = NULL;
    attempt.profile.locations = NULL;
  }
  drop(&attempt);
  return ok;
}

bool profile_fold(struct profile *profile, size_t max_bytes) {
  enum fit whole = fits(profile, max_bytes);
  if (whole != TOO_LARGE) return whole == FITS;
  struct fold fold = {.profile = profile};
  size_t room = max_bytes > ROOM_FOR_COMMENT ? max_bytes - ROOM_FOR_COMMENT : 0;
  double least;
  bool ok =
      build(&fold) && find_least(&fold, room, &least) != NO_MEMORY && take(&fold, max_bytes, least);
  agent_free(fold.nodes);
  agent_free(fold.leaves);
  index_table_release(&fold.index);
  return ok;
}

/* The merged call tree of a profile: samples with the same functions on their way from the root are
 * one path. It is kept as the samples in the order of their paths: a node is a range of them that
 * begins with the same functions, and its sums are differences of running sums. So it takes memory
 * for the samples only, however many nodes there are.
 * Context: agent threads; locks: none (one owner). */
#ifndef AGENT_CALL_TREE_H
#define AGENT_CALL_TREE_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/runtime/string_table.h"
#include "profile.h"

struct call_function {
  uint32_t name, file, module; /* of call_tree.strings; 0: not known */
  int64_t flat[PROFILE_MAX_VALUES], cum[PROFILE_MAX_VALUES]; /* cum: a sample counts once */
  double weight[PROFILE_MAX_VALUES]; /* as cum, of the values without their signs */
  uint32_t seen; /* the last sample that counted, from 1 */
};

struct call_frame { /* one function at one place, as inlined code gives several for one address */
  uint32_t function, line;
};

struct call_path { /* of one sample, root first */
  uint32_t first, length; /* in call_tree.steps */
  uint32_t shared; /* how many functions it has in common with the path before */
};

struct call_tree {
  const struct profile *profile;
  struct string_table strings;
  uint32_t function_count, frame_count, path_count, function_capacity, frame_capacity, deepest;
  struct call_function *functions;
  struct call_frame *frames;
  char **module_names; /* of places without a name, for each mapping; NULL: none yet */
  uint32_t *steps; /* indexes of frames */
  struct call_path *paths;
  int64_t total[PROFILE_MAX_VALUES];
  double weight[PROFILE_MAX_VALUES]; /* of all samples, without their signs */
  /* Running sums: [v] over the paths before i, of value v and of it without its sign. */
  uint64_t *sums[PROFILE_MAX_VALUES];
  double *weights[PROFILE_MAX_VALUES];
};

/* Functions are told apart by name, file and module, or (by_name) by their names alone, as
 * `go tool pprof -top` does. False: out of memory; released in any case by call_tree_release. */
bool call_tree_build(struct call_tree *tree, const struct profile *profile, bool by_name);
void call_tree_release(struct call_tree *tree);

/* A node: paths [first, last) have their first `depth` functions in common. */
struct call_node {
  uint32_t first, last, depth;
};

struct call_node call_tree_root(const struct call_tree *tree);
/* The node at which path `first` leaves the path before it, at this depth. */
struct call_node call_tree_node(const struct call_tree *tree, uint32_t first, uint32_t depth);
int64_t call_node_cum(const struct call_tree *tree, struct call_node node, uint32_t value);
int64_t call_node_flat(const struct call_tree *tree, struct call_node node, uint32_t value);
/* The largest of its shares of the profile's sample types, 0 to 1. */
double call_node_share(const struct call_tree *tree, struct call_node node);
uint32_t call_path_function(const struct call_tree *tree, const struct call_path *path,
                            uint32_t depth);

/* Without its sign. */
static inline double call_value_size(int64_t value) {
  return value < 0 ? -(double)value : (double)value;
}

#endif

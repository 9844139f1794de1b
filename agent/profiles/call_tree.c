#include "call_tree.h"

#include <stdio.h>
#include <string.h>

#include "agent/runtime/agent_memory.h"
#include "number_order.h"

/* ---- functions and frames ---- */

struct builder {
  struct call_tree *tree;
  bool by_name;
  struct index_table function_index;
  uint32_t *location_frames; /* the first frame of each location; its last is before the next's */
};

struct function_key {
  const struct call_function *items;
  uint32_t name, file, module;
};

static bool function_equal(const void *context, uint32_t position) {
  const struct function_key *key = context;
  const struct call_function *function = &key->items[position];
  return function->name == key->name && function->file == key->file &&
         function->module == key->module;
}

/* Room for one more in an array that doubles. */
static bool has_room(void **items, uint32_t count, uint32_t *capacity, size_t item_size) {
  if (count < *capacity) return true;
  uint32_t more = *capacity ? *capacity * 2 : 512;
  if (more < *capacity) return false;
  void *grown = agent_realloc(*items, more * item_size);
  if (!grown) return false;
  *items = grown;
  *capacity = more;
  return true;
}

/* INDEX_TABLE_NONE: out of memory. */
static uint32_t function_of(struct builder *builder, const char *name, const char *file,
                            const char *module) {
  struct call_tree *tree = builder->tree;
  struct function_key key = {tree->functions, 0, 0, 0};
  key.name = (uint32_t)string_table_number(&tree->strings, name);
  if (!builder->by_name) {
    key.file = (uint32_t)string_table_number(&tree->strings, file);
    key.module = (uint32_t)string_table_number(&tree->strings, module);
  }
  uint64_t hash = hash_mix(hash_mix(key.name, key.file), key.module);
  uint32_t found = index_table_find(&builder->function_index, hash, function_equal, &key);
  if (found != INDEX_TABLE_NONE) return found;
  if (!has_room((void **)&tree->functions, tree->function_count, &tree->function_capacity,
                sizeof *tree->functions) ||
      !index_table_add(&builder->function_index, hash, tree->function_count))
    return INDEX_TABLE_NONE;
  tree->functions[tree->function_count] =
      (struct call_function){.name = key.name, .file = key.file, .module = key.module};
  return tree->function_count++;
}

static bool add_frame(struct builder *builder, const char *name, const char *file,
                      const char *module, uint32_t line) {
  struct call_tree *tree = builder->tree;
  uint32_t function = function_of(builder, name, file, module);
  if (function == INDEX_TABLE_NONE || !has_room((void **)&tree->frames, tree->frame_count,
                                                &tree->frame_capacity, sizeof *tree->frames))
    return false;
  tree->frames[tree->frame_count++] = (struct call_frame){function, line};
  return true;
}

/* What pprof calls a place without a name: its module in brackets. NULL: out of memory. */
static const char *name_of_unnamed(struct call_tree *tree, const struct mapping *map,
                                   const char *module) {
  if (!map) return "<unknown>";
  char **name = &tree->module_names[map - tree->profile->mappings->items];
  if (*name) return *name;
  const char *slash = strrchr(module, '/'), *base = slash ? slash + 1 : module;
  size_t size = strlen(base) + 3;
  *name = agent_malloc(size);
  if (*name) snprintf(*name, size, "[%s]", base);
  return *name;
}

/* The frames of one location, outermost first. */
static bool add_location(struct builder *builder, const struct profile_location *location) {
  const struct symbol_location *symbol = location->symbol;
  const char *module = NULL;
  if (location->map)
    module =
        location->map->kind == MAPPING_ANONYMOUS ? MAPPING_ANONYMOUS_NAME : location->map->path;
  if (location->marker) return add_frame(builder, location->marker, NULL, NULL, 0);
  uint32_t before = builder->tree->frame_count;
  for (uint32_t i = symbol ? symbol->frame_count : 0; i > 0; i--) {
    const struct symbol_frame *frame = &symbol->frames[i - 1];
    if (frame->function &&
        !add_frame(builder, frame->function, frame->filename, module, frame->line))
      return false;
  }
  if (builder->tree->frame_count > before) return true;
  const char *name = name_of_unnamed(builder->tree, location->map, module);
  return name && add_frame(builder, name, NULL, module, 0);
}

static bool add_locations(struct builder *builder) {
  const struct profile *profile = builder->tree->profile;
  builder->location_frames =
      agent_malloc((profile->location_count + 1) * sizeof *builder->location_frames);
  builder->tree->module_names =
      agent_calloc(profile->mappings->count + 1, sizeof *builder->tree->module_names);
  if (!builder->location_frames || !builder->tree->module_names) return false;
  for (size_t i = 0; i < profile->location_count; i++) {
    builder->location_frames[i] = builder->tree->frame_count;
    if (!add_location(builder, &profile->locations[i])) return false;
  }
  builder->location_frames[profile->location_count] = builder->tree->frame_count;
  return !builder->tree->strings.failed;
}

/* ---- paths ---- */

static uint32_t frames_of(const struct builder *builder, uint32_t location) {
  return builder->location_frames[location + 1] - builder->location_frames[location];
}

static bool add_paths(struct builder *builder) {
  struct call_tree *tree = builder->tree;
  const struct profile *profile = tree->profile;
  uint64_t steps = 0;
  for (size_t i = 0; i < profile->sample_count; i++)
    for (uint32_t l = 0; l < profile->samples[i].location_count; l++)
      steps += frames_of(builder, profile->samples[i].locations[l]);
  if (steps >= UINT32_MAX || profile->sample_count >= UINT32_MAX) return false;
  tree->steps = agent_malloc((size_t)(steps + 1) * sizeof *tree->steps);
  tree->paths = agent_calloc(profile->sample_count + 1, sizeof *tree->paths);
  if (!tree->steps || !tree->paths) return false;
  uint32_t at = 0;
  for (size_t i = 0; i < profile->sample_count; i++) {
    const struct profile_sample *sample = &profile->samples[i];
    tree->paths[i].first = at;
    for (uint32_t l = sample->location_count; l > 0; l--) {
      uint32_t location = sample->locations[l - 1];
      for (uint32_t f = 0; f < frames_of(builder, location); f++)
        tree->steps[at++] = builder->location_frames[location] + f;
    }
    tree->paths[i].length = at - tree->paths[i].first;
    if (tree->paths[i].length > tree->deepest) tree->deepest = tree->paths[i].length;
  }
  tree->path_count = (uint32_t)profile->sample_count;
  return true;
}

uint32_t call_path_function(const struct call_tree *tree, const struct call_path *path,
                            uint32_t depth) {
  return tree->frames[tree->steps[path->first + depth]].function;
}

static uint32_t shared_functions(const struct call_tree *tree, const struct call_path *a,
                                 const struct call_path *b) {
  uint32_t shared = 0;
  while (shared < a->length && shared < b->length &&
         call_path_function(tree, a, shared) == call_path_function(tree, b, shared))
    shared++;
  return shared;
}

static bool comes_after(const void *things, uint32_t number_a, uint32_t number_b) {
  const struct call_tree *tree = things;
  const struct call_path *a = &tree->paths[number_a], *b = &tree->paths[number_b];
  uint32_t shared = shared_functions(tree, a, b);
  if (shared == a->length || shared == b->length) return a->length > b->length;
  return call_path_function(tree, a, shared) > call_path_function(tree, b, shared);
}

/* Paths in their order, and the running sums. */
static bool arrange(struct call_tree *tree, const uint32_t *order) {
  struct call_path *arranged = agent_malloc((tree->path_count + (size_t)1) * sizeof *arranged);
  if (!arranged) return false;
  for (uint32_t i = 0; i < tree->path_count; i++) {
    arranged[i] = tree->paths[order[i]];
    if (i > 0) arranged[i].shared = shared_functions(tree, &arranged[i - 1], &arranged[i]);
  }
  agent_free(tree->paths);
  tree->paths = arranged;
  for (uint32_t v = 0; v < tree->profile->value_count; v++) {
    tree->sums[v] = agent_calloc(tree->path_count + (size_t)1, sizeof *tree->sums[v]);
    tree->weights[v] = agent_calloc(tree->path_count + (size_t)1, sizeof *tree->weights[v]);
    if (!tree->sums[v] || !tree->weights[v]) return false;
    for (uint32_t i = 0; i < tree->path_count; i++) {
      int64_t value = tree->profile->samples[order[i]].values[v];
      tree->sums[v][i + 1] = tree->sums[v][i] + (uint64_t)value;
      tree->weights[v][i + 1] = tree->weights[v][i] + call_value_size(value);
    }
    tree->total[v] = (int64_t)tree->sums[v][tree->path_count];
    tree->weight[v] = tree->weights[v][tree->path_count];
  }
  return true;
}

static bool arrange_paths(struct call_tree *tree) {
  uint32_t *order = agent_malloc((tree->path_count + (size_t)1) * sizeof *order);
  if (!order) return false;
  for (uint32_t i = 0; i < tree->path_count; i++) order[i] = i;
  bool ok = number_order_sort(order, tree->path_count, comes_after, tree) && arrange(tree, order);
  agent_free(order);
  return ok;
}

/* ---- sums ---- */

static void sum_functions(struct call_tree *tree) {
  for (uint32_t i = 0; i < tree->path_count; i++) {
    const struct call_path *path = &tree->paths[i];
    for (uint32_t d = 0; d < path->length; d++) {
      struct call_function *function = &tree->functions[call_path_function(tree, path, d)];
      bool leaf = d + 1 == path->length, again = function->seen == i + 1;
      function->seen = i + 1;
      for (uint32_t v = 0; v < tree->profile->value_count; v++) {
        uint64_t value = tree->sums[v][i + 1] - tree->sums[v][i];
        if (leaf) function->flat[v] = (int64_t)((uint64_t)function->flat[v] + value);
        if (again) continue;
        function->cum[v] = (int64_t)((uint64_t)function->cum[v] + value);
        function->weight[v] += call_value_size((int64_t)value);
      }
    }
  }
}

struct call_node call_tree_root(const struct call_tree *tree) {
  return (struct call_node){0, tree->path_count, 0};
}

struct call_node call_tree_node(const struct call_tree *tree, uint32_t first, uint32_t depth) {
  struct call_node node = {first, first + 1, depth};
  while (node.last < tree->path_count && tree->paths[node.last].shared >= depth) node.last++;
  return node;
}

int64_t call_node_cum(const struct call_tree *tree, struct call_node node, uint32_t value) {
  return (int64_t)(tree->sums[value][node.last] - tree->sums[value][node.first]);
}

int64_t call_node_flat(const struct call_tree *tree, struct call_node node, uint32_t value) {
  uint32_t end = node.first; /* paths that end here come first */
  while (end < node.last && tree->paths[end].length == node.depth) end++;
  node.last = end;
  return call_node_cum(tree, node, value);
}

double call_node_share(const struct call_tree *tree, struct call_node node) {
  double largest = 0;
  for (uint32_t v = 0; v < tree->profile->value_count; v++) {
    if (tree->weight[v] <= 0) continue;
    double share = (tree->weights[v][node.last] - tree->weights[v][node.first]) / tree->weight[v];
    if (share > largest) largest = share;
  }
  return largest;
}

bool call_tree_build(struct call_tree *tree, const struct profile *profile, bool by_name) {
  memset(tree, 0, sizeof *tree);
  tree->profile = profile;
  struct builder builder = {.tree = tree, .by_name = by_name};
  bool ok = string_table_start(&tree->strings) && add_locations(&builder) && add_paths(&builder) &&
            arrange_paths(tree);
  if (ok) sum_functions(tree);
  index_table_release(&builder.function_index);
  agent_free(builder.location_frames);
  return ok;
}

void call_tree_release(struct call_tree *tree) {
  string_table_release(&tree->strings);
  for (size_t i = 0; tree->module_names && i < tree->profile->mappings->count; i++)
    agent_free(tree->module_names[i]);
  agent_free(tree->module_names);
  agent_free(tree->functions);
  agent_free(tree->frames);
  agent_free(tree->steps);
  agent_free(tree->paths);
  for (uint32_t v = 0; v < PROFILE_MAX_VALUES; v++) {
    agent_free(tree->sums[v]);
    agent_free(tree->weights[v]);
  }
}

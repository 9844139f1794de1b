/* The merged call tree as JSON, the form that docs/views.md describes. Parents come before their
 * children; what is below the stated share of every sample type is cut, and its sums are said. */
#include <inttypes.h>
#include <string.h>

#include "agent/http/text_sink.h"
#include "agent/runtime/agent_memory.h"
#include "agent/runtime/version.h"
#include "call_tree.h"
#include "call_tree_forms.h"

enum { HALVINGS = 48, CUT = UINT32_MAX };

struct json_writer {
  struct text_sink *text;
  struct call_tree tree;
  uint32_t halvings; /* nodes below 1 / 2^halvings of every sample type are cut */
  uint64_t nodes_cut, functions_cut;
  uint32_t nodes_written;
  uint64_t values_cut[PROFILE_MAX_VALUES];
  uint32_t *numbers; /* of each function in the answer; CUT */
  uint32_t *modules; /* strings that are modules, in their order in the answer */
  uint32_t module_count;
  uint32_t *at_depth; /* the number of the node that is open at each depth; CUT */
};

/* How often 1 is halved until it is no more than the share. */
static uint32_t halvings_of(double share) {
  uint32_t halvings = 0;
  for (; share < 1 && halvings < HALVINGS; halvings++) share *= 2;
  return halvings;
}

static bool is_shown(const struct json_writer *writer, double share) {
  return !writer->halvings || halvings_of(share) <= writer->halvings;
}

/* The share below which nodes are cut so that at most node_count are left. */
static void choose_cut(struct json_writer *writer, uint64_t node_count) {
  uint64_t nodes[HALVINGS + 1] = {0}, all = 0;
  for (uint32_t i = 0; i < writer->tree.path_count; i++)
    for (uint32_t d = writer->tree.paths[i].shared + 1; d <= writer->tree.paths[i].length; d++)
      nodes[halvings_of(call_node_share(&writer->tree, call_tree_node(&writer->tree, i, d)))]++;
  uint32_t kept = 0;
  for (; kept <= HALVINGS; kept++) {
    if (node_count && all + nodes[kept] > node_count) break;
    all += nodes[kept];
  }
  if (kept <= HALVINGS) writer->halvings = kept > 1 ? kept - 1 : 1;
}

/* ---- pieces ---- */

static void write_string(struct text_sink *text, const char *key, const char *value) {
  text_sink_format(text, "\"%s\":", key);
  if (value) text_sink_json(text, value);
  else text_sink_text(text, "null");
}

static void write_values(struct json_writer *writer, const char *key, const int64_t *values) {
  text_sink_format(writer->text, "\"%s\":[", key);
  for (uint32_t v = 0; v < writer->tree.profile->value_count; v++)
    text_sink_format(writer->text, "%s%" PRId64, v ? "," : "", values[v]);
  text_sink_text(writer->text, "]");
}

static void write_type(struct text_sink *text, const struct profile_value_type *type) {
  text_sink_text(text, "{");
  write_string(text, "type", type->type ? type->type : "");
  text_sink_text(text, ",");
  write_string(text, "unit", type->unit ? type->unit : "");
  text_sink_text(text, "}");
}

static void write_head(struct json_writer *writer, const struct call_tree_options *options) {
  struct text_sink *text = writer->text;
  const struct profile *profile = writer->tree.profile;
  text_sink_text(text, "{\"version\":1,");
  write_string(text, "agent", PPROFAGENT_VERSION);
  text_sink_text(text, ",");
  write_string(text, "profile", profile->name);
  text_sink_text(text, ",\"process\":{");
  write_string(text, "name", options->process);
  text_sink_format(text,
                   ",\"pid\":%d},\"time_nanos\":%" PRId64 ",\"duration_nanos\":%" PRId64
                   ",\"period\":%" PRId64 ",\"period_type\":",
                   options->pid, profile->time_nanos, profile->duration_nanos, profile->period);
  write_type(text, &profile->period_type);
  text_sink_text(text, ",");
  write_string(text, "program", profile->mappings->count ? profile->mappings->items[0].path : NULL);
  text_sink_text(text, ",\n\"sample_types\":[");
  for (uint32_t v = 0; v < profile->value_count; v++) {
    if (v) text_sink_text(text, ",");
    write_type(text, &profile->value_types[v]);
  }
  text_sink_text(text, "],");
  write_string(text, "default_sample_type",
               profile->value_types[profile_default_value(profile)].type);
  text_sink_text(text, ",\"comments\":[");
  for (uint32_t i = 0; i < profile->comment_count; i++) {
    if (i) text_sink_text(text, ",");
    text_sink_json(text, profile->comments[i]);
  }
  text_sink_text(text, "],\n");
  write_values(writer, "total", writer->tree.total);
}

/* ---- functions ---- */

static bool function_is_shown(const struct json_writer *writer,
                              const struct call_function *function) {
  double largest = 0;
  for (uint32_t v = 0; v < writer->tree.profile->value_count; v++) {
    double all = writer->tree.weight[v], share = all > 0 ? function->weight[v] / all : 0;
    if (share > largest) largest = share;
  }
  return is_shown(writer, largest);
}

static uint32_t module_number(struct json_writer *writer, uint32_t module) {
  for (uint32_t i = 0; i < writer->module_count; i++)
    if (writer->modules[i] == module) return i;
  writer->modules[writer->module_count] = module;
  return writer->module_count++;
}

/* False: out of memory. There are no more modules than mappings. */
static bool number_functions(struct json_writer *writer) {
  const struct call_tree *tree = &writer->tree;
  writer->numbers = agent_malloc((tree->function_count + (size_t)1) * sizeof *writer->numbers);
  writer->modules = agent_malloc((tree->profile->mappings->count + 2) * sizeof *writer->modules);
  writer->at_depth = agent_malloc((tree->deepest + (size_t)1) * sizeof *writer->at_depth);
  if (!writer->numbers || !writer->modules || !writer->at_depth) return false;
  uint32_t number = 0;
  for (uint32_t i = 0; i < tree->function_count; i++) {
    bool shown = function_is_shown(writer, &tree->functions[i]);
    writer->numbers[i] = shown ? number++ : CUT;
    writer->functions_cut += !shown;
    if (shown && tree->functions[i].module) module_number(writer, tree->functions[i].module);
  }
  return true;
}

static void write_functions(struct json_writer *writer) {
  struct text_sink *text = writer->text;
  const struct call_tree *tree = &writer->tree;
  text_sink_text(text, ",\n\"modules\":[");
  for (uint32_t i = 0; i < writer->module_count; i++) {
    if (i) text_sink_text(text, ",");
    text_sink_json(text, tree->strings.items[writer->modules[i]]);
  }
  text_sink_text(text, "],\n\"functions\":[");
  bool first = true;
  for (uint32_t i = 0; i < tree->function_count; i++) {
    const struct call_function *function = &tree->functions[i];
    if (writer->numbers[i] == CUT) continue;
    text_sink_text(text, first ? "\n{" : ",\n{");
    first = false;
    write_string(text, "name", tree->strings.items[function->name]);
    text_sink_text(text, ",");
    write_string(text, "file", function->file ? tree->strings.items[function->file] : NULL);
    if (function->module)
      text_sink_format(text, ",\"module\":%" PRIu32 ",", module_number(writer, function->module));
    else text_sink_text(text, ",\"module\":null,");
    write_values(writer, "flat", function->flat);
    text_sink_text(text, ",");
    write_values(writer, "cum", function->cum);
    text_sink_text(text, "}");
  }
  text_sink_text(text, "]");
}

/* ---- nodes ---- */

/* The lowest and the highest line of a node's frames that have one. */
static void write_lines(struct json_writer *writer, struct call_node node) {
  uint32_t low = 0, high = 0;
  for (uint32_t i = node.first; node.depth && i < node.last; i++) {
    uint32_t step = writer->tree.steps[writer->tree.paths[i].first + node.depth - 1];
    uint32_t line = writer->tree.frames[step].line;
    if (line && (!low || line < low)) low = line;
    if (line > high) high = line;
  }
  if (low) text_sink_format(writer->text, "\"lines\":[%" PRIu32 ",%" PRIu32 "],", low, high);
}

/* What of the node is in children that are cut. */
static bool cut_below(struct json_writer *writer, struct call_node node, int64_t *values) {
  const struct call_tree *tree = &writer->tree;
  memset(values, 0, PROFILE_MAX_VALUES * sizeof *values);
  if (!writer->halvings) return false;
  bool any = false;
  for (uint32_t i = node.first; i < node.last;) {
    if (tree->paths[i].length == node.depth) {
      i++;
      continue;
    }
    struct call_node child = call_tree_node(tree, i, node.depth + 1);
    if (!is_shown(writer, call_node_share(tree, child))) {
      any = true;
      for (uint32_t v = 0; v < tree->profile->value_count; v++)
        values[v] = (int64_t)((uint64_t)values[v] + (uint64_t)call_node_cum(tree, child, v));
    }
    i = child.last;
  }
  return any;
}

static void write_node(struct json_writer *writer, struct call_node node, uint32_t parent) {
  const struct call_tree *tree = &writer->tree;
  int64_t flat[PROFILE_MAX_VALUES], cum[PROFILE_MAX_VALUES], cut[PROFILE_MAX_VALUES];
  for (uint32_t v = 0; v < tree->profile->value_count; v++) {
    flat[v] = call_node_flat(tree, node, v);
    cum[v] = call_node_cum(tree, node, v);
  }
  text_sink_text(writer->text, writer->nodes_written ? ",\n{" : "\n{");
  if (node.depth) {
    uint32_t function = call_path_function(tree, &tree->paths[node.first], node.depth - 1);
    text_sink_format(writer->text, "\"parent\":%" PRIu32 ",\"function\":%" PRIu32 ",", parent,
                     writer->numbers[function]);
  } else {
    text_sink_text(writer->text, "\"parent\":null,\"function\":null,");
  }
  write_lines(writer, node);
  write_values(writer, "flat", flat);
  text_sink_text(writer->text, ",");
  write_values(writer, "cum", cum);
  if (cut_below(writer, node, cut)) {
    text_sink_text(writer->text, ",");
    write_values(writer, "cut", cut);
    for (uint32_t v = 0; v < tree->profile->value_count; v++)
      writer->values_cut[v] += (uint64_t)cut[v];
  }
  text_sink_text(writer->text, "}");
  writer->at_depth[node.depth] = writer->nodes_written++;
}

static void write_nodes(struct json_writer *writer) {
  const struct call_tree *tree = &writer->tree;
  text_sink_text(writer->text, ",\n\"nodes\":[");
  write_node(writer, call_tree_root(tree), 0);
  for (uint32_t i = 0; i < tree->path_count && !writer->text->failed; i++)
    for (uint32_t d = tree->paths[i].shared + 1; d <= tree->paths[i].length; d++) {
      struct call_node node = call_tree_node(tree, i, d);
      uint32_t parent = writer->at_depth[d - 1];
      if (parent != CUT && is_shown(writer, call_node_share(tree, node))) {
        write_node(writer, node, parent);
      } else {
        writer->at_depth[d] = CUT;
        writer->nodes_cut++;
      }
    }
  text_sink_text(writer->text, "],\n\"cut\":{\"one_in\":");
  text_sink_format(writer->text, "%" PRIu64 ",\"nodes\":%" PRIu64 ",\"functions\":%" PRIu64 ",",
                   writer->halvings ? UINT64_C(1) << writer->halvings : 0, writer->nodes_cut,
                   writer->functions_cut);
  write_values(writer, "values", (const int64_t *)writer->values_cut);
  text_sink_text(writer->text, "}}\n");
}

bool call_tree_write_json(const struct profile *profile, const struct call_tree_options *options,
                          struct byte_sink *sink) {
  struct json_writer *writer = agent_calloc(1, sizeof *writer);
  struct text_sink *text = agent_malloc(sizeof *text);
  bool ok = writer && text && call_tree_build(&writer->tree, profile, false);
  if (ok) {
    writer->text = text;
    text_sink_start(text, sink);
    choose_cut(writer, options->node_count);
    ok = number_functions(writer);
  }
  if (ok) {
    write_head(writer, options);
    write_functions(writer);
    write_nodes(writer);
    ok = text_sink_end(text);
  }
  if (writer) {
    call_tree_release(&writer->tree);
    agent_free(writer->numbers);
    agent_free(writer->modules);
    agent_free(writer->at_depth);
  }
  agent_free(text);
  agent_free(writer);
  return ok;
}

/* The two texts of a call tree: collapsed stacks for flamegraph.pl and inferno, and the table of
 * functions as `go tool pprof -top` prints it, each value in the unit that suits it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/http/text_sink.h"
#include "agent/runtime/agent_memory.h"
#include "agent/runtime/foreign_text.h"
#include "call_tree.h"
#include "call_tree_forms.h"
#include "number_order.h"

uint32_t profile_default_value(const struct profile *profile) {
  for (uint32_t v = 0; profile->default_sample_type && v < profile->value_count; v++)
    if (strcmp(profile->value_types[v].type, profile->default_sample_type) == 0) return v;
  return profile->value_count ? profile->value_count - 1 : 0;
}

/* ---- collapsed ---- */

static void write_collapsed_name(struct text_sink *text, const char *name) {
  for (size_t length; *name; name += length) {
    if (foreign_character(name, &length, NULL) != FOREIGN_PLAIN) text_sink_text(text, "?");
    else if (*name == ';') text_sink_text(text, ":"); /* it stands between functions */
    else text_sink_bytes(text, name, length);
  }
}

static void write_collapsed(struct text_sink *text, const struct call_tree *tree, uint32_t value) {
  for (uint32_t i = 0; i < tree->path_count;) {
    const struct call_path *path = &tree->paths[i];
    struct call_node node = call_tree_node(tree, i, path->length);
    int64_t flat = call_node_flat(tree, node, value);
    while (i < node.last && tree->paths[i].length == path->length) i++;
    if (flat == 0) continue;
    for (uint32_t d = 0; d < path->length; d++) {
      uint32_t name = tree->functions[call_path_function(tree, path, d)].name;
      if (d) text_sink_text(text, ";");
      write_collapsed_name(text, tree->strings.items[name]);
    }
    text_sink_format(text, " %" PRId64 "\n", flat);
  }
}

/* ---- top ---- */

static bool is_unit(const struct profile_value_type *type, const char *unit) {
  return type->unit && strcmp(type->unit, unit) == 0;
}

/* 1536 of bytes: "1.50kB". */
static void render(char *out, size_t size, const struct profile_value_type *type, int64_t value) {
  static const struct {
    char unit[12], label[5]; /* no pointers: nothing to relocate at start */
    int64_t factor;
  } scales[] = {{"bytes", "B", 1},
                {"bytes", "kB", 1 << 10},
                {"bytes", "MB", 1 << 20},
                {"bytes", "GB", 1 << 30},
                {"bytes", "TB", INT64_C(1) << 40},
                {"nanoseconds", "ns", 1},
                {"nanoseconds", "us", 1000},
                {"nanoseconds", "ms", 1000000},
                {"nanoseconds", "s", 1000000000},
                {"nanoseconds", "mins", INT64_C(60000000000)},
                {"nanoseconds", "hrs", INT64_C(3600000000000)}};
  double amount = value < 0 ? -(double)value : (double)value;
  const char *label = "";
  int64_t factor = 1;
  for (size_t i = 0; i < sizeof scales / sizeof *scales && value != 0; i++)
    if (is_unit(type, scales[i].unit) && (double)scales[i].factor <= amount) {
      label = scales[i].label;
      factor = scales[i].factor;
    }
  uint64_t whole = value < 0 ? -(uint64_t)value : (uint64_t)value, hundredths = 0;
  if (factor > 1) { /* no %f: the locale is the program's */
    hundredths = (uint64_t)(amount / (double)factor * 100 + 0.5);
    whole = hundredths / 100;
    hundredths %= 100;
  }
  char part[8] = "";
  if (hundredths) snprintf(part, sizeof part, ".%02u", (unsigned)hundredths);
  snprintf(out, size, "%s%" PRIu64 "%s%s", value < 0 ? "-" : "", whole, part, label);
}

static void render_share(char *out, size_t size, int64_t value, int64_t total) {
  double share = total ? (double)value / (double)total * 10000 : 0;
  bool negative = share < 0;
  if (share > 1e18 || share < -1e18) share = 0; /* sums that went round */
  uint64_t hundredths = (uint64_t)((negative ? -share : share) + 0.5);
  snprintf(out, size, "%s%" PRIu64 ".%02" PRIu64 "%%", negative && hundredths ? "-" : "",
           hundredths / 100, hundredths % 100);
}

struct by_value {
  const struct call_tree *tree;
  uint32_t value;
};

/* By flat, then by cum, then by name. */
static bool stands_below(const void *things, uint32_t a, uint32_t b) {
  const struct by_value *by = things;
  const struct call_function *x = &by->tree->functions[a], *y = &by->tree->functions[b];
  double flat = call_value_size(y->flat[by->value]) - call_value_size(x->flat[by->value]);
  double cum = call_value_size(y->cum[by->value]) - call_value_size(x->cum[by->value]);
  if (flat != 0) return flat > 0;
  if (cum != 0) return cum > 0;
  char *const *strings = by->tree->strings.items;
  return strcmp(strings[x->name], strings[y->name]) > 0;
}

static void write_heading(struct text_sink *text, const struct call_tree *tree,
                          const struct call_tree_options *options, int64_t shown,
                          uint32_t dropped) {
  const struct profile *profile = tree->profile;
  const struct profile_value_type *type = &profile->value_types[options->value];
  char amount[48], total[48], share[32];
  text_sink_text(text, "File: ");
  text_sink_one_line(text, options->process);
  text_sink_format(text, "\nType: %s\n", type->type);
  for (uint32_t i = 0; i < profile->comment_count; i++) {
    text_sink_one_line(text, profile->comments[i]);
    text_sink_text(text, "\n");
  }
  render(total, sizeof total, type, tree->total[options->value]);
  if (profile->duration_nanos) {
    render(amount, sizeof amount, &(struct profile_value_type){"", "nanoseconds"},
           profile->duration_nanos);
    text_sink_format(text, "Duration: %s, Total samples = %s\n", amount, total);
  }
  render(amount, sizeof amount, type, shown);
  render_share(share, sizeof share, shown, tree->total[options->value]);
  text_sink_format(text, "Showing nodes accounting for %s, %s of %s total\n", amount, share, total);
  if (dropped) text_sink_format(text, "Dropped %" PRIu32 " nodes\n", dropped);
  text_sink_text(text, "      flat  flat%   sum%        cum   cum%\n");
}

static void write_rows(struct text_sink *text, const struct call_tree *tree, const uint32_t *order,
                       uint32_t count, uint32_t v) {
  const struct profile_value_type *type = &tree->profile->value_types[v];
  int64_t sum = 0, total = tree->total[v];
  for (uint32_t i = 0; i < count; i++) {
    const struct call_function *function = &tree->functions[order[i]];
    char flat[48], flat_share[32], sum_share[32], cum[48], cum_share[32];
    sum = (int64_t)((uint64_t)sum + (uint64_t)function->flat[v]);
    render(flat, sizeof flat, type, function->flat[v]);
    render_share(flat_share, sizeof flat_share, function->flat[v], total);
    render_share(sum_share, sizeof sum_share, sum, total);
    render(cum, sizeof cum, type, function->cum[v]);
    render_share(cum_share, sizeof cum_share, function->cum[v], total);
    text_sink_format(text, "%10s %6s %6s %10s %6s  ", flat, flat_share, sum_share, cum, cum_share);
    text_sink_one_line(text, tree->strings.items[function->name]);
    text_sink_text(text, "\n");
  }
}

/* False: out of memory. */
static bool write_top(struct text_sink *text, const struct call_tree *tree,
                      const struct call_tree_options *options) {
  uint32_t *order = agent_malloc((tree->function_count + (size_t)1) * sizeof *order), count = 0;
  if (!order) return false;
  for (uint32_t i = 0; i < tree->function_count; i++)
    if (tree->functions[i].weight[options->value] > 0) order[count++] = i;
  const struct by_value by = {tree, options->value};
  if (!number_order_sort(order, count, stands_below, &by)) {
    agent_free(order);
    return false;
  }
  uint32_t shown =
      options->node_count && options->node_count < count ? (uint32_t)options->node_count : count;
  int64_t sum = 0;
  for (uint32_t i = 0; i < shown; i++)
    sum = (int64_t)((uint64_t)sum + (uint64_t)tree->functions[order[i]].flat[options->value]);
  write_heading(text, tree, options, sum, count - shown);
  write_rows(text, tree, order, shown, options->value);
  agent_free(order);
  return true;
}

static bool write_text(const struct profile *profile, const struct call_tree_options *options,
                       struct byte_sink *sink, bool top) {
  struct call_tree *tree = agent_calloc(1, sizeof *tree);
  struct text_sink *text = agent_malloc(sizeof *text);
  bool ok = tree && text && call_tree_build(tree, profile, true);
  if (ok) {
    text_sink_start(text, sink);
    if (top) ok = write_top(text, tree, options);
    else write_collapsed(text, tree, options->value);
    ok = text_sink_end(text) && ok;
  }
  if (tree) call_tree_release(tree);
  agent_free(text);
  agent_free(tree);
  return ok;
}

bool call_tree_write_collapsed(const struct profile *profile,
                               const struct call_tree_options *options, struct byte_sink *sink) {
  return write_text(profile, options, sink, false);
}

bool call_tree_write_top(const struct profile *profile, const struct call_tree_options *options,
                         struct byte_sink *sink) {
  return write_text(profile, options, sink, true);
}
